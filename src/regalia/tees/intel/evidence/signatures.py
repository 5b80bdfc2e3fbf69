"""ECDSA P-256 as quotes and Intel's documents carry it: r and s, 32 bytes each, big endian."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from regalia.core.errors import AttestationError, CoreCode, ParseError

if TYPE_CHECKING:
    from regalia.core.errors import Code

_SCALAR = 32  # bytes
_UNCOMPRESSED = b"\x04"
_SHA256 = ec.ECDSA(hashes.SHA256())
_CURVE = ec.SECP256R1()


def require_raw_signature(
    key: ec.EllipticCurvePublicKey, signature: bytes, message: bytes, *, code: Code, what: str
) -> None:
    """``signature`` (64 bytes) over ``message`` is by ``key``.

    Args:
        key: on P-256.
        signature: r and s, untrusted.
        message: the bytes that are signed, exactly.
        code: of the refusal.
        what: names the value in the error.

    Raises:
        AttestationError: ``code``.
    """
    der = encode_dss_signature(
        int.from_bytes(signature[:_SCALAR], "big"), int.from_bytes(signature[_SCALAR:], "big")
    )
    try:
        key.verify(der, message, _SHA256)
    except InvalidSignature as exc:
        raise AttestationError(code, f"{what}: the signature does not verify") from exc


def p256_point(raw: bytes, *, what: str) -> ec.EllipticCurvePublicKey:
    """A public key from x and y, 64 bytes. Raises ParseError MALFORMED.

    Args:
        raw: untrusted.
        what: names the value in the error.
    """
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(_CURVE, _UNCOMPRESSED + raw)
    except ValueError as exc:
        raise ParseError(CoreCode.MALFORMED, f"{what}: not a point of P-256") from exc


def is_p256(key: object) -> bool:
    """Whether the key is an elliptic curve key of P-256."""
    return isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1)
