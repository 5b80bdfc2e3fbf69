"""Reads through a cache on disk and through peers, and from the store what neither of them has.

What is cached is known by its beginning: the SHA-256 of a sealed file's prefix (4096 bytes with a
random salt and a commitment to its key) and of its size. The prefix always comes from the store, so
an older version is never taken for the one that is there now. The manifest is not cached.

Neither cache nor peers can be trusted with content, and nothing here can tell: the reader can, by
the tags of chunks. ``reading_twice`` reads once more from the store itself if it refuses.
"""

from __future__ import annotations

import hashlib
import struct
import threading
from typing import TYPE_CHECKING, NamedTuple, Self, TypeVar

from regalia.core.weights import reading_of
from regalia.store.names import MANIFEST

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from regalia.core.weights import Reading
    from regalia.store.image import ClosingSource
    from regalia.store.peers import Peers
    from regalia.store.piece_cache import PieceCache

T = TypeVar("T")
PREFIX = 4096  # bytes at the beginning of a sealed file
PIECE = 1 << 20  # bytes; with the usual stride, one chunk
_LOCKS = 64
_DOMAIN = b"regalia/cached-file/v1"


class _Known(NamedTuple):
    key: str
    size: int
    prefix: bytes


class _Piece(NamedTuple):
    number: int
    start: int  # offset in the blob
    stop: int


class CachedBlobs:
    """A ``BlobSource`` in front of another one. May be used from several threads.

    Args:
        origin: the store itself. Closed with this.
        cache: on this machine; None for none.
        peers: other machines; None for none. Closed with this.
    """

    def __init__(
        self, origin: ClosingSource, cache: PieceCache | None, peers: Peers | None
    ) -> None:
        self._origin = origin
        self._cache = cache
        self._peers = peers
        self._known: dict[str, _Known] = {}
        self._served: set[str] = set()  # keys of blobs that did not come from the store alone
        self._lock = threading.Lock()
        self._locks = [threading.Lock() for _ in range(_LOCKS)]
        self._doubted = False
        self._had_copies = False

    def size(self, name: str) -> int:
        """As ``BlobSource``: the store says it."""
        return self._origin.size(name)

    def read_into(self, name: str, offset: int, buffer: memoryview) -> None:
        """As ``BlobSource``.

        Args:
            name: name of the blob.
            offset: offset of the first byte.
            buffer: buffer to fill.
        """
        flat = buffer.cast("B")
        size = self.size(name)
        if name == MANIFEST or size <= PREFIX or offset < 0 or offset + flat.nbytes > size:
            self._origin.read_into(name, offset, buffer)  # which refuses what is outside
            return
        known = self._beginning(name, size)
        end = offset + flat.nbytes
        if offset < PREFIX:
            head = known.prefix[offset:end]
            flat[: len(head)] = head
        absent = []
        for piece in _pieces(max(offset, PREFIX), end, size):
            if piece.start < offset or end < piece.stop:
                self._read_part(name, known, piece, offset, flat)
            elif not self._copied(known, piece, flat[piece.start - offset : piece.stop - offset]):
                absent.append(piece)
        for run in _runs(absent):
            self._fetch(name, known, run, flat[run[0].start - offset : run[-1].stop - offset])

    def reading(self) -> Reading | None:
        """As ``IsDistant``: the store says it."""
        return reading_of(self._origin)

    def distrust(self) -> bool:
        """Forget what the cache has of these blobs, and read from the store alone from now on.

        Returns:
            Whether anything had ever come from cache or peers, so that reading again makes sense.
        """
        with self._lock:
            served, self._served = self._served, set()
            self._had_copies = self._had_copies or bool(served)
            self._known.clear()
            self._doubted = True
        for key in served:
            if self._cache is not None:
                self._cache.forget(key)
        return self._had_copies

    def describe(self) -> str:
        """Address of the store."""
        return self._origin.describe()

    def close(self) -> None:
        """Close store and peers."""
        self._origin.close()
        if self._peers is not None:
            self._peers.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _beginning(self, name: str, size: int) -> _Known:
        with self._lock:
            known = self._known.get(name)
        if known is None:
            prefix = bytearray(PREFIX)
            self._origin.read_into(name, 0, memoryview(prefix))
            key = hashlib.sha256(_DOMAIN + struct.pack(">Q", size) + prefix).hexdigest()
            with self._lock:
                known = self._known.setdefault(name, _Known(key, size, bytes(prefix)))
        return known

    def _read_part(
        self, name: str, known: _Known, piece: _Piece, offset: int, flat: memoryview
    ) -> None:
        """Copy to ``flat``, which begins at ``offset`` of the blob, what it wants of a piece."""
        first, last = max(piece.start, offset), min(piece.stop, offset + flat.nbytes)
        whole = memoryview(bytearray(piece.stop - piece.start))
        # Several threads want parts of one piece; it is fetched for the first of them.
        with self._locks[hash((known.key, piece.number)) % _LOCKS]:
            if not self._copied(known, piece, whole):
                self._fetch(name, known, [piece], whole)
        flat[first - offset : last - offset] = whole[first - piece.start : last - piece.start]

    def _copied(self, known: _Known, piece: _Piece, buffer: memoryview) -> bool:
        """Fill the buffer with a whole piece from cache or peers. False if none of them has it."""
        if self._doubted:
            return False
        if self._cache is not None and self._cache.read(known.key, piece.number, buffer):
            self._served.add(known.key)
            return True
        if self._peers is not None and self._peers.read(known.key, piece.number, buffer):
            self._served.add(known.key)
            self._keep(known, piece, buffer)
            return True
        return False

    def _fetch(self, name: str, known: _Known, run: list[_Piece], buffer: memoryview) -> None:
        """Fill the buffer with pieces that follow each other, by one reading of the store."""
        start = run[0].start
        self._origin.read_into(name, start, buffer)
        for piece in run:
            self._keep(known, piece, buffer[piece.start - start : piece.stop - start])

    def _keep(self, known: _Known, piece: _Piece, buffer: memoryview) -> None:
        if self._cache is not None:
            self._cache.keep(known.key, piece.number, buffer)


def _pieces(start: int, stop: int, size: int) -> Iterator[_Piece]:
    """The pieces that hold bytes ``start`` to ``stop`` of a blob; both lie behind its prefix."""
    for number in range((start - PREFIX) // PIECE, -(-(stop - PREFIX) // PIECE)):
        first = PREFIX + number * PIECE
        yield _Piece(number, first, min(first + PIECE, size))


def _runs(pieces: list[_Piece]) -> Iterator[list[_Piece]]:
    """The same pieces, grouped by which follow each other without a gap."""
    run: list[_Piece] = []
    for piece in pieces:
        if run and run[-1].number + 1 != piece.number:
            yield run
            run = []
        run.append(piece)
    if run:
        yield run
