"""Local files, with the operating system's errors turned into ours."""

from __future__ import annotations

import ctypes
import errno
import os
import secrets
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING

from regalia.core.errors import CoreCode, LocalError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_STANDARD_INPUT = "-"  # as other programs spell it
_PIECE = 1 << 20  # bytes of one read
_LIBC = ctypes.CDLL(None, use_errno=True)
_AT_FDCWD = -100  # <fcntl.h>
_RENAME_NOREPLACE = 1  # <linux/fs.h>
_CODES = {
    errno.ENOENT: CoreCode.FILE_MISSING,
    errno.EEXIST: CoreCode.FILE_EXISTS,
    errno.ENOTEMPTY: CoreCode.FILE_EXISTS,  # a folder that appeared where one should be renamed to
    errno.ENOTDIR: CoreCode.NOT_A_DIRECTORY,
    errno.EACCES: CoreCode.NO_PERMISSION,
    errno.EPERM: CoreCode.NO_PERMISSION,
    errno.EROFS: CoreCode.NO_PERMISSION,
    errno.ENOSPC: CoreCode.DISK_FULL,
    errno.EDQUOT: CoreCode.DISK_FULL,
    errno.EFBIG: CoreCode.DISK_FULL,
}


@contextmanager
def os_errors(path: Path | str) -> Iterator[None]:
    """Turn an OSError inside the block into a LocalError that names the path."""
    try:
        yield
    except OSError as exc:
        code = _CODES.get(exc.errno or 0, CoreCode.IO_FAILED)
        raise LocalError(code, f"{path}: {exc.strerror or exc}") from exc


def read_file(path: Path, *, limit: int) -> bytes:
    """Read a regular file of at most ``limit`` bytes.

    Args:
        path: of the file.
        limit: bytes; a larger file is refused unread.

    Raises:
        LocalError: it is missing, unreadable, no regular file or too large.
    """
    if str(path) == _STANDARD_INPUT and not path.exists():
        raise LocalError(
            CoreCode.NOT_A_REGULAR_FILE, "-: want a regular file, and standard input is none"
        )
    with os_errors(path):
        fd = _open_to_read(path)
        try:
            info = os.fstat(fd)
            if stat.S_ISDIR(info.st_mode):
                raise LocalError(CoreCode.IO_FAILED, f"{path}: {os.strerror(errno.EISDIR)}")
            if not stat.S_ISREG(info.st_mode):
                raise LocalError(CoreCode.NOT_A_REGULAR_FILE, f"{path}: {_other(info.st_mode)}")
            data = _read_to_end(fd, limit + 1)
        except BlockingIOError as exc:  # some files of /proc call themselves regular
            raise LocalError(
                CoreCode.NOT_A_REGULAR_FILE,
                f"{path}: want a regular file, and this is one that has no end",
            ) from exc
        finally:
            os.close(fd)
    if len(data) > limit:
        raise LocalError(CoreCode.TOO_LARGE, f"{path}: more than {limit} bytes")
    return data


def _open_to_read(path: Path) -> int:
    """Open without waiting, which for a named pipe would last until somebody writes to it."""
    flags = os.O_RDONLY | os.O_CLOEXEC
    try:
        return os.open(path, flags | os.O_NONBLOCK)
    except BlockingIOError:
        # Somebody else has a lease on the file, as file servers have. The kernel asks for it back
        # while we wait.
        if not stat.S_ISREG(path.stat().st_mode):
            raise
        return os.open(path, flags)


def _read_to_end(fd: int, most: int) -> bytes:
    """The rest of a file, or the first ``most`` bytes of it."""
    pieces: list[bytes] = []
    left = most
    while left and (piece := os.read(fd, min(left, _PIECE))):
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)


def _other(mode: int) -> str:
    """What stands where a regular file should."""
    return f"want a regular file, and this is {'a pipe' if stat.S_ISFIFO(mode) else 'a device'}"


def read_folder(
    folder: Path, *, endings: tuple[str, ...], limit: int, most: int
) -> dict[str, bytes]:
    """Read the files of a folder whose names have one of these endings, by path, sorted.

    Args:
        folder: its subfolders are not looked at.
        endings: with their dots.
        limit: bytes of one file.
        most: files.

    Raises:
        LocalError: the folder or a file cannot be read, or TOO_LARGE.
    """
    with os_errors(folder):
        paths = sorted(path for path in folder.iterdir() if path.suffix in endings)
    if len(paths) > most:
        raise LocalError(CoreCode.TOO_LARGE, f"{folder}: {len(paths)} files, at most {most}")
    return {str(path): read_file(path, limit=limit) for path in paths}


def read_private_file(path: Path, *, limit: int) -> bytes:
    """Read a file that holds a secret; refuse it if group or others may read it.

    Args:
        path: of the file.
        limit: bytes; a larger file is refused unread.

    Raises:
        LocalError: it is missing, unreadable, too large, or others may read it.
    """
    with os_errors(path):
        mode = path.stat().st_mode
    if mode & 0o077:
        raise LocalError(CoreCode.INSECURE_MODE, f"{path}: mode is {mode & 0o777:03o}, want 600")
    return read_file(path, limit=limit)


def write_new(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Create a file that does not exist yet, whole or not at all.

    Args:
        path: of the file.
        data: its content.
        mode: permission bits, where the file system keeps any.

    Raises:
        LocalError: FILE_EXISTS, DISK_FULL or another.
    """
    # No name that another process has, nor one that a killed process has left.
    temporary = path.with_name(f".regalia-{secrets.token_hex(8)}.tmp")
    with os_errors(path):
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            _name(temporary, path, mode)
        finally:
            temporary.unlink(missing_ok=True)


def _name(temporary: Path, path: Path, mode: int) -> None:
    """Give a file that is whole its name, which must be free."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:  # FAT, exFAT and some network file systems know no second name
        if not _rename_to_free(temporary, path):
            _rename_over_own(temporary, path, mode)


def _rename_to_free(temporary: Path, path: Path) -> bool:
    """Rename a file unless the name is taken; False if that cannot be asked for here."""
    rename = getattr(_LIBC, "renameat2", None)
    if rename is None:
        return False
    old, new = os.fsencode(temporary), os.fsencode(path)
    if rename(_AT_FDCWD, old, _AT_FDCWD, new, _RENAME_NOREPLACE) == 0:
        return True
    code = ctypes.get_errno()
    if code in {errno.EINVAL, errno.ENOSYS}:
        return False
    raise OSError(code, os.strerror(code))


def _rename_over_own(temporary: Path, path: Path, mode: int) -> None:
    """Take the name with an empty file first, which the whole one then replaces.

    Whoever takes this process's life in between leaves an empty file, never half of one.
    """
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode))
    try:
        temporary.replace(path)
    except OSError:
        path.unlink(missing_ok=True)
        raise


def others_may_read(path: Path) -> bool:
    """Whether the mode of a file lets group or others read it, as on FAT, which keeps no modes.

    Raises:
        LocalError: the file is missing.
    """
    with os_errors(path):
        return bool(path.stat().st_mode & 0o077)


def replace_file(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Replace a file, or create it: afterwards it is whole, either as it was or as it should be.

    Args:
        path: of the file.
        data: its content.
        mode: permission bits.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.new")
    try:
        write_new(temporary, data, mode=mode)
        with os_errors(path):
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
