from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regalia.core.errors import ParseError
from regalia.tlog.tiles import (
    BUNDLE_MAX,
    ENTRY_MAX,
    LEVEL_MAX,
    Tile,
    encode_bundle,
    parse_bundle,
    parse_tile_path,
    tiles_of,
)


@pytest.mark.parametrize(
    ("tile", "path"),
    [
        (Tile(0, 0), "tile/0/000"),
        (Tile(None, 0, 5), "tile/entries/000.p/5"),
        (Tile(3, 1234067), "tile/3/x001/x234/067"),  # the example of C2SP tlog-tiles
        (Tile(1, 999, 255), "tile/1/999.p/255"),
        (Tile(0, 1000), "tile/0/x001/000"),
    ],
)
def test_paths(tile: Tile, path: str) -> None:
    assert tile.path() == path
    assert parse_tile_path(path) == tile


@given(st.one_of(st.none(), st.integers(0, 7)), st.integers(0, 10**20), st.integers(1, 256))
def test_path_round_trip(level: int | None, n: int, width: int) -> None:
    tile = Tile(level, n, width)
    assert parse_tile_path(tile.path()) == tile


@pytest.mark.parametrize(
    "path",
    [
        "",
        "tile/8/000",
        "tile/00/000",
        "tile/0/0",
        "tile/0/x000/000",
        "tile/0/001/000",
        "tile/0/x001",
        "tile/0/000.p/0",
        "tile/0/000.p/256",
        "tile/0/000.p/05",
        "tile/0/000.p/",
        "tile/0/000/",
        "/tile/0/000",
        "tile/0/../000",
        "tile/entries/000\n",
        "tile/0/" + "\N{ARABIC-INDIC DIGIT ZERO}" * 3,
        "tile/data/000",
        "tile/0/" + "x001/" * 50 + "000",
    ],
)
def test_paths_that_are_none(path: str) -> None:
    with pytest.raises(ParseError):
        parse_tile_path(path)


def test_tiles_of_a_log() -> None:
    assert list(tiles_of(0, 0)) == []
    assert list(tiles_of(None, 256)) == [Tile(None, 0)]
    assert list(tiles_of(0, 600)) == [Tile(0, 0), Tile(0, 1), Tile(0, 2, 88)]
    assert list(tiles_of(1, 600)) == [Tile(1, 0, 2)]
    assert list(tiles_of(2, 600)) == []


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_bundle_round_trip(entries: list[bytes]) -> None:
    assert parse_bundle(encode_bundle(entries), len(entries)) == entries


@pytest.mark.parametrize(
    ("data", "width"),
    [(b"", 1), (b"\0", 1), (b"\0\1", 1), (b"\0\1a\0", 1), (b"\0\1a", 2), (b"\0\1a\0\0", 1)],
)
def test_broken_bundles(data: bytes, width: int) -> None:
    with pytest.raises(ParseError):
        parse_bundle(data, width)


@pytest.mark.parametrize("data", [b"\0", b"\0\0\0", b"\0\1", b"\0\1a\0", b"\0\0\0\2a"])
def test_bundles_that_end_inside_an_entry(data: bytes) -> None:
    with pytest.raises(ParseError, match="it ends inside an entry"):
        parse_bundle(data, 2)


def test_bytes_after_the_last_entry() -> None:
    for data in (b"\0", b"\0\0\0"):
        with pytest.raises(ParseError, match="bytes after the last entry"):
            parse_bundle(data, data.count(b"\0") // 2)


def test_the_largest_bundle() -> None:
    largest = encode_bundle([b"x" * 0xFFFF] * 256)
    assert len(largest) == BUNDLE_MAX
    assert set(map(len, parse_bundle(largest, 256))) == {0xFFFF} == {ENTRY_MAX}
    with pytest.raises(OverflowError):
        encode_bundle([b"x" * 0x10000])


def test_the_highest_level() -> None:
    assert parse_tile_path(f"tile/{LEVEL_MAX}/000").level == LEVEL_MAX
    with pytest.raises(ParseError):
        parse_tile_path(f"tile/{LEVEL_MAX + 1}/000")
