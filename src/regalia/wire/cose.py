"""Parses COSE_Sign1 (RFC 9052, section 4.2) in the form that AWS Nitro emits.

Such a message is untagged and has one protected header. Tag 18 is refused because it would be a
second encoding of the same evidence, and unprotected headers because no signature covers them.
Whoever accepts the tag takes it off first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from regalia.core.errors import CoreCode, ParseError
from regalia.wire.cbor import decode_cbor, encode_cbor, parse_cbor

ALG = 1  # label of the header "alg" (RFC 9052, section 3.1)
ES384 = -35  # ECDSA with SHA-384 (RFC 9053, section 2.1)
CONTEXT = "Signature1"  # context string of COSE_Sign1 (RFC 9052, section 4.4)
PROTECTED_MAX = 64  # bytes


class _Message(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    protected: bytes
    unprotected: dict[int | str, Any]
    payload: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Sign1:
    """A parsed message whose signature is not verified yet."""

    protected: bytes  # exactly as received, because the signature covers these bytes
    algorithm: int
    payload: bytes
    signature: bytes

    def signed_bytes(self) -> bytes:
        """Sig_structure (RFC 9052, section 4.4) without external data: the bytes to verify."""
        return encode_cbor([CONTEXT, self.protected, b"", self.payload])


def parse_sign1(data: bytes, *, limit: int, what: str) -> Sign1:
    """Parse an untagged message whose only header is a protected ``alg``.

    Args:
        data: raw, untrusted.
        limit: maximum size in bytes.
        what: name of the message for error messages.

    Raises:
        ParseError: TOO_LARGE, MALFORMED or TRAILING_DATA.
    """
    message = parse_cbor(data, _Message, limit=limit, what=what)
    if message.unprotected:
        raise ParseError(CoreCode.MALFORMED, f"{what}: unprotected headers, which nobody signs")
    headers = decode_cbor(message.protected, limit=PROTECTED_MAX, what=f"{what}: protected headers")
    algorithm = headers.get(ALG) if isinstance(headers, dict) and len(headers) == 1 else None
    if isinstance(algorithm, bool) or not isinstance(algorithm, int):
        raise ParseError(
            CoreCode.MALFORMED, f"{what}: the protected headers are not just an algorithm"
        )
    return Sign1(message.protected, algorithm, message.payload, message.signature)
