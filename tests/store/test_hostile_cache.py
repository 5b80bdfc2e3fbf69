"""A cache folder that somebody else writes to: links, pipes, locks, dates of tomorrow."""

from __future__ import annotations

import fcntl
import os
import time
from typing import TYPE_CHECKING

import pytest

from regalia.store import piece_cache as module
from regalia.store.piece_cache import HEADER, PIECES, PieceCache
from regalia.store.server import open_piece

if TYPE_CHECKING:
    from pathlib import Path

KEY, OTHER = "ab" * 32, "cd" * 32
PIECE = b"p" * 1000
STORED = len(PIECE) + HEADER
DAY_S = 86_400


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    """A folder of somebody else, whose file looks like a piece."""
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "00000001").write_bytes(b"of somebody else")
    os.utime(tmp_path / "precious" / "00000001", (1, 1))
    return tmp_path / "precious"


def keep(cache: PieceCache, number: int, key: str = KEY) -> bool:
    return cache.keep(key, number, memoryview(PIECE))


def has(cache: PieceCache, number: int, key: str = KEY) -> bool:
    return cache.read(key, number, memoryview(bytearray(len(PIECE))))


def untouched(precious: Path) -> bool:
    return {path.name: path.read_bytes() for path in precious.iterdir()} == {
        "00000001": b"of somebody else"
    }


def test_a_linked_folder_of_pieces_is_not_followed(folder: Path, precious: Path) -> None:
    cache = PieceCache(folder, 3 * STORED)
    (folder / PIECES / KEY).symlink_to(precious)
    assert not has(cache, 1)
    assert not keep(cache, 2)
    cache.forget(KEY)
    PieceCache(folder, 3 * STORED)
    assert untouched(precious)
    assert open_piece(folder, KEY, "00000001") is None


def test_a_linked_folder_of_all_pieces_is_not_followed(
    folder: Path, precious: Path, tmp_path: Path
) -> None:
    cache = PieceCache(folder, STORED)
    (folder / PIECES).rmdir()
    (tmp_path / "all").mkdir()
    precious = precious.rename(tmp_path / "all" / KEY)
    (folder / PIECES).symlink_to(tmp_path / "all")
    assert not has(cache, 1)
    assert not keep(cache, 2, OTHER)  # which would make room
    cache.forget(KEY)
    assert untouched(precious)
    assert open_piece(folder, KEY, "00000001") is None


def test_a_pipe_in_place_of_a_piece_blocks_nobody(folder: Path) -> None:
    cache = PieceCache(folder, 3 * STORED)
    keep(cache, 1)
    path = folder / PIECES / KEY / "00000001"
    path.unlink()
    os.mkfifo(path)
    assert not has(cache, 1)
    assert not path.exists()


def test_a_lock_that_somebody_keeps_delays_and_stops_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LOCK_OPEN_S", 0.1)
    monkeypatch.setattr(module, "_LOCK_KEEP_S", 0.1)
    keep(PieceCache(folder, 3 * STORED), 1)
    with (folder / ".usage").open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        began = time.monotonic()
        cache = PieceCache(folder, 3 * STORED)
        assert has(cache, 1)
        assert not keep(cache, 2)
        assert not keep(cache, 3)  # which does not wait again
        assert time.monotonic() - began < 10
    assert keep(PieceCache(folder, 3 * STORED), 2)


def test_dates_of_tomorrow_do_not_keep_a_cache_full(folder: Path) -> None:
    cache = PieceCache(folder, 3 * STORED)
    assert [keep(cache, number) for number in (1, 2, 3)] == [True] * 3
    leftover = folder / PIECES / KEY / ".00000009-abcdabcd"
    leftover.write_bytes(b"")
    for path in (folder / PIECES / KEY).iterdir():
        os.utime(path, (time.time() + DAY_S,) * 2)
    assert keep(PieceCache(folder, 3 * STORED), 4)
    assert not leftover.exists()
