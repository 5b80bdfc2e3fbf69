"""Parses COSE_Sign1 (RFC 9052, section 4.2) in the form that AWS Nitro emits.

Such a message is untagged and has one protected header. Tag 18 is refused because it would be a
second encoding of the same evidence, and unprotected headers because no signature covers them.
"""

from __future__ import annotations

from dataclasses import dataclass

from regalia.core.errors import CoreCode, ParseError
from regalia.wire.cbor import decode_cbor, encode_cbor

ALG = 1  # label of the header "alg" (RFC 9052, section 3.1)
ES384 = -35  # ECDSA with SHA-384 (RFC 9053, section 2.1)
CONTEXT = "Signature1"  # context string of COSE_Sign1 (RFC 9052, section 4.4)
PROTECTED_MAX = 64  # bytes
_PARTS = 4  # protected headers, unprotected headers, payload, signature


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
    message = decode_cbor(data, limit=limit, what=what)
    if not isinstance(message, list) or len(message) != _PARTS:
        raise _malformed(what, "not an array of four, as COSE_Sign1 is")
    protected, unprotected, payload, signature = message
    if not (
        isinstance(protected, bytes) and isinstance(payload, bytes) and isinstance(signature, bytes)
    ):
        raise _malformed(what, "protected headers, payload and signature are byte strings")
    if unprotected != {}:
        raise _malformed(what, "unprotected headers, which nobody signs")
    headers = decode_cbor(protected, limit=PROTECTED_MAX, what=f"{what}: protected headers")
    if not isinstance(headers, dict) or list(headers) != [ALG]:
        raise _malformed(what, "the protected headers are not just an algorithm")
    algorithm = headers[ALG]
    if isinstance(algorithm, bool) or not isinstance(algorithm, int):
        raise _malformed(what, "the algorithm is no number")
    return Sign1(protected, algorithm, payload, signature)


def _malformed(what: str, why: str) -> ParseError:
    return ParseError(CoreCode.MALFORMED, f"{what}: {why}")
