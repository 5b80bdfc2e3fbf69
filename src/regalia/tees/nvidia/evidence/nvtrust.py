"""Evidence of devices as NVIDIA's tools and services write it: one JSON object for each device.

    arch         HOPPER, BLACKWELL or LS10; in a request to NVIDIA's service, said once for all
    evidence     base64 of request ‖ response
    certificate  base64 of the chain in PEM, leaf first

Other members are not read: what they say stands in the evidence as well, signed. Nobody signs
these documents, so bytes may be spelled in any way that ``regalia.wire.spelling`` reads.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

import msgspec

from regalia.core.codec import MIB, unb64
from regalia.core.errors import CoreCode, ParseError
from regalia.tees.nvidia.evidence.models import kind_of_chain
from regalia.wire.evidence import DEVICES_MAX, ENDORSEMENTS_MAX, DeviceEvidence, DeviceKind
from regalia.wire.spelling import certificates_in_json, from_json_value

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LIMIT = 4 * MIB
_KINDS: Mapping[str, DeviceKind] = MappingProxyType(
    {
        "HOPPER": DeviceKind.NVIDIA_GPU,
        "BLACKWELL": DeviceKind.NVIDIA_GPU,
        "LS10": DeviceKind.NVIDIA_SWITCH,
    }
)
# By the names that tools give them; the first pair is NVIDIA's own.
REPORT_MEMBERS = ("evidence", "AttestationReport", "attestation_report", "attestationReportHexStr")
CHAIN_MEMBERS = (
    "certificate",
    "CertificateChains",
    "attestation_cert_chain",
    "certChainBase64Encoded",
)
_BEGIN, _END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"


def parse_nvidia_evidence(data: bytes) -> tuple[DeviceEvidence, ...]:
    """Read a JSON list with an object for each device.

    Args:
        data: raw, untrusted.

    Raises:
        ParseError: TOO_LARGE or MALFORMED.
    """
    if len(data) > LIMIT:
        raise ParseError(CoreCode.TOO_LARGE, f"NVIDIA evidence: {len(data)} bytes")
    try:
        items = msgspec.json.decode(data, type=list[dict[str, object]])
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as exc:
        raise ParseError(CoreCode.MALFORMED, f"NVIDIA evidence: {exc}") from exc
    return read_devices(items)


def is_device(item: object) -> bool:
    """Whether a JSON value has the members of one device's evidence."""
    return isinstance(item, dict) and all(
        any(name in item for name in names) for names in (REPORT_MEMBERS, CHAIN_MEMBERS)
    )


def read_devices(items: Sequence[object], *, arch: str = "") -> tuple[DeviceEvidence, ...]:
    """Read the objects of a decoded list.

    Args:
        items: raw, untrusted.
        arch: of all devices that do not say their own; empty if nobody says it.

    Raises:
        ParseError: MALFORMED.
    """
    if not 0 < len(items) <= DEVICES_MAX:
        raise ParseError(
            CoreCode.MALFORMED, f"NVIDIA evidence: {len(items)} devices, want 1 to {DEVICES_MAX}"
        )
    return tuple(_device(item, arch, f"NVIDIA evidence [{i}]") for i, item in enumerate(items))


def parse_pem_chain(text: str, *, what: str) -> tuple[bytes, ...]:
    """Certificates of a PEM file in their order, DER. Raises ParseError.

    Args:
        text: raw, untrusted.
        what: names the value in the error.
    """
    parts = text.split(_BEGIN)
    if parts[0].strip() or not 1 < len(parts) <= ENDORSEMENTS_MAX + 1:
        raise ParseError(CoreCode.MALFORMED, f"{what}: no chain of certificates in PEM")
    ders: list[bytes] = []
    for part in parts[1:]:
        body, end, rest = part.partition(_END)
        if not end or rest.strip():
            raise ParseError(CoreCode.MALFORMED, f"{what}: no chain of certificates in PEM")
        ders.append(unb64("".join(body.split()), what=what))
    return tuple(ders)


def _device(item: object, arch: str, what: str) -> DeviceEvidence:
    if not isinstance(item, dict) or not is_device(item):
        raise ParseError(CoreCode.MALFORMED, f"{what}: want the members evidence and certificate")
    (report, chain) = (
        next(name for name in names if name in item) for names in (REPORT_MEMBERS, CHAIN_MEMBERS)
    )
    raw = from_json_value(item[report])
    if raw is None:
        raise ParseError(CoreCode.MALFORMED, f"{what}.{report}: neither base64 nor hex")
    certificates = certificates_in_json(item[chain])
    if not 0 < len(certificates) <= ENDORSEMENTS_MAX:
        raise ParseError(
            CoreCode.MALFORMED,
            f"{what}.{chain}: {len(certificates)} certificates, want 1 to {ENDORSEMENTS_MAX}",
        )
    kind = _kind(str(item.get("arch") or arch), certificates, what)
    return DeviceEvidence(kind=kind, report=raw, endorsements=certificates)


def _kind(arch: str, certificates: Sequence[bytes], what: str) -> DeviceKind:
    """Of a device, as the document says, or else as its certificates do. The verifier compares."""
    if arch.upper() in _KINDS:
        return _KINDS[arch.upper()]
    kind = kind_of_chain(certificates)
    if kind is None and arch:
        raise ParseError(
            CoreCode.MALFORMED,
            f"{what}: arch {arch[:80]!r} is not known; known are {', '.join(_KINDS)}",
        )
    return kind or DeviceKind.NVIDIA_GPU
