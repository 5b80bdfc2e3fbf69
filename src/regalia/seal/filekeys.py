"""Derives the key of every sealed file, and its commitment to the model key.

AES-GCM does not commit to its key: a ciphertext can be crafted that opens under two keys. The
commitment, which HKDF derives together with the file key, rules that out.
Spec: docs/spec/sealed-model.md, "Keys".
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from regalia.crypto.aead import KEY_SIZE, ChunkCipher
from regalia.crypto.kdf import hkdf_sha512
from regalia.seal.format.prefix import COMMITMENT_SIZE, SALT_SIZE, Prefix
from regalia.seal.randomness import random_bytes

if TYPE_CHECKING:
    from regalia.core.secret import SecretBytes
    from regalia.seal.format.prefix import Kind
    from regalia.seal.format.sealed import SealId
    from regalia.seal.randomness import RandomSource

MODEL_KEY_SIZE = 32  # bytes
_DOMAIN = b"regalia/sealed-model/v1"


@dataclass(frozen=True, slots=True)
class FileIdentity:
    """The properties that distinguish a file of a sealed model from all other files."""

    kind: Kind
    shard_index: int
    shard_count: int
    stride: int
    plaintext_size: int
    seal_id: SealId


def _derive(prefix: Prefix, model_key: SecretBytes) -> SecretBytes:
    """Derive file key ‖ commitment, 64 bytes. The commitment in the prefix is not an input."""
    return hkdf_sha512(
        model_key,
        salt=prefix.salt,
        info=_DOMAIN + prefix.committed(),
        size=KEY_SIZE + COMMITMENT_SIZE,
    )


def _cipher(prefix: Prefix, derived: SecretBytes) -> ChunkCipher:
    associated_data = hashlib.sha256(prefix.encode()).digest()
    return ChunkCipher(derived.view()[:KEY_SIZE], associated_data)


def new_file(
    identity: FileIdentity, model_key: SecretBytes, random: RandomSource
) -> tuple[Prefix, ChunkCipher]:
    """Begin a sealed file under a fresh salt, and therefore under a key of its own.

    Args:
        identity: properties of the file; the key is bound to them.
        model_key: the model key, 32 bytes.
        random: source of randomness for the salt.

    Returns:
        The file's prefix, and the cipher for its chunks.
    """
    draft = Prefix(
        kind=identity.kind,
        shard_index=identity.shard_index,
        shard_count=identity.shard_count,
        stride=identity.stride,
        plaintext_size=identity.plaintext_size,
        seal_id=identity.seal_id,
        salt=random_bytes(random, SALT_SIZE),
        commitment=bytes(COMMITMENT_SIZE),
    )
    with _derive(draft, model_key) as derived:
        prefix = replace(draft, commitment=derived.view()[KEY_SIZE:].tobytes())
        return prefix, _cipher(prefix, derived)


def existing_file(prefix: Prefix, model_key: SecretBytes) -> ChunkCipher | None:
    """The cipher of a sealed file, or None if the file was not sealed under this model key.

    The commitment is compared in constant time before anything is decrypted.

    Args:
        prefix: prefix of the file, untrusted.
        model_key: the model key, 32 bytes.
    """
    with _derive(prefix, model_key) as derived:
        if not hmac.compare_digest(derived.view()[KEY_SIZE:], prefix.commitment):
            return None
        return _cipher(prefix, derived)
