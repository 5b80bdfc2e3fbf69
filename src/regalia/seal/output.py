"""One sealed file on its way to disk."""

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
    """pwrite(2) until everything is written.

    Args:
        fd: open for writing.
        view: the bytes.
        offset: in the file, in bytes.
    """
    done = 0
    while done < view.nbytes:
        done += os.pwrite(fd, view[done:], offset + done)


class SealedOutput:
    """Prefix first, then chunks in order. ``write`` and ``hash`` may run in two threads."""

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
        """Take one chunk into the file's digest."""
        self._hasher.update(sealed)

    def write(self, chunk: Chunk, sealed: memoryview) -> None:
        """Write one chunk; the last one also makes the file durable and closes it.

        Args:
            chunk: where it lies.
            sealed: ciphertext and tag.
        """
        with os_errors(self._path):
            write_all(self._fd, sealed, chunk.offset)
            # Starts writing back now, so that the disk works while the next chunks are sealed.
            os.posix_fadvise(self._fd, chunk.offset, sealed.nbytes, os.POSIX_FADV_DONTNEED)
            if chunk.last:
                os.fsync(self._fd)
                self.close()

    def close(self) -> None:
        """Close the file. Safe to call twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def entry(self) -> SealedFile:
        """What the manifest says of the file, once everything is hashed."""
        return SealedFile(self._size, self._prefix_digest, Digest(self._hasher.digest()))
