"""Objects in a local folder: files that are renamed to their names when they are whole."""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import stat
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from regalia.core.errors import CoreCode, LocalError
from regalia.core.types import Digest
from regalia.host.localfs import os_errors, read_file, replace_file
from regalia.store.local import LocalBlobs
from regalia.store.names import MANIFEST
from regalia.store.objects import Entry, Found

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from regalia.store.content import Content

_PART = 4 << 20  # bytes that are copied at once
_UPLOADS = "uploads"
_UPLOAD_NAME = re.compile("[0-9a-f]{16}")
_LOCK = ".lock"
FOLDERS = ("versions", "blobs", "pushes", _UPLOADS)  # the first one marks a store


class LocalObjects:
    """``Objects`` in a folder.

    Args:
        folder: made if it is missing and ``create`` says so.
        where: address, for messages.
        create: make the folder and its layout. An existing folder with anything else is refused.

    Raises:
        LocalError: the folder is missing, or no store; NOT_A_DIRECTORY, a part of it is a link.
    """

    def __init__(self, folder: Path, where: str, *, create: bool = False) -> None:
        self._folder = folder
        self._where = where
        if create:
            _make(folder)
        with os_errors(folder):
            if not (folder / "versions").is_dir():
                one = (folder / MANIFEST).is_file()
                hint = "; one sealed model is named without dir:" if one else ""
                raise LocalError(
                    CoreCode.FILE_MISSING,
                    f"{folder} is no store: it has no folder 'versions'{hint}",
                )
            _refuse_links(folder)

    def describe(self) -> str:
        """Address, for messages."""
        return self._where

    def now(self) -> float:
        """The clock of this machine, which dates its files."""
        return time.time()

    def get(self, key: str, limit: int) -> Found | None:
        """As ``Objects``.

        Args:
            key: of the object.
            limit: bytes.

        Raises:
            LocalError: it cannot be read, or is too large.
        """
        try:
            data = read_file(self._folder / key, limit=limit)
        except LocalError as exc:
            if exc.code is CoreCode.FILE_MISSING:
                return None
            raise
        return Found(data, str(Digest.of(data)))

    def size(self, key: str) -> Entry | None:
        """As ``Objects``."""
        path = self._folder / key
        try:
            info = path.lstat()
        except FileNotFoundError:
            return None
        return Entry(key, info.st_size, info.st_mtime) if stat.S_ISREG(info.st_mode) else None

    def put(self, key: str, data: bytes, *, over: str | None) -> bool:
        """As ``Objects``.

        Args:
            key: of the object.
            data: its content.
            over: state of what is replaced.
        """
        with self._lock():
            if over is not None:
                found = self.get(key, max(len(data), 1 << 16))
                if (found.state if found else "") != over:
                    return False
            replace_file(self._folder / key, data)
        return True

    def put_content(self, key: str, content: Content) -> None:
        """As ``Objects``.

        Args:
            key: of the object.
            content: its bytes.

        Raises:
            LocalError: DISK_FULL or another.
            IntegrityError: BLOB_CHANGED.
        """
        temporary = self._folder / _UPLOADS / secrets.token_hex(8)
        with os_errors(self._folder / key):
            try:
                with temporary.open("xb") as file:
                    for part in content.parts(_PART):
                        file.write(part)
                        content.count(len(part))
                    file.flush()
                    os.fsync(file.fileno())
                temporary.replace(self._folder / key)
            finally:
                temporary.unlink(missing_ok=True)

    def entries(self, folder: str) -> Iterator[Entry]:
        """As ``Objects``."""
        place = self._folder / folder
        if not place.exists():
            return  # tools that copy a store may leave out empty folders
        with os_errors(place):
            for path in sorted(place.iterdir()):
                found = self.size(f"{folder}/{path.name}")
                if found is not None:
                    yield found

    def delete(self, key: str) -> None:
        """As ``Objects``."""
        with os_errors(self._folder / key):
            (self._folder / key).unlink(missing_ok=True)

    def abandoned(self, before: float) -> Iterator[str]:
        """As ``Objects``."""
        # Only what has an upload's name: "uploads" may be a link to anything by now.
        for entry in self.entries(_UPLOADS):
            name = entry.key.rpartition("/")[2]
            if entry.modified < before and _UPLOAD_NAME.fullmatch(name):
                self.delete(entry.key)
                yield entry.key

    def blobs(self, folder: str) -> LocalBlobs:
        """As ``Objects``."""
        return LocalBlobs(self._folder / folder)

    def close(self) -> None:
        """Nothing is open."""

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """Compare and replace as one step, against other processes of this machine."""
        with os_errors(self._folder):
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            fd = os.open(self._folder / _LOCK, flags, 0o644)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX)
                yield
            finally:
                os.close(fd)


def _refuse_links(folder: Path) -> None:
    """Refuse a store with a part elsewhere, where gc could remove what another store holds."""
    for name in FOLDERS:
        if (folder / name).is_symlink():
            raise LocalError(CoreCode.NOT_A_DIRECTORY, f"{folder / name} is a symbolic link")


def _make(folder: Path) -> None:
    with os_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        names = {path.name for path in folder.iterdir()}
        if names and "versions" not in names:
            raise LocalError(
                CoreCode.FILE_EXISTS, f"{folder} is no store, and holds {min(names)!a}"
            )
        for name in FOLDERS:
            with suppress(FileExistsError):
                (folder / name).mkdir()
