"""Pieces of ciphertext on a local disk, of bounded size, for several processes at once.

    regalia-cache          says that this folder is a cache; its content is the layout's version
    .usage                 bytes of all pieces, at least; locked while room is made
    pieces/KEY/NUMBER      8 bytes of header, then the piece
    pieces/KEY/.NUMBER-X   a piece that is being written

A piece's header holds a CRC-32, against disks that err and writes that were cut off. Against
anybody who means it, the model's own tags stand. Whatever is wrong with a piece, it is not there.

The disk may be somebody else's, also that of a TEE's host. So no link inside the folder is
followed, which could lead to files that are then removed; nothing is opened that could block; and
nobody who keeps the lock is waited for without end.

The bound holds at every moment: room is taken under the lock by a file of the final size. A process
never removes what was used since it opened the cache: a model larger than the cache would
otherwise push its own beginning out, and find nothing the next time.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import stat
import struct
import time
import zlib
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple

from regalia.core.errors import CoreCode, LocalError
from regalia.host.localfs import os_errors, read_file, write_new

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MARKER = "regalia-cache"
PIECES = "pieces"
HEADER = 8  # bytes
PIECE_KEY = re.compile("[0-9a-f]{64}")
PIECE_NUMBER = re.compile("[0-9a-f]{8}")
LEAST = 16 << 20  # bytes; a smaller cache would hold next to nothing
_LAYOUT = b"1\n"
_USAGE = ".usage"
_MAGIC = b"RGP1"
_TOUCH_S = 600.0  # use is noted so often, and at the first time
_LEFTOVER_S = 600.0  # a piece takes no longer to be written
_FULL_S = 60.0  # how long nothing is kept after there was no room
_TARGET = 0.9  # of the bound, which room is made down to
_LOCK_OPEN_S = 60.0  # others may look through all pieces under the lock, one after the other
_LOCK_KEEP_S = 5.0  # a piece that waits for longer is not kept
_LOCK_STEP_S = 0.02
_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW
_READ_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class _Stored(NamedTuple):
    used: float  # when, in seconds since 1970
    size: int  # bytes
    key: str
    name: str


class PieceCache:
    """A cache folder. May be used from several threads and processes.

    Args:
        folder: made if it is missing. An existing folder with anything else is refused.
        limit: bytes of all pieces.

    Raises:
        LocalError: the folder is no cache, or cannot be written.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self._folder = folder
        self._limit = limit
        self._full_until = 0.0
        require_cache(folder, create=True)
        self._opened = time.time()
        # Whoever keeps the lock for that long does not keep the pieces from being read.
        with os_errors(folder), suppress(TimeoutError), self._locked(_LOCK_OPEN_S) as fd:
            _write_usage(fd, sum(each.size for each in self._scan()))
            # By the clock that dates files, which is some milliseconds behind the other one.
            self._opened = os.fstat(fd).st_mtime

    def read(self, key: str, number: int, buffer: memoryview) -> bool:
        """Fill the buffer with a whole piece; False if it is not there as it was written.

        Args:
            key: of the blob, 64 hexadecimal digits.
            number: of the piece in it.
            buffer: of the piece's size.
        """
        with suppress(OSError), open_pieces(self._folder, key) as folder:
            fd = os.open(_name(number), _READ_FLAGS, dir_fd=folder)
            try:
                if self._read(fd, buffer):
                    return True
            finally:
                os.close(fd)
            os.unlink(_name(number), dir_fd=folder)
        return False

    def _read(self, fd: int, buffer: memoryview) -> bool:
        with suppress(OSError):
            info = os.fstat(fd)
            if stat.S_ISREG(info.st_mode) and _read_piece(fd, info.st_size, buffer):
                if info.st_mtime < max(self._opened, time.time() - _TOUCH_S):
                    os.utime(fd)
                return True
        return False

    def keep(self, key: str, number: int, piece: memoryview) -> bool:
        """Keep a piece if there is room; False if not. Never raises for the disk's sake.

        Args:
            key: of the blob, 64 hexadecimal digits.
            number: of the piece in it.
            piece: its bytes.
        """
        if time.monotonic() < self._full_until:
            return False
        try:
            with open_pieces(self._folder, key, create=True) as folder:
                return self._write(folder, _name(number), piece)
        except OSError:
            self._full_until = time.monotonic() + _FULL_S
            return False

    def _write(self, folder: int, name: str, piece: memoryview) -> bool:
        temporary = f".{name}-{secrets.token_hex(4)}"
        try:
            fd = self._take_room(folder, temporary, name, HEADER + piece.nbytes)
            if fd < 0:
                return False
            try:
                _write_piece(fd, piece)
            finally:
                os.close(fd)
            os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
        except OSError:
            with suppress(OSError):
                os.unlink(temporary, dir_fd=folder)
            raise
        return True

    def forget(self, key: str) -> None:
        """Remove all pieces of a blob."""
        with suppress(OSError), open_pieces(self._folder, key) as folder:
            for name in os.listdir(folder):  # noqa: PTH208 - the opened folder, not its path
                os.unlink(name, dir_fd=folder)

    def _take_room(self, folder: int, temporary: str, name: str, size: int) -> int:
        """Create a file of this size, which counts from now on; -1 if there is no need or room."""
        with self._locked(_LOCK_KEEP_S) as usage:
            if _is_there(folder, name):
                return -1
            used = _read_usage(usage)
            if used is None or used + size > self._limit:
                used = self._make_room(size)
                if used + size > self._limit:
                    self._full_until = time.monotonic() + _FULL_S
                    _write_usage(usage, used)
                    return -1
            _write_usage(usage, used + size)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            fd = os.open(temporary, flags, 0o600, dir_fd=folder)
            try:
                os.posix_fallocate(fd, 0, size)
            except OSError:
                os.close(fd)
                raise
            return fd

    def _make_room(self, size: int) -> int:
        """Remove what was not used for longest; returns the bytes that are left."""
        stored = sorted(self._scan())
        used = sum(each.size for each in stored)
        target = int(self._limit * _TARGET)
        for each in stored:
            if used + size <= target or each.used >= self._opened:
                break
            with suppress(FileNotFoundError), open_pieces(self._folder, each.key) as folder:
                os.unlink(each.name, dir_fd=folder)
            used -= each.size
        return used

    def _scan(self) -> Iterator[_Stored]:
        """All pieces. What a killed process was writing is removed once it is old."""
        with _open_folder(self._folder / PIECES) as pieces:
            keys = sorted(filter(PIECE_KEY.fullmatch, os.listdir(pieces)))  # noqa: PTH208
        for key in keys:
            with suppress(OSError), open_pieces(self._folder, key) as folder:
                yield from _stored(folder, key)

    @contextmanager
    def _locked(self, seconds: float) -> Iterator[int]:
        """Hold the lock. Raises TimeoutError if somebody else does not let it go."""
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        fd = os.open(self._folder / _USAGE, flags, 0o600)
        try:
            _lock(fd, seconds)
            yield fd
        finally:
            os.close(fd)


@contextmanager
def open_pieces(folder: Path, key: str, *, create: bool = False) -> Iterator[int]:
    """Open the folder with a blob's pieces, through no link: a file descriptor of it.

    Args:
        folder: of the cache.
        key: of the blob, 64 hexadecimal digits.
        create: make it if it is missing.

    Raises:
        OSError: it is missing, or no folder.
    """
    with _open_folder(folder / PIECES) as pieces:
        if create:
            with suppress(FileExistsError):
                os.mkdir(key, 0o700, dir_fd=pieces)
        fd = os.open(key, _FOLDER_FLAGS, dir_fd=pieces)
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def _open_folder(path: Path) -> Iterator[int]:
    fd = os.open(path, _FOLDER_FLAGS)
    try:
        yield fd
    finally:
        os.close(fd)


def _stored(folder: int, key: str) -> Iterator[_Stored]:
    now = time.time()
    for entry in os.scandir(folder):
        with suppress(FileNotFoundError):
            info = entry.stat(follow_symlinks=False)
            used = info.st_mtime
            if entry.name.startswith("."):
                if abs(now - used) > _LEFTOVER_S:
                    os.unlink(entry.name, dir_fd=folder)
                    continue
                used = now  # what is being written is not removed, and counts
            elif used > now + _LEFTOVER_S:
                used = 0.0  # of a clock that was ahead: it would otherwise never go
            yield _Stored(used, info.st_size, key, entry.name)


def _lock(fd: int, seconds: float) -> None:
    end = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                raise TimeoutError(f"another process keeps the lock for over {seconds} s") from None
            time.sleep(_LOCK_STEP_S)
        else:
            return


def _is_there(folder: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _name(number: int) -> str:
    return f"{number:08x}"


def require_cache(folder: Path, *, create: bool = False) -> None:
    """Refuse a folder that is no cache.

    Args:
        folder: of the cache.
        create: make one where there is nothing.

    Raises:
        LocalError: FILE_EXISTS, FILE_MISSING or another.
    """
    with os_errors(folder):
        if create:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Another process may be writing the marker just now, under a name of this kind.
            if all(path.name.startswith(".regalia-") for path in folder.iterdir()):
                with suppress(LocalError):
                    write_new(folder / MARKER, _LAYOUT)
        if not is_cache(folder):
            code = CoreCode.FILE_EXISTS if create else CoreCode.FILE_MISSING
            raise LocalError(code, f"{folder} is no cache: it holds something else")
        (folder / PIECES).mkdir(mode=0o700, exist_ok=True)


def is_cache(folder: Path) -> bool:
    """Whether a folder is a cache of the layout that is known here. Raises LocalError."""
    if not (folder / MARKER).exists():
        return False
    return read_file(folder / MARKER, limit=64) == _LAYOUT


def piece_is_whole(data: bytes | memoryview) -> bool:
    """Whether bytes are a header and the piece that it was made for."""
    view = memoryview(data)
    return view.nbytes > HEADER and bytes(view[:HEADER]) == _header(view[HEADER:])


def _header(piece: memoryview) -> bytes:
    return struct.pack(">4sI", _MAGIC, zlib.crc32(piece))


def _read_piece(fd: int, size: int, buffer: memoryview) -> bool:
    head = bytearray(HEADER)
    if size != HEADER + buffer.nbytes or os.preadv(fd, [head, buffer], 0) != size:
        return False
    return bytes(head) == _header(buffer)


def _write_piece(fd: int, piece: memoryview) -> None:
    os.pwrite(fd, _header(piece), 0)
    done = 0
    while done < piece.nbytes:
        done += os.pwrite(fd, piece[done:], HEADER + done)


def _read_usage(fd: int) -> int | None:
    data = os.pread(fd, 9, 0)
    return int.from_bytes(data, "big") if len(data) == 8 else None  # noqa: PLR2004 - as written


def _write_usage(fd: int, used: int) -> None:
    os.pwrite(fd, used.to_bytes(8, "big"), 0)
