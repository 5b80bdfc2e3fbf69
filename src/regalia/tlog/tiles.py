"""Encodes and parses paths and contents of tiles and entry bundles of C2SP tlog-tiles.

tile/<L>/<N>[.p/<W>]         W hashes of 32 bytes, at tree level 8·L
tile/entries/<N>[.p/<W>]     W entries, each after its length (2 bytes, big-endian)
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from regalia.core.errors import CoreCode, ParseError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

TILE_HEIGHT = 8  # levels of the tree that a tile spans
TILE_WIDTH = 1 << TILE_HEIGHT  # hashes in a full tile
LEVEL_MAX = 7  # 8 tile levels of 8 tree levels are enough for 2^63 - 1 entries
ENTRY_MAX = (1 << 16) - 1  # bytes
BUNDLE_MAX = TILE_WIDTH * (2 + ENTRY_MAX)  # bytes

_PATH = re.compile(
    r"tile/(?P<level>entries|[0-7])"
    r"/(?P<n>(?:x[0-9]{3}/){0,6}[0-9]{3})"
    r"(?:\.p/(?P<width>[1-9][0-9]{0,2}))?"
)


@dataclass(frozen=True, slots=True)
class Tile:
    """Identifies one tile or entry bundle."""

    level: int | None  # tile level; None for an entry bundle
    n: int  # position of the tile in its level
    width: int = TILE_WIDTH  # number of hashes or entries; fewer in a partial tile

    def path(self) -> str:
        """Path relative to the log's prefix: three digits a segment, all but the last with x."""
        digits = str(self.n)
        digits = digits.zfill((len(digits) + 2) // 3 * 3)
        groups = [digits[i : i + 3] for i in range(0, len(digits), 3)]
        name = "/".join([f"x{group}" for group in groups[:-1]] + groups[-1:])
        level = "entries" if self.level is None else str(self.level)
        partial = f".p/{self.width}" if self.width < TILE_WIDTH else ""
        return f"tile/{level}/{name}{partial}"


def parse_tile_path(path: str) -> Tile:
    """Parse a path. Inverse of ``Tile.path``. Raises ParseError MALFORMED."""
    match = _PATH.fullmatch(path)
    if match is None:
        raise ParseError(CoreCode.MALFORMED, f"tile path {path[:80]!r}")
    level = None if match["level"] == "entries" else int(match["level"])
    width = int(match["width"]) if match["width"] else TILE_WIDTH
    tile = Tile(level, int(match["n"].replace("x", "").replace("/", "")), width)
    # Refuse other spellings, such as leading zero segments or a full tile written as partial.
    if tile.path() != path:
        raise ParseError(CoreCode.MALFORMED, f"tile path {path[:80]!r}")
    return tile


def tiles_of(level: int | None, size: int) -> Iterator[Tile]:
    """Yield all tiles of one level. The last one may be partial.

    Args:
        level: tile level of the hashes, from 0; None for entry bundles.
        size: number of entries in the log.
    """
    count = size >> (TILE_HEIGHT * (level or 0))
    for n in range((count + TILE_WIDTH - 1) // TILE_WIDTH):
        yield Tile(level, n, min(TILE_WIDTH, count - n * TILE_WIDTH))


def encode_bundle(entries: Sequence[bytes]) -> bytes:
    """Encode an entry bundle."""
    return b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries)


def parse_bundle(data: bytes, width: int) -> list[bytes]:
    """Parse an entry bundle. Inverse of ``encode_bundle``.

    Args:
        data: contents of the bundle, raw and untrusted.
        width: number of entries that the bundle must hold.

    Raises:
        ParseError: the bundle does not hold exactly ``width`` entries.
    """
    entries = []
    offset = 0
    for _ in range(width):
        end = offset + 2 + int.from_bytes(data[offset : offset + 2], "big")
        if offset + 2 > len(data) or end > len(data):
            raise ParseError(CoreCode.MALFORMED, "entry bundle: it ends inside an entry")
        entries.append(data[offset + 2 : end])
        offset = end
    if offset != len(data):
        raise ParseError(CoreCode.MALFORMED, "entry bundle: bytes after the last entry")
    return entries
