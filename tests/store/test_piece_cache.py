"""The cache on disk: its bound under races, damage, full disks, other processes."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from regalia.core.errors import CoreCode, LocalError
from regalia.store import piece_cache as module
from regalia.store.piece_cache import HEADER, PieceCache

if TYPE_CHECKING:
    from pathlib import Path

KEY, OTHER = "ab" * 32, "cd" * 32
SIZE = 1000
STORED = SIZE + HEADER


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def piece(number: int) -> bytes:
    return bytes([number % 250 + 1]) * SIZE


def keep(cache: PieceCache, *numbers: int, key: str = KEY) -> list[bool]:
    return [cache.keep(key, number, memoryview(piece(number))) for number in numbers]


def has(cache: PieceCache, *numbers: int, key: str = KEY) -> list[bool]:
    found = []
    for number in numbers:
        buffer = bytearray(SIZE)
        found.append(cache.read(key, number, memoryview(buffer)))
        assert bytes(buffer) == piece(number) or not found[-1]
    return found


def held(folder: Path) -> int:
    """Bytes of all pieces, finished or not."""
    return sum(path.stat().st_size for path in (folder / "pieces").rglob("*") if path.is_file())


def age_all(folder: Path, seconds: float = 3600) -> None:
    for path in (folder / "pieces").rglob("*"):
        os.utime(path, (path.stat().st_mtime - seconds,) * 2)


def test_what_is_kept_is_read(folder: Path) -> None:
    cache = PieceCache(folder, 10 * STORED)
    assert has(cache, 1) == [False]
    assert keep(cache, 1, 2) == [True, True]
    assert has(cache, 1, 2, 3) == [True, True, False]
    assert has(cache, 1, key=OTHER) == [False]
    assert has(PieceCache(folder, 10 * STORED), 1) == [True]
    assert keep(cache, 1) == [False]  # it is there
    assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    "damage", ["flipped", "header", "short", "long", "empty", "folder", "link"]
)
def test_a_damaged_piece_is_not_there(damage: str, folder: Path) -> None:
    cache = PieceCache(folder, 10 * STORED)
    keep(cache, 1)
    path = folder / "pieces" / KEY / "00000001"
    data = bytearray(path.read_bytes())
    if damage == "flipped":
        data[-1] ^= 1
    elif damage == "header":
        data[0] ^= 1
    elif damage == "short":
        del data[-1]
    elif damage == "long":
        data += b"x"
    elif damage == "empty":
        data.clear()
    path.write_bytes(data)
    if damage == "folder":
        path.unlink()
        path.mkdir()
    elif damage == "link":
        path.rename(folder / "elsewhere")
        path.symlink_to(folder / "elsewhere")
    assert has(cache, 1) == [False]
    if damage not in {"folder", "link"}:
        assert keep(cache, 1) == [True]  # and is replaced
        assert has(cache, 1) == [True]


def test_the_oldest_goes_first(folder: Path) -> None:
    keep(PieceCache(folder, 10 * STORED), *range(10))
    age_all(folder)
    cache = PieceCache(folder, 10 * STORED)
    assert has(cache, 0, 5) == [True, True]  # used now, and noted
    assert keep(cache, 20) == [True]
    assert held(folder) <= 10 * STORED
    assert has(cache, 0, 5, 20) == [True, True, True]
    assert has(cache, 1) == [False]


def test_a_model_larger_than_the_cache_keeps_its_beginning(folder: Path) -> None:
    for _ in range(2):
        cache = PieceCache(folder, 4 * STORED)
        for number in range(10):
            if not all(has(cache, number)):
                keep(cache, number)
        assert has(cache, 0, 1, 2, 3, 4) == [True, True, True, True, False]
        age_all(folder, 30)


def test_a_bound_that_became_smaller(folder: Path) -> None:
    keep(PieceCache(folder, 10 * STORED), *range(10))
    age_all(folder)
    cache = PieceCache(folder, 3 * STORED)
    assert keep(cache, 20) == [True]
    assert held(folder) <= 3 * STORED


def test_the_bound_holds_while_threads_write(folder: Path) -> None:
    caches = [PieceCache(folder, 7 * STORED) for _ in range(4)]
    seen: list[int] = []

    def write(index: int) -> None:
        for number in range(30):
            caches[index]._full_until = 0.0
            keep(caches[index], number, key=f"{index:02x}" * 32)
            seen.append(held_locked(folder))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    assert max(seen) <= 7 * STORED
    assert max(seen) >= 5 * STORED


def held_locked(folder: Path) -> int:
    """Bytes of all pieces, while nobody takes or makes room. A rename does not count twice."""
    fd, sizes = os.open(folder / ".usage", os.O_RDONLY), {}
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        for path in folder.glob("pieces/*/*"):
            with suppress(FileNotFoundError):
                info = path.stat()
                sizes[info.st_ino] = info.st_size
    finally:
        os.close(fd)
    return sum(sizes.values())


@pytest.mark.parametrize("moment", ["room", "written"])
def test_a_process_that_is_killed(moment: str, folder: Path) -> None:
    """What it was writing counts against the bound, and goes when it is old."""
    program = f"""
import os, signal
from pathlib import Path
from regalia.store import piece_cache as module
cache = module.PieceCache(Path({str(folder)!r}), {4 * STORED})
cache.keep("{KEY}", 1, memoryview(b"x" * {SIZE}))
def die(*_, **__): os.kill(os.getpid(), signal.SIGKILL)
if {moment!r} == "room":
    module._write_piece = die
else:
    os.rename = die
cache.keep("{KEY}", 2, memoryview(b"x" * {SIZE}))
"""
    done = subprocess.run([sys.executable, "-c", program], check=False, env=os.environ)
    assert done.returncode == -9
    time.sleep(0.05)  # files are dated by a clock that ticks every few milliseconds
    assert held(folder) == 2 * STORED
    cache = PieceCache(folder, 4 * STORED)
    assert has(cache, 2) == [False]
    assert keep(cache, 3, 4) == [True, True]
    assert keep(cache, 5) == [True]  # in the place of the one that the other process had
    assert has(cache, 1, 3, 4, 5) == [False, True, True, True]
    assert held(folder) == 4 * STORED
    age_all(folder)
    PieceCache(folder, 4 * STORED)
    assert held(folder) == 3 * STORED


def test_a_lost_count_is_made_anew(folder: Path) -> None:
    cache = PieceCache(folder, 4 * STORED)
    keep(cache, 1, 2, 3, 4)
    (folder / ".usage").write_bytes(b"")
    cache._full_until = 0.0
    assert keep(cache, 5) == [False]
    assert held(folder) == 4 * STORED


@pytest.mark.parametrize("call", ["posix_fallocate", "pwrite"])
def test_a_full_disk_is_no_error(call: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = PieceCache(folder, 10 * STORED)
    real = getattr(os, call)

    def full(fd: int, *arguments: object) -> object:
        if call == "pwrite" and len(arguments) > 1 and arguments[1] == 0:
            return real(fd, *arguments)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module.os, call, full)
    assert keep(cache, 1) == [False]
    monkeypatch.undo()
    assert held(folder) == 0
    assert keep(cache, 1) == [False]  # not asked again at once
    cache._full_until = 0.0
    assert keep(cache, 1) == [True]


def test_use_is_noted(folder: Path) -> None:
    cache = PieceCache(folder, 10 * STORED)
    keep(cache, 1)
    age_all(folder)
    has(cache, 1)
    assert time.time() - (folder / "pieces" / KEY / "00000001").stat().st_mtime < 60


def test_a_blob_is_forgotten(folder: Path) -> None:
    cache = PieceCache(folder, 10 * STORED)
    keep(cache, 1, 2)
    keep(cache, 1, key=OTHER)
    cache.forget(KEY)
    cache.forget("00" * 32)
    assert has(cache, 1, 2) == [False, False]
    assert has(cache, 1, key=OTHER) == [True]


def test_a_folder_with_something_else(folder: Path) -> None:
    folder.mkdir()
    (folder / "photo").write_bytes(b"cat")
    with pytest.raises(LocalError) as caught:
        PieceCache(folder, 10 * STORED)
    assert caught.value.code is CoreCode.FILE_EXISTS
    assert (folder / "photo").exists()


def test_a_layout_of_another_version(folder: Path) -> None:
    PieceCache(folder, 10 * STORED)
    (folder / "regalia-cache").write_bytes(b"2\n")
    with pytest.raises(LocalError):
        PieceCache(folder, 10 * STORED)
