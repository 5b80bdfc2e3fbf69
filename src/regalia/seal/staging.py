"""Directories that appear whole or not at all.

Work happens in ``.NAME.regalia-XXXXXXXX`` beside the target, which is renamed at the end. The
working directory is locked while its process lives, so a later run can tell what a killed run
left behind, remove it, and say so.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import secrets
import shutil
import stat
from typing import TYPE_CHECKING, Self

from regalia.core.errors import CoreCode, LocalError
from regalia.host.localfs import os_errors

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

_LIBC = ctypes.CDLL(None, use_errno=True)


class StagedDirectory:
    """Use as a context manager: leaving it without ``commit`` removes everything."""

    def __init__(self, target: Path) -> None:
        """Create the working directory, mode 0700.

        Raises:
            LocalError: FILE_EXISTS if the target exists, or the file system refuses.
        """
        self.target = target
        with os_errors(target):
            if os.path.lexists(target):
                raise LocalError(CoreCode.FILE_EXISTS, f"{target}: already exists")
            self.removed = _remove_leftovers(target)
            self.path = target.with_name(f".{target.name}.regalia-{secrets.token_hex(4)}")
            self.path.mkdir(mode=0o700)
            self._fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            _try_lock(self._fd)

    def sync(self) -> None:
        """Make everything on the directory's file system durable: one call for many files.

        Raises:
            LocalError: the file system refuses; made of the OSError.
        """
        with os_errors(self.path):
            if _LIBC.syncfs(self._fd) != 0:
                code = ctypes.get_errno()
                raise OSError(code, os.strerror(code))

    def commit(self, *, mode: int) -> None:
        """Make the directory durable and give it its name.

        rename(2) replaces nothing but an empty directory that appeared meanwhile.
        """
        with os_errors(self.target):
            os.fchmod(self._fd, mode)
            os.fsync(self._fd)
            os.rename(self.path, self.target)  # noqa: PTH104 - a directory's rename, as specified
            parent = os.open(self.target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(parent)
            finally:
                os.close(parent)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        shutil.rmtree(self.path, ignore_errors=True)  # after a commit the name is gone already
        os.close(self._fd)


def _remove_leftovers(target: Path) -> tuple[str, ...]:
    """Remove working directories for this target whose process has died; return their names."""
    removed = []
    prefix = f".{target.name}.regalia-"
    for entry in sorted(target.parent.iterdir()):
        if not entry.name.startswith(prefix) or not _is_own_directory(entry):
            continue
        fd = os.open(entry, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            if _try_lock(fd):
                shutil.rmtree(entry)
                removed.append(entry.name)
        finally:
            os.close(fd)
    return tuple(removed)


def _is_own_directory(path: Path) -> bool:
    info = path.lstat()
    return stat.S_ISDIR(info.st_mode) and info.st_uid == os.geteuid()


def _try_lock(fd: int) -> bool:
    """False if another process holds the lock, or if this file system has no locks: then a
    leftover stays where it is, which is the safe side.
    """
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
