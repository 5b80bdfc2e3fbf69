"""Paths and contents of tiles and entry bundles: C2SP tlog-tiles.

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

TILE_HEIGHT = 8
TILE_WIDTH = 1 << TILE_HEIGHT
LEVEL_MAX = 7  # 8 · 8 levels hold every log of at most 2^63 - 1 entries
ENTRY_MAX = (1 << 16) - 1  # bytes
BUNDLE_MAX = TILE_WIDTH * (2 + ENTRY_MAX)  # bytes

_PATH = re.compile(
    r"tile/(?P<level>entries|[0-7])"
    r"/(?P<n>(?:x[0-9]{3}/){0,6}[0-9]{3})"
    r"(?:\.p/(?P<width>[1-9][0-9]{0,2}))?"
)


@dataclass(frozen=True, slots=True)
class Tile:
    """Names one tile; ``level`` is None for an entry bundle."""

    level: int | None
    n: int
    width: int = TILE_WIDTH

    def path(self) -> str:
        """Relative to the log's prefix."""
        digits = str(self.n)
        digits = digits.zfill((len(digits) + 2) // 3 * 3)
        groups = [digits[i : i + 3] for i in range(0, len(digits), 3)]
        name = "/".join([f"x{group}" for group in groups[:-1]] + groups[-1:])
        level = "entries" if self.level is None else str(self.level)
        partial = f".p/{self.width}" if self.width < TILE_WIDTH else ""
        return f"tile/{level}/{name}{partial}"


def parse_tile_path(path: str) -> Tile:
    """Inverse of ``Tile.path``. Raises ParseError MALFORMED for any other spelling."""
    match = _PATH.fullmatch(path)
    if match is None:
        raise ParseError(CoreCode.MALFORMED, f"tile path {path[:80]!r}")
    level = None if match["level"] == "entries" else int(match["level"])
    width = int(match["width"]) if match["width"] else TILE_WIDTH
    tile = Tile(level, int(match["n"].replace("x", "").replace("/", "")), width)
    if tile.path() != path:
        raise ParseError(CoreCode.MALFORMED, f"tile path {path[:80]!r}")
    return tile


def tiles_of(level: int | None, size: int) -> Iterator[Tile]:
    """Every tile of one level of a log of ``size`` entries; the last one may be partial.

    Args:
        level: of hashes, from 0; None for the entries themselves.
        size: entries of the log.
    """
    count = size >> (TILE_HEIGHT * (level or 0))
    for n in range((count + TILE_WIDTH - 1) // TILE_WIDTH):
        yield Tile(level, n, min(TILE_WIDTH, count - n * TILE_WIDTH))


def encode_bundle(entries: Sequence[bytes]) -> bytes:
    """An entry bundle."""
    return b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries)


def parse_bundle(data: bytes, width: int) -> list[bytes]:
    """Inverse of ``encode_bundle``. Raises ParseError unless it holds exactly ``width``.

    Args:
        data: raw, untrusted.
        width: entries that the bundle must hold.
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
