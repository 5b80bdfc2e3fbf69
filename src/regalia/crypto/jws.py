"""Signs and verifies attestation results as compact JWS (RFC 7515), with EdDSA or ES384.

The key determines the algorithm, so the header of a token cannot choose another one.
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING

import msgspec
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)

from regalia.core.codec import MIB, canonical_json
from regalia.core.errors import CoreCode, IntegrityError, ParseError
from regalia.core.types import KeyFingerprint
from regalia.crypto.dsse import DsseCode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from regalia.crypto.sign import SigningKey, VerifyKey

LIMIT = 2 * MIB
ED25519_SPKI_SIZE = 44  # bytes; a key of another size is P-384
_P384_SCALAR = 48  # bytes; a JWS signature is r ‖ s, big-endian (RFC 7518, section 3.4)
_PARTS = 3


class _Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    alg: str
    kid: str
    typ: str


def sign_compact(payload: bytes, key: SigningKey, *, typ: str) -> str:
    """Sign a payload, and return ``header.payload.signature``.

    Args:
        payload: exact bytes to sign.
        key: the signer's key, whose fingerprint becomes ``kid``.
        typ: media type for the header, so that a token of another kind is not accepted instead.
    """
    public = key.verify_key
    header = canonical_json(_Header(alg=_algorithm(public), kid=str(public.fingerprint), typ=typ))
    signed = f"{_encode(header)}.{_encode(payload)}"
    signature = key.sign(signed.encode("ascii"))
    if _algorithm(public) == "ES384":
        r, s = decode_dss_signature(signature)
        signature = r.to_bytes(_P384_SCALAR, "big") + s.to_bytes(_P384_SCALAR, "big")
    return f"{signed}.{_encode(signature)}"


def verify_compact(token: str, keys: Sequence[VerifyKey], *, typ: str) -> bytes:
    """Verify a token, and return its payload.

    Args:
        token: compact JWS, untrusted.
        keys: trusted keys; without any, no token verifies.
        typ: the only accepted media type.

    Raises:
        ParseError: TOO_LARGE or MALFORMED.
        IntegrityError: SIGNER_UNKNOWN or SIGNATURE_INVALID.
    """
    if len(token) > LIMIT:
        raise ParseError(CoreCode.TOO_LARGE, f"token: {len(token)} characters, at most {LIMIT}")
    parts = token.split(".")
    if len(parts) != _PARTS:
        raise ParseError(CoreCode.MALFORMED, f"token: {len(parts)} parts, want {_PARTS}")
    header_part, payload_part, signature_part = parts
    try:
        header = msgspec.json.decode(_decode(header_part), type=_Header)
    except (msgspec.MsgspecError, UnicodeError) as exc:
        raise ParseError(CoreCode.MALFORMED, f"token header: {exc}") from exc
    if header.typ != typ:
        raise ParseError(CoreCode.MALFORMED, f"token: typ {header.typ[:80]!r}, want {typ}")
    wanted = KeyFingerprint.parse(header.kid)
    named = [key for key in keys if key.fingerprint == wanted]
    if not named or header.alg != _algorithm(named[0]):
        raise IntegrityError(
            DsseCode.SIGNER_UNKNOWN,
            f"token: signed with {header.alg[:16]!r} by "
            f"{wanted}, which is not among the {len(keys)} keys",
        )
    signature = _decode(signature_part)
    if header.alg == "ES384":
        if len(signature) != 2 * _P384_SCALAR:
            raise ParseError(CoreCode.MALFORMED, f"token: a signature of {len(signature)} bytes")
        signature = encode_dss_signature(
            int.from_bytes(signature[:_P384_SCALAR], "big"),
            int.from_bytes(signature[_P384_SCALAR:], "big"),
        )
    named[0].verify(signature, f"{header_part}.{payload_part}".encode("ascii"))
    return _decode(payload_part)


def _algorithm(key: VerifyKey) -> str:
    """Name of the key's algorithm. Raises IntegrityError SIGNER_UNKNOWN if JWS has none."""
    if key.post_quantum:
        raise IntegrityError(
            DsseCode.SIGNER_UNKNOWN,
            f"{key.fingerprint} signs with ML-DSA-65 too, and tokens with Ed25519 or P-384 alone",
        )
    return "EdDSA" if len(key.spki) == ED25519_SPKI_SIZE else "ES384"


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode("ascii").rstrip("=")


def _decode(text: str) -> bytes:
    """Decode base64url without padding (RFC 7515, section 2), in its canonical form only."""
    # Python ignores nonzero bits after the last byte, so re-encode to refuse such variants.
    try:
        data = base64.b64decode(
            text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True
        )
    except (binascii.Error, ValueError) as exc:
        raise ParseError(CoreCode.MALFORMED, "token: not base64url") from exc
    if _encode(data) != text:
        raise ParseError(CoreCode.MALFORMED, "token: base64url is not canonical")
    return data
