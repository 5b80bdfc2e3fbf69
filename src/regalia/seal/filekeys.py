"""One key for each sealed file, and the commitment that ties the file to its model key.
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
    """What distinguishes one file of a sealed model from every other."""

    kind: Kind
    shard_index: int
    shard_count: int
    stride: int
    plaintext_size: int
    seal_id: SealId


def _derive(prefix: Prefix, model_key: SecretBytes) -> SecretBytes:
    """File key ‖ commitment, 64 bytes. The prefix's own commitment is not an input."""
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
    """Begin a sealed file under a fresh salt, hence under a key that no other file has.

    Args:
        identity: which file of which sealed model it is; bound into the key.
        model_key: secret.
        random: gives the salt.
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

    The commitment is compared in constant time, before anything is decrypted.

    Args:
        prefix: the file's, untrusted until the commitment holds.
        model_key: secret.
    """
    with _derive(prefix, model_key) as derived:
        if not hmac.compare_digest(derived.view()[KEY_SIZE:], prefix.commitment):
            return None
        return _cipher(prefix, derived)
