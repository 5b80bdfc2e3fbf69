"""Key derivation into buffers that are wiped. HKDF with SHA-512 (RFC 5869)."""

from __future__ import annotations

from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from regalia.core.secret import SecretBytes


def hkdf_sha512(secret: SecretBytes, *, salt: bytes, info: bytes, size: int) -> SecretBytes:
    """Extract and expand ``secret`` to ``size`` bytes (at most 16320). No ``bytes`` object
    ever holds the result.

    Args:
        secret: input key material.
        salt: public; may be empty.
        info: binds the purpose.
        size: bytes of the result.
    """
    out = bytearray(size)
    HKDF(SHA512(), size, salt, info).derive_into(secret.view(), out)
    return SecretBytes(out)
