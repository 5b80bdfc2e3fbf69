"""Write the vectors of the PKCS#11 key store: python scripts/make_pkcs11_vectors.py [--check].

Spec: docs/spec/pkcs11-key-store.md. Computed with AES and SHA-256 alone, without a token and
without the product's code for one, so that both can be held to them.
"""

from __future__ import annotations

import hashlib
import sys
from typing import Any

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.keywrap import aes_key_wrap_with_padding
from vector_files import VECTORS, as_json, fixed, write_or_compare

from regalia.core.codec import lp
from regalia.core.types import ModelId
from regalia.seal.format.sealed import SealId, wrap_context

FOLDER = VECTORS / "pkcs11"
KEK = fixed("pkcs11 kek")
MODEL_KEY = fixed("pkcs11 model key")
CONTEXT = wrap_context(ModelId(fixed("pkcs11 model")), 7, SealId(fixed("pkcs11 seal")))
OTHER = wrap_context(ModelId(fixed("pkcs11 model")), 8, SealId(fixed("pkcs11 seal")))
ID_DOMAIN, WRAP_DOMAIN = b"regalia/pkcs11-kek-id/v1", b"regalia/wrap-pkcs11-aes256kwp/v1"


def derive(kek: bytes, data: bytes) -> bytes:
    """CKM_AES_CBC_ENCRYPT_DATA over the digest of data, with an IV of zeros.

    Args:
        kek: 32 bytes.
        data: what the derived key is for.
    """
    encryptor = Cipher(algorithms.AES(kek), modes.CBC(bytes(16))).encryptor()
    return encryptor.update(hashlib.sha256(data).digest()) + encryptor.finalize()


def identity(kek: bytes) -> bytes:
    """The KEK's public identifier, 32 bytes."""
    blob = aes_key_wrap_with_padding(
        derive(kek, lp(ID_DOMAIN, b"wrapping")), derive(kek, lp(ID_DOMAIN, b"wrapped"))
    )
    return hashlib.sha256(lp(ID_DOMAIN, blob)).digest()


def wrapped(kek: bytes, model_key: bytes, context: bytes) -> bytes:
    """A wrapped model key.

    Args:
        kek: 32 bytes.
        model_key: to be wrapped.
        context: what it is bound to.
    """
    name = identity(kek)
    return name + aes_key_wrap_with_padding(derive(kek, lp(WRAP_DOMAIN, name, context)), model_key)


def vector() -> dict[str, Any]:
    """One wrapped key, with every intermediate value."""
    name = identity(KEK)
    data = lp(WRAP_DOMAIN, name, CONTEXT)
    return {
        "kek": KEK.hex(),
        "id_wrapping_key": derive(KEK, lp(ID_DOMAIN, b"wrapping")).hex(),
        "id_wrapped_key": derive(KEK, lp(ID_DOMAIN, b"wrapped")).hex(),
        "id": f"kek:{name.hex()}",
        "context": CONTEXT.hex(),
        "derived_for": data.hex(),
        "digest": hashlib.sha256(data).hexdigest(),
        "wrapping_key": derive(KEK, data).hex(),
        "model_key": MODEL_KEY.hex(),
        "blob": wrapped(KEK, MODEL_KEY, CONTEXT).hex(),
    }


def refused() -> dict[str, dict[str, str]]:
    """By name: a wrapped key with exactly one defect, and its code."""
    good = wrapped(KEK, MODEL_KEY, CONTEXT)
    other = wrapped(fixed("pkcs11 other kek"), MODEL_KEY, CONTEXT)
    defects = {
        "empty": (b"", "KEY_UNWRAP_FAILED"),
        "one_byte_short": (good[:-1], "KEY_UNWRAP_FAILED"),
        "one_byte_long": (good + b"\0", "KEY_UNWRAP_FAILED"),
        "without_id": (good[32:], "KEY_UNWRAP_FAILED"),
        "another_kek": (other, "KEK_MISMATCH"),
        "id_of_another_kek": (other[:32] + good[32:], "KEK_MISMATCH"),
        "body_of_another_kek": (good[:32] + other[32:], "KEY_UNWRAP_FAILED"),
        "another_context": (wrapped(KEK, MODEL_KEY, OTHER), "KEY_UNWRAP_FAILED"),
        "no_context": (wrapped(KEK, MODEL_KEY, b""), "KEY_UNWRAP_FAILED"),
        "under_the_kek_itself": (
            good[:32] + aes_key_wrap_with_padding(KEK, MODEL_KEY),
            "KEY_UNWRAP_FAILED",
        ),
        "first_byte_of_body": (
            good[:32] + bytes([good[32] ^ 1]) + good[33:],
            "KEY_UNWRAP_FAILED",
        ),
        "last_byte": (good[:-1] + bytes([good[-1] ^ 1]), "KEY_UNWRAP_FAILED"),
    }
    return {name: {"blob": blob.hex(), "code": code} for name, (blob, code) in defects.items()}


def files() -> dict[str, bytes]:
    """Contents by name."""
    return {"wrapped-key.json": as_json(vector()), "wrapped-key-refused.json": as_json(refused())}


if __name__ == "__main__":
    sys.exit(write_or_compare(FOLDER, files()))
