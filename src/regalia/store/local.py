"""Reads ciphertext from a local directory."""

from __future__ import annotations

import os
import stat
import threading
from typing import TYPE_CHECKING, Self

from regalia.core.errors import CoreCode, LocalError
from regalia.host.localfs import os_errors

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType


class LocalBlobs:
    """A ``BlobSource`` of regular files in one directory. May be used from several threads.

    The directory is opened at the start, and every file once at its first access, never through
    a symbolic link. Replacing a file or the directory later has no effect.
    """

    def __init__(self, folder: Path) -> None:
        """Open the directory. Raises LocalError if ``folder`` is not a directory."""
        self._folder = folder
        self._lock = threading.Lock()
        self._files: dict[str, int] = {}
        with os_errors(folder):
            self._fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def names(self) -> frozenset[str]:
        """Names of all entries of the directory."""
        with os_errors(self._folder):
            return frozenset(os.listdir(self._fd))  # noqa: PTH208 - the opened directory, not its path

    def size(self, name: str) -> int:
        """Size of a blob in bytes. Raises LocalError."""
        with os_errors(self._folder / name):
            return os.fstat(self._open(name)).st_size

    def read_into(self, name: str, offset: int, buffer: memoryview) -> None:
        """Fill the whole buffer, or raise LocalError.

        Args:
            name: name of the blob.
            offset: offset in the blob of the first byte to read.
            buffer: buffer to fill; its length is the number of bytes to read.
        """
        with os_errors(self._folder / name):
            fd = self._open(name)
            done = 0
            while done < buffer.nbytes:
                count = os.preadv(fd, [buffer[done:]], offset + done)
                if count == 0:
                    raise LocalError(
                        CoreCode.IO_FAILED,
                        f"{self._folder / name}: ends before byte {offset + buffer.nbytes}",
                    )
                done += count

    def describe(self) -> str:
        """Path of the directory."""
        return str(self._folder)

    def close(self) -> None:
        """Close all files. Blobs cannot be read afterwards."""
        with self._lock:
            for fd in (*self._files.values(), self._fd):
                os.close(fd)
            self._files.clear()
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _open(self, name: str) -> int:
        with self._lock:
            fd = self._files.get(name, -1)
            if fd >= 0:
                return fd
            if name in {"", ".", ".."} or "/" in name or "\0" in name:
                raise LocalError(CoreCode.FILE_MISSING, f"{name!a} is no blob's name")
            # O_NONBLOCK keeps a named pipe from blocking; it has no effect on a regular file.
            flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
            fd = os.open(name, flags, dir_fd=self._fd)
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                os.close(fd)
                raise LocalError(CoreCode.IO_FAILED, f"{self._folder / name}: not a plain file")
            self._files[name] = fd
            return fd
