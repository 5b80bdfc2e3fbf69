"""Creates directories atomically: they appear complete or not at all.

Files are written to ``.NAME.regalia-XXXXXXXX`` beside the target, which is renamed at the end.
The process holds a lock on that directory, so a later run can recognize and remove the directory
of a process that was killed, and report it.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import re
import secrets
import shutil
import stat
from typing import TYPE_CHECKING, Self

from regalia.core.errors import CoreCode, LocalError
from regalia.host.localfs import os_errors

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType

STATE = "state"  # folder in the working directory of a sealing that can be continued
_LIBC = ctypes.CDLL(None, use_errno=True)


class StagedDirectory:
    """Context manager for a new directory. Leaving it without ``commit`` removes all files."""

    def __init__(self, target: Path) -> None:
        """Create the working directory, mode 0700.

        Raises:
            LocalError: FILE_EXISTS if the target exists, or the directory cannot be created.
        """
        self.target = target
        with os_errors(target):
            if os.path.lexists(target):
                raise LocalError(CoreCode.FILE_EXISTS, f"{target}: already exists")
            self.removed = _remove_leftovers(target)
            self.path, self._fd = new_directory(target)

    def sync(self) -> None:
        """Sync the directory's whole file system to disk, with one call for many files.

        Raises:
            LocalError: syncfs(2) failed; ``os_errors`` converts the OSError.
        """
        with os_errors(self.path):
            if _LIBC.syncfs(self._fd) != 0:
                code = ctypes.get_errno()
                raise OSError(code, os.strerror(code))

    def commit(self, *, mode: int) -> None:
        """Sync the directory to disk, and rename it to the target. See ``publish``."""
        with os_errors(self.target):
            publish(self._fd, self.path, self.target, mode=mode)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        shutil.rmtree(self.path, ignore_errors=True)  # does nothing after a commit
        os.close(self._fd)


def new_directory(target: Path) -> tuple[Path, int]:
    """Create a working directory beside ``target``, mode 0700, and lock it.

    Returns:
        The directory, and a file descriptor of it, which the caller closes.
    """
    path = target.with_name(f".{target.name}.regalia-{secrets.token_hex(4)}")
    path.mkdir(mode=0o700)
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    _try_lock(fd)
    return path, fd


def publish(fd: int, path: Path, target: Path, *, mode: int) -> None:
    """Sync a directory to disk, and rename it to the target.

    Args:
        fd: file descriptor of the directory.
        path: its path.
        target: its new path. If that appeared meanwhile, rename(2) replaces it only if it is an
            empty directory.
        mode: its permission bits.
    """
    os.fchmod(fd, mode)
    os.fsync(fd)
    os.rename(path, target)  # noqa: PTH104 - a directory's rename, as specified
    # The rename is durable only once the parent directory was synced, too.
    parent = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(parent)
    finally:
        os.close(parent)


def _remove_leftovers(target: Path) -> tuple[str, ...]:
    """Remove working directories of this target whose process has ended; return their names."""
    removed = []
    for path, fd in leftovers(target):
        try:
            if (path / STATE).is_dir():
                continue  # of a sealing, which its next run continues or removes
            shutil.rmtree(path)
        finally:
            os.close(fd)
        removed.append(path.name)
    return tuple(removed)


def leftovers(target: Path) -> Iterator[tuple[Path, int]]:
    """Working directories of this target whose process has ended, each locked.

    Yields:
        A directory, and a file descriptor of it, which the caller closes.
    """
    for entry, fd in _working(target):
        if _try_lock(fd):
            yield entry, fd
        else:
            os.close(fd)


def in_use(target: Path) -> str | None:
    """Name of a working directory of this target whose process is running; None if there is none.

    On a file system that has no locks there never is.
    """
    for entry, fd in _working(target):
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return entry.name
        except OSError:
            continue
        finally:
            os.close(fd)
    return None


def _working(target: Path) -> Iterator[tuple[Path, int]]:
    """Working directories of this target, each with a descriptor, which the caller closes."""
    # Exactly the names that this module gives: somebody's own ".NAME.regalia-backup" stays.
    ours = re.compile(re.escape(f".{target.name}.regalia-") + "[0-9a-f]{8}")
    for entry in sorted(target.parent.iterdir()):
        if ours.fullmatch(entry.name) and _is_own_directory(entry):
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW
            yield entry, os.open(entry, flags)


def _is_own_directory(path: Path) -> bool:
    info = path.lstat()
    return stat.S_ISDIR(info.st_mode) and info.st_uid == os.geteuid()


def _try_lock(fd: int) -> bool:
    """Lock a directory. Returns False if another process holds the lock.

    Also returns False if the file system has no locks. Leftovers are then kept, because they may
    belong to a running process.
    """
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
