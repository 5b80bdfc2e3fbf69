"""Document of the example accelerator: bytes to values. Spec: docs/spec/accelerator-appraisal.md.

Nothing here verifies anything: a parsed document is still raw, untrusted evidence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from regalia.core.errors import CoreCode, ParseError
from regalia.tees.accelerator.names import CHIP_ID_SIZE, FIRMWARE_MAX, MEASUREMENT_SIZE
from regalia.wire.cbor import decode_cbor
from regalia.wire.cose import parse_sign1
from regalia.wire.evidence import REPORT_DATA_SIZE

if TYPE_CHECKING:
    from regalia.wire.cbor import Cbor
    from regalia.wire.cose import Sign1

WHAT = "accelerator document"
FORMAT = "example-accelerator/1"
DOCUMENT_MAX = 8 * 1024  # bytes of the payload
MESSAGE_MAX = DOCUMENT_MAX + 256  # with headers and signature
SIGNATURE_SIZE = 96  # bytes: r and s of P-384, big endian
CHAIN_SIZES = range(2, 5)  # certificates: root, at most two authorities, the chip
CERTIFICATE_SIZES = range(1, 1024 + 1)  # bytes
FIELDS = ("format", "chip_id", "firmware", "debug", "measurement", "config", "nonce", "chain")


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceleratorDocument:
    """Every field of one document, untrusted."""

    chip_id: bytes
    firmware: int
    debug: bool
    measurement: bytes
    config: bytes
    nonce: bytes
    chain: tuple[bytes, ...]  # DER, root first, the chip's certificate last


@dataclass(frozen=True, slots=True)
class AcceleratorEvidence:
    """A message and the document in it, both untrusted."""

    message: Sign1
    document: AcceleratorDocument


def parse_accelerator(data: bytes) -> AcceleratorEvidence:
    """Parse COSE_Sign1 around a document.

    Args:
        data: raw, untrusted.

    Raises:
        ParseError: TOO_LARGE, MALFORMED or TRAILING_DATA.
    """
    message = parse_sign1(data, limit=MESSAGE_MAX, what=WHAT)
    if len(message.signature) != SIGNATURE_SIZE:
        raise _malformed(f"a signature of {len(message.signature)} bytes, want {SIGNATURE_SIZE}")
    return AcceleratorEvidence(message, _document(message.payload))


def _document(payload: bytes) -> AcceleratorDocument:
    fields = decode_cbor(payload, limit=DOCUMENT_MAX, what=WHAT)
    if not isinstance(fields, dict) or set(fields) != set(FIELDS):
        raise _malformed(f"the payload is not a map of {', '.join(FIELDS)}")
    if fields["format"] != FORMAT:
        raise _malformed(f"format {str(fields['format'])[:80]!r}, want {FORMAT}")
    return AcceleratorDocument(
        chip_id=_exactly(CHIP_ID_SIZE, fields["chip_id"], "chip_id"),
        firmware=_firmware(fields["firmware"]),
        debug=_flag(fields["debug"]),
        measurement=_exactly(MEASUREMENT_SIZE, fields["measurement"], "measurement"),
        config=_exactly(MEASUREMENT_SIZE, fields["config"], "config"),
        nonce=_exactly(REPORT_DATA_SIZE, fields["nonce"], "nonce"),
        chain=_chain(fields["chain"]),
    )


def _exactly(size: int, value: Cbor, name: str) -> bytes:
    if not isinstance(value, bytes) or len(value) != size:
        raise _malformed(f"{name} is not a byte string of {size} bytes")
    return value


def _firmware(value: Cbor) -> int:
    # A bool is an int to Python, and not to CBOR.
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= FIRMWARE_MAX:
        raise _malformed(f"firmware is not a number up to {FIRMWARE_MAX}")
    return value


def _flag(value: Cbor) -> bool:
    if not isinstance(value, bool):
        raise _malformed("debug is neither true nor false")
    return value


def _chain(value: Cbor) -> tuple[bytes, ...]:
    if not isinstance(value, list) or len(value) not in CHAIN_SIZES:
        raise _malformed("chain is not an array of 2 to 4 certificates")
    found = tuple(each for each in value if isinstance(each, bytes))
    if len(found) != len(value) or any(len(each) not in CERTIFICATE_SIZES for each in found):
        raise _malformed("a certificate is not a byte string of 1 to 1024 bytes")
    return found


def _malformed(why: str) -> ParseError:
    return ParseError(CoreCode.MALFORMED, f"{WHAT}: {why}")
