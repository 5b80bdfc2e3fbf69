"""AES-256-GCM over numbered chunks, from buffer to buffer. Spec: docs/spec/sealed-model.md.

The nonce consists of a counter and a flag for the last chunk (the STREAM construction), so a key
must be used for one stream only: every sealed file derives its own. Plaintext is never copied to
a ``bytes`` object, because that could not be wiped.
"""

from __future__ import annotations

import ctypes
import struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from regalia.core.errors import Code, IntegrityError

KEY_SIZE = 32  # bytes
TAG_SIZE = 16  # bytes at the end of every chunk
NONCE_SIZE = 12  # bytes


class AeadCode(Code):
    """Refusals of the cipher."""

    CHUNK_FORGED = (
        "These bytes are not what the owner sealed at this place; no byte of them was handed on.",
        "Fetch the sealed model again; if it repeats, the store or the path to it is tampering.",
    )


def chunk_nonce(counter: int, *, last: bool) -> bytes:
    """Nonce of a chunk: ``00 00 00 ‖ u64 counter ‖ u8 last``, 12 bytes.

    Args:
        counter: number of the chunk in its file, from 0.
        last: whether it is the last chunk of its file. The flag makes truncation detectable.
    """
    return struct.pack(">3xQB", counter, last)


def wipe(view: memoryview) -> None:
    """Overwrite a writable, contiguous buffer with zeros."""
    # memset works in place; a slice assignment would need a second buffer of that size.
    if view.nbytes:
        ctypes.memset(ctypes.addressof(ctypes.c_char.from_buffer(view)), 0, view.nbytes)


class ChunkCipher:
    """Seals and opens the chunks of one stream. May be used from several threads."""

    __slots__ = ("_aead", "_associated_data")

    def __init__(self, key: bytes | bytearray | memoryview, associated_data: bytes) -> None:
        """Set up the cipher. ``key`` has 32 bytes and may be wiped afterwards."""
        if memoryview(key).nbytes != KEY_SIZE:
            raise ValueError("AES-256 takes a key of 32 bytes")
        self._aead = AESGCM(key)
        self._associated_data = associated_data

    def seal_into(
        self, counter: int, plaintext: memoryview, out: memoryview, *, last: bool
    ) -> None:
        """Encrypt one chunk.

        Args:
            counter: number of the chunk in its file, from 0. Use it only once.
            plaintext: plaintext of the chunk.
            out: receives ciphertext and tag; it is ``TAG_SIZE`` longer than the plaintext.
            last: whether it is the last chunk of its file.
        """
        nonce = chunk_nonce(counter, last=last)
        self._aead.encrypt_into(nonce, plaintext, self._associated_data, out)

    def open_into(
        self, counter: int, ciphertext: memoryview, out: memoryview, *, last: bool
    ) -> None:
        """Authenticate and decrypt one chunk.

        GCM reads the ciphertext twice, for the tag and for the plaintext, so it must be in memory
        that nothing else can change during the call.

        Args:
            counter: number of the chunk in its file, from 0.
            ciphertext: ciphertext and tag, untrusted.
            out: receives the plaintext; it is ``TAG_SIZE`` shorter than the ciphertext.
            last: whether it must be the last chunk of its file.

        Raises:
            IntegrityError: CHUNK_FORGED; ``out`` is then all zero.
        """
        nonce = chunk_nonce(counter, last=last)
        try:
            self._aead.decrypt_into(nonce, ciphertext, self._associated_data, out)
        except InvalidTag as exc:
            wipe(out)  # the library may already have written unauthenticated plaintext
            raise IntegrityError(
                AeadCode.CHUNK_FORGED, f"chunk {counter} does not authenticate"
            ) from exc
