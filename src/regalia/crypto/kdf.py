"""HKDF with SHA-512 (RFC 5869), into buffers that can be wiped."""

from __future__ import annotations

from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from regalia.core.secret import SecretBytes


def hkdf_sha512(secret: SecretBytes, *, salt: bytes, info: bytes, size: int) -> SecretBytes:
    """Derive a key with HKDF-Extract and HKDF-Expand.

    Args:
        secret: input key material.
        salt: public salt; may be empty.
        info: binds the result to its purpose.
        size: size of the result, at most 16320 bytes (255 · 64, the limit of HKDF-Expand).
    """
    out = bytearray(size)
    HKDF(SHA512(), size, salt, info).derive_into(secret.view(), out)
    return SecretBytes(out)
