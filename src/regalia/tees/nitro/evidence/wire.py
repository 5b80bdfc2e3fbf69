"""AWS Nitro attestation document: bytes to values. Spec: docs/spec/nitro-appraisal.md.

Fields, types and limits follow AWS's "Nitro Enclaves Attestation Process", sections 2.2 and
3.2.2. Nothing here verifies anything: a parsed document is still raw, untrusted evidence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from regalia.core.errors import CoreCode, ParseError
from regalia.tees.nitro.names import MEASURED_PCRS, PCR_INDICES
from regalia.wire.cbor import decode_cbor
from regalia.wire.cose import parse_sign1

if TYPE_CHECKING:
    from collections.abc import Mapping

    from regalia.wire.cbor import Cbor, Key
    from regalia.wire.cose import Sign1

DOCUMENT_MAX = 16 * 1024  # bytes of the payload
MESSAGE_MAX = DOCUMENT_MAX + 256  # with headers and signature
SIGNATURE_SIZE = 96  # bytes: r and s of P-384, big endian
DIGEST = "SHA384"
MODULE_ID_MAX = 256  # bytes; AWS states no limit, instance and enclave id take 39
CERTIFICATE_SIZES = range(1, 1024 + 1)
CABUNDLE_MAX = 8  # certificates; AWS sends 4
PCR_SIZES = (32, 48, 64)
PUBLIC_KEY_SIZES = range(1, 1024 + 1)
USER_DATA_SIZES = range(512 + 1)
NONCE_SIZES = range(512 + 1)
TIMESTAMP_MAX = 253_402_300_799_999  # ms: the end of the year 9999

_MANDATORY = ("module_id", "digest", "timestamp", "pcrs", "certificate", "cabundle")
_OPTIONAL = ("public_key", "user_data", "nonce")


@dataclass(frozen=True, slots=True, kw_only=True)
class NitroDocument:
    """Every field of one attestation document, untrusted."""

    module_id: str  # "<instance id>-enc<enclave id>"
    timestamp: int  # milliseconds since the epoch
    pcrs: Mapping[int, bytes]  # those that are locked, by index
    certificate: bytes  # DER, the signer's
    cabundle: tuple[bytes, ...]  # DER, root first
    public_key: bytes | None
    user_data: bytes | None
    nonce: bytes | None


@dataclass(frozen=True, slots=True)
class NitroEvidence:
    """A message and the document in it, both untrusted."""

    message: Sign1
    document: NitroDocument


def parse_nitro(data: bytes) -> NitroEvidence:
    """Parse what the NSM returned: COSE_Sign1 around an attestation document.

    Args:
        data: raw, untrusted.

    Raises:
        ParseError: TOO_LARGE, MALFORMED or TRAILING_DATA.
    """
    message = parse_sign1(data, limit=MESSAGE_MAX, what="Nitro document")
    if len(message.signature) != SIGNATURE_SIZE:
        raise _malformed(f"a signature of {len(message.signature)} bytes, want {SIGNATURE_SIZE}")
    fields = decode_cbor(message.payload, limit=DOCUMENT_MAX, what="Nitro document")
    if not isinstance(fields, dict):
        raise _malformed("the payload is not a map")
    return NitroEvidence(message, _document(fields))


def _document(fields: dict[Key, Cbor]) -> NitroDocument:
    missing = [name for name in _MANDATORY if name not in fields]
    unknown = [str(name)[:80] for name in fields if name not in (*_MANDATORY, *_OPTIONAL)]
    if missing or unknown:
        raise _malformed(f"fields {missing} are missing, {unknown} are not known")
    if fields["digest"] != DIGEST:
        raise _malformed(f"digest {str(fields['digest'])[:80]!r}, want {DIGEST}")
    return NitroDocument(
        module_id=_module_id(fields["module_id"]),
        timestamp=_timestamp(fields["timestamp"]),
        pcrs=_pcrs(fields["pcrs"]),
        certificate=_bytes(fields["certificate"], CERTIFICATE_SIZES, "certificate"),
        cabundle=_cabundle(fields["cabundle"]),
        public_key=_optional(fields, "public_key", PUBLIC_KEY_SIZES),
        user_data=_optional(fields, "user_data", USER_DATA_SIZES),
        nonce=_optional(fields, "nonce", NONCE_SIZES),
    )


def _module_id(value: Cbor) -> str:
    if not isinstance(value, str) or not 0 < len(value.encode()) <= MODULE_ID_MAX:
        raise _malformed(f"module_id is not a text of 1 to {MODULE_ID_MAX} bytes")
    if not value.isascii() or not value.isprintable():
        raise _malformed("module_id holds unprintable characters")
    return value


def _timestamp(value: Cbor) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= TIMESTAMP_MAX:
        raise _malformed("timestamp is not a time in milliseconds")
    return value


def _pcrs(value: Cbor) -> Mapping[int, bytes]:
    if not isinstance(value, dict):
        raise _malformed("pcrs is not a map")
    pcrs: dict[int, bytes] = {}
    for index, pcr in value.items():
        if not isinstance(index, int) or index not in PCR_INDICES:
            raise _malformed(f"PCR index {str(index)[:80]!r}, want 0 to 31")
        if not isinstance(pcr, bytes) or len(pcr) not in PCR_SIZES:
            raise _malformed(f"PCR{index} is not a byte string of {PCR_SIZES} bytes")
        pcrs[index] = pcr
    missing = [index for index in MEASURED_PCRS if index not in pcrs]
    if missing:  # AWS asks for one PCR at least; without these nothing is measured
        raise _malformed(f"PCRs {missing} are missing")
    return pcrs


def _cabundle(value: Cbor) -> tuple[bytes, ...]:
    if not isinstance(value, list) or not 0 < len(value) <= CABUNDLE_MAX:
        raise _malformed(f"cabundle is not an array of 1 to {CABUNDLE_MAX} certificates")
    return tuple(_bytes(each, CERTIFICATE_SIZES, f"cabundle[{i}]") for i, each in enumerate(value))


def _optional(fields: dict[Key, Cbor], name: str, sizes: range) -> bytes | None:
    """AWS writes null for what was not given."""
    value = fields.get(name)
    return None if value is None else _bytes(value, sizes, name)


def _bytes(value: Cbor, sizes: range, name: str) -> bytes:
    if not isinstance(value, bytes) or len(value) not in sizes:
        raise _malformed(f"{name} is not a byte string of {sizes[0]} to {sizes[-1]} bytes")
    return value


def _malformed(why: str) -> ParseError:
    return ParseError(CoreCode.MALFORMED, f"Nitro document: {why}")
