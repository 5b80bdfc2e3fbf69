"""Evidence of devices as NVIDIA's tools write it: a JSON list, one object for each device.

    arch         HOPPER, BLACKWELL or LS10
    evidence     base64 of request ‖ response
    certificate  base64 of the chain in PEM, leaf first

Other members are not read: what they say stands in the evidence as well, signed.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

import msgspec

from regalia.core.codec import MIB, unb64
from regalia.core.errors import CoreCode, ParseError
from regalia.wire.evidence import DEVICES_MAX, ENDORSEMENTS_MAX, DeviceEvidence, DeviceKind

if TYPE_CHECKING:
    from collections.abc import Mapping

LIMIT = 4 * MIB
_KINDS: Mapping[str, DeviceKind] = MappingProxyType(
    {
        "HOPPER": DeviceKind.NVIDIA_GPU,
        "BLACKWELL": DeviceKind.NVIDIA_GPU,
        "LS10": DeviceKind.NVIDIA_SWITCH,
    }
)
_BEGIN, _END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"


class _Item(msgspec.Struct, frozen=True):
    arch: str
    evidence: str
    certificate: str


def parse_nvidia_evidence(data: bytes) -> tuple[DeviceEvidence, ...]:
    """Read such a list.

    Args:
        data: raw, untrusted.

    Raises:
        ParseError: TOO_LARGE or MALFORMED.
    """
    if len(data) > LIMIT:
        raise ParseError(CoreCode.TOO_LARGE, f"NVIDIA evidence: {len(data)} bytes")
    try:
        items = msgspec.json.decode(data, type=list[_Item])
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as exc:
        raise ParseError(CoreCode.MALFORMED, f"NVIDIA evidence: {exc}") from exc
    if not 0 < len(items) <= DEVICES_MAX:
        raise ParseError(CoreCode.MALFORMED, f"NVIDIA evidence: {len(items)} devices")
    return tuple(_device(item, f"NVIDIA evidence [{i}]") for i, item in enumerate(items))


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


def _device(item: _Item, what: str) -> DeviceEvidence:
    if item.arch not in _KINDS:
        raise ParseError(CoreCode.MALFORMED, f"{what}: arch {item.arch[:80]!r} is not known")
    chain = unb64(item.certificate, what=f"{what}.certificate").decode("ascii", "replace")
    return DeviceEvidence(
        kind=_KINDS[item.arch],
        report=unb64(item.evidence, what=f"{what}.evidence"),
        endorsements=parse_pem_chain(chain, what=f"{what}.certificate"),
    )
