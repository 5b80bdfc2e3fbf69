"""A directory of sealed files as a ``BlobSource``."""

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
    """Reads blobs from plain files in one directory. Safe to use from several threads.

    Files are opened once, relative to the directory that was opened first, and never through a
    symbolic link: what is read later is what was there at the first access.
    """

    def __init__(self, folder: Path) -> None:
        """Raises LocalError if ``folder`` is no directory."""
        self._folder = folder
        self._lock = threading.Lock()
        self._files: dict[str, int] = {}
        with os_errors(folder):
            self._fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def names(self) -> frozenset[str]:
        """Everything that lies in the directory."""
        with os_errors(self._folder):
            return frozenset(os.listdir(self._fd))  # noqa: PTH208 - the opened directory, not its path

    def size(self, name: str) -> int:
        """Size in bytes. Raises LocalError."""
        with os_errors(self._folder / name):
            return os.fstat(self._open(name)).st_size

    def read_into(self, name: str, offset: int, buffer: memoryview) -> None:
        """Fill the whole buffer from ``offset``, or raise LocalError.

        Args:
            name: of the blob.
            offset: where to begin in the blob, in bytes.
            buffer: filled whole; its length says how much to read.
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
        """The directory."""
        return str(self._folder)

    def close(self) -> None:
        """Close every file. Nothing can be read afterwards."""
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
            flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
            fd = os.open(name, flags, dir_fd=self._fd)
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                os.close(fd)
                raise LocalError(CoreCode.IO_FAILED, f"{self._folder / name}: not a plain file")
            self._files[name] = fd
            return fd
