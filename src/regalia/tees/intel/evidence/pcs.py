"""Intel's signed documents as entries: the answers of its Provisioning Certification Service v4.

    {"tcbInfo":<signed bytes>,"signature":"<128 hex>"}
    {"enclaveIdentity":<signed bytes>,"signature":"<128 hex>"}

The signature covers the inner JSON byte for byte, so it is cut out and never encoded again. Which
key must have signed it is the Intel verifier's business.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from regalia.core.errors import CoreCode, ParseError
from regalia.tees.intel.evidence.collateral import SignedDocument
from regalia.tees.intel.evidence.documents import parse_identity, parse_tcb_info
from regalia.wire.collateral import CollateralKind

if TYPE_CHECKING:
    from datetime import datetime

_PREFIX = {
    CollateralKind.TCB_INFO: b'{"tcbInfo":',
    CollateralKind.QE_IDENTITY: b'{"enclaveIdentity":',
}
_SUFFIX = re.compile(rb',"signature":"([0-9a-f]{128})"\}\Z')
_SUFFIX_SIZE = len(b',"signature":""}') + 128


@dataclass(frozen=True, slots=True)
class IntelDocument:
    """A TCB info or QE identity. Untrusted.

    Attributes:
        signed: exact bytes and signature.
        name: ``TDX 50806f000000``, that is id and FMSPC; or ``TD_QE``.
        fmspc: 6 bytes; empty for an identity.
    """

    signed: SignedDocument
    name: str
    fmspc: bytes
    issued: datetime
    next_update: datetime
    tcb_evaluation_data_number: int


def pcs_body(kind: CollateralKind, document: SignedDocument) -> bytes:
    """Put a document and its signature together as the service does.

    Args:
        kind: TCB_INFO or QE_IDENTITY.
        document: exact bytes and signature.
    """
    signature = document.signature.hex().encode()
    return _PREFIX[kind] + document.body + b',"signature":"' + signature + b'"}'


def parse_intel(kind: CollateralKind, body: bytes, *, what: str) -> IntelDocument:
    """Cut a body into the signed bytes and the signature, and read the document.

    Raises:
        ParseError: MALFORMED; or as ``tees.intel.evidence.documents``.
    """
    prefix = _PREFIX[kind]
    match = _SUFFIX.search(body, max(0, len(body) - _SUFFIX_SIZE))
    if not body.startswith(prefix) or match is None:
        raise ParseError(
            CoreCode.MALFORMED, f'{what}: not {prefix.decode()}…,"signature":…}} as Intel sends it'
        )
    document = body[len(prefix) : match.start()]
    if not document.startswith(b"{") or not document.endswith(b"}"):
        raise ParseError(CoreCode.MALFORMED, f"{what}: white space around what Intel signed")
    signed = SignedDocument(document, bytes.fromhex(match[1].decode("ascii")))
    if kind is CollateralKind.TCB_INFO:
        info = parse_tcb_info(document)
        return IntelDocument(
            signed,
            f"{info.id} {info.fmspc.hex()}",
            info.fmspc,
            info.issue_date,
            info.next_update,
            info.evaluation_data_number,
        )
    identity = parse_identity(document)
    return IntelDocument(
        signed,
        identity.id.value,
        b"",
        identity.issue_date,
        identity.next_update,
        identity.evaluation_data_number,
    )
