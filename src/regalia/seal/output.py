"""Writes one sealed file to disk, and computes its digest."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

from regalia.core.types import Digest
from regalia.host.localfs import os_errors
from regalia.seal.format.manifest import SealedFile
from regalia.seal.format.sealed import stored_size

if TYPE_CHECKING:
    from pathlib import Path

    from regalia.crypto.aead import ChunkCipher
    from regalia.seal.format.prefix import Prefix
    from regalia.seal.format.sealed import Chunk


def write_all(fd: int, view: memoryview, offset: int) -> None:
    """Call pwrite(2) until all bytes are written.

    Args:
        fd: file descriptor, open for writing.
        view: bytes to write.
        offset: offset in the file, in bytes.
    """
    done = 0
    while done < view.nbytes:
        done += os.pwrite(fd, view[done:], offset + done)


class SealedOutput:
    """A sealed file that is being written: its prefix, then its chunks in order.

    ``write`` and ``hash`` may run in two different threads.
    """

    def __init__(self, path: Path, prefix: Prefix, cipher: ChunkCipher) -> None:
        self.cipher = cipher
        self._path = path
        self._size = stored_size(prefix.plaintext_size, prefix.stride)
        head = prefix.encode()
        self._prefix_digest = Digest.of(head)
        self._hasher = hashlib.sha256(head)
        with os_errors(path):
            self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
            write_all(self._fd, memoryview(head), 0)

    def hash(self, sealed: memoryview) -> None:
        """Add one chunk to the file's digest."""
        self._hasher.update(sealed)

    def write(self, chunk: Chunk, sealed: memoryview) -> None:
        """Write one chunk. After the last one, sync the file to disk and close it.

        Args:
            chunk: position of the chunk.
            sealed: ciphertext and tag.
        """
        with os_errors(self._path):
            write_all(self._fd, sealed, chunk.offset)
            # DONTNEED starts writeback of these pages, so that the disk is busy while the next
            # chunks are encrypted.
            os.posix_fadvise(self._fd, chunk.offset, sealed.nbytes, os.POSIX_FADV_DONTNEED)
            if chunk.last:
                os.fsync(self._fd)
                self.close()

    def close(self) -> None:
        """Close the file. May be called again."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def entry(self) -> SealedFile:
        """The file's entry in the manifest, after all chunks were hashed."""
        return SealedFile(self._size, self._prefix_digest, Digest(self._hasher.digest()))
