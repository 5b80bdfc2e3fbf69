"""AWS Nitro attestation document: bytes to values. Spec: docs/spec/nitro-appraisal.md.

Fields, types and limits follow AWS's "Nitro Enclaves Attestation Process", sections 2.2 and
3.2.2. Nothing here verifies anything: a parsed document is still raw, untrusted evidence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
from msgspec import Meta

from regalia.core.errors import CoreCode, ParseError
from regalia.tees.nitro.names import MEASURED_PCRS, PCR_INDICES
from regalia.wire.cbor import parse_cbor
from regalia.wire.cose import parse_sign1

if TYPE_CHECKING:
    from regalia.wire.cose import Sign1

DOCUMENT_MAX = 16 * 1024  # bytes of the payload
MESSAGE_MAX = DOCUMENT_MAX + 256  # with headers and signature
SIGN1_TAG = b"\xd2"  # 18 (RFC 9052, section 4.2); nobody signs it, and some tools write it
SIGNATURE_SIZE = 96  # bytes: r and s of P-384, big endian
MODULE_ID_MAX = 256  # bytes; AWS states no limit, instance and enclave id take 39
CABUNDLE_MAX = 8  # certificates; AWS sends 4
PCR_SIZES = frozenset({32, 48, 64})
NONCE_MAX = 1024  # bytes; AWS's documentation says 512, its enclaves take 1024
TIMESTAMP_MAX = 253_402_300_799_999  # ms: the end of the year 9999

_Certificate = Annotated[bytes, Meta(min_length=1, max_length=1024)]
_PcrIndex = Annotated[int, Meta(ge=PCR_INDICES.start, lt=PCR_INDICES.stop)]


class NitroDocument(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Every field of one attestation document, untrusted. AWS writes null for what is not given."""

    module_id: Annotated[str, Meta(min_length=1, max_length=MODULE_ID_MAX)]  # "<instance>-enc<id>"
    digest: Literal["SHA384"]
    timestamp: Annotated[int, Meta(gt=0, le=TIMESTAMP_MAX)]  # milliseconds since the epoch
    pcrs: Mapping[_PcrIndex, bytes]  # those that are locked, by index
    certificate: _Certificate  # DER, the signer's
    cabundle: Annotated[  # DER, root first
        tuple[_Certificate, ...], Meta(min_length=1, max_length=CABUNDLE_MAX)
    ]
    public_key: Annotated[bytes, Meta(min_length=1, max_length=1024)] | None = None
    user_data: Annotated[bytes, Meta(max_length=1024)] | None = None
    nonce: Annotated[bytes, Meta(max_length=NONCE_MAX)] | None = None


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
    message = parse_sign1(data.removeprefix(SIGN1_TAG), limit=MESSAGE_MAX, what="Nitro document")
    if len(message.signature) != SIGNATURE_SIZE:
        raise _malformed(f"a signature of {len(message.signature)} bytes, want {SIGNATURE_SIZE}")
    document = parse_cbor(message.payload, NitroDocument, limit=DOCUMENT_MAX, what="Nitro document")
    if not document.module_id.isascii() or not document.module_id.isprintable():
        raise _malformed("module_id holds unprintable characters")
    if not PCR_SIZES.issuperset(map(len, document.pcrs.values())):
        raise _malformed(f"a PCR is not a byte string of {sorted(PCR_SIZES)} bytes")
    # AWS asks for one PCR at least; without these nothing is measured.
    missing = [index for index in MEASURED_PCRS if index not in document.pcrs]
    if missing:
        raise _malformed(f"PCRs {missing} are missing")
    return NitroEvidence(message, document)


def _malformed(why: str) -> ParseError:
    return ParseError(CoreCode.MALFORMED, f"Nitro document: {why}")
