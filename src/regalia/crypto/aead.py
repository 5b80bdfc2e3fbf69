"""AES-256-GCM over numbered chunks, from buffer to buffer. Spec: docs/spec/sealed-model.md.

The nonce is a counter and a last-chunk flag (the STREAM construction), so a key must never
serve two streams: every sealed file derives its own. No plaintext ``bytes`` object is made.
"""

from __future__ import annotations

import ctypes
import struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from regalia.core.errors import Code, IntegrityError

KEY_SIZE = 32  # bytes
TAG_SIZE = 16  # bytes, at the end of each chunk
NONCE_SIZE = 12  # bytes


class AeadCode(Code):
    """Refusals of the cipher."""

    CHUNK_FORGED = (
        "These bytes are not what the owner sealed at this place; no byte of them was handed on.",
        "Fetch the sealed model again; if it repeats, the store or the path to it is tampering.",
    )


def chunk_nonce(counter: int, *, last: bool) -> bytes:
    """``00 00 00 ‖ u64 counter ‖ u8 last``, 12 bytes.

    Args:
        counter: the chunk's number within its shard, from 0.
        last: whether it is the shard's last chunk, so that a cut shard does not open.
    """
    return struct.pack(">3xQB", counter, last)


def wipe(view: memoryview) -> None:
    """Overwrite a writable, contiguous buffer with zeros."""
    if view.nbytes:
        ctypes.memset(ctypes.addressof(ctypes.c_char.from_buffer(view)), 0, view.nbytes)


class ChunkCipher:
    """Seals and opens the chunks of one stream. Safe to use from several threads."""

    __slots__ = ("_aead", "_associated_data")

    def __init__(self, key: bytes | bytearray | memoryview, associated_data: bytes) -> None:
        """Set up the key schedule; ``key`` (32 bytes) may be wiped afterwards."""
        if memoryview(key).nbytes != KEY_SIZE:
            raise ValueError("AES-256 takes a key of 32 bytes")
        self._aead = AESGCM(key)
        self._associated_data = associated_data

    def seal_into(
        self, counter: int, plaintext: memoryview, out: memoryview, *, last: bool
    ) -> None:
        """Write ciphertext and tag to ``out``: exactly ``TAG_SIZE`` longer than the plaintext.

        Args:
            counter: the chunk's number within its shard, from 0.
            plaintext: secret.
            out: receives ciphertext and tag.
            last: whether it is the shard's last chunk.
        """
        nonce = chunk_nonce(counter, last=last)
        self._aead.encrypt_into(nonce, plaintext, self._associated_data, out)

    def open_into(
        self, counter: int, ciphertext: memoryview, out: memoryview, *, last: bool
    ) -> None:
        """Write the plaintext to ``out``: exactly ``TAG_SIZE`` shorter than the ciphertext.

        ``ciphertext`` must be memory that nobody else can change during the call: GCM reads it
        twice, once for the tag and once for the plaintext.

        Args:
            counter: the chunk's number within its shard, from 0.
            ciphertext: ciphertext and tag, untrusted.
            out: receives the plaintext.
            last: whether it must be the shard's last chunk.

        Raises:
            IntegrityError: CHUNK_FORGED; ``out`` is then all zero.
        """
        nonce = chunk_nonce(counter, last=last)
        try:
            self._aead.decrypt_into(nonce, ciphertext, self._associated_data, out)
        except InvalidTag as exc:
            wipe(out)
            raise IntegrityError(
                AeadCode.CHUNK_FORGED, f"chunk {counter} does not authenticate"
            ) from exc
