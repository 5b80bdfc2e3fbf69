"""Parts of the plaintext stream, the memory that they go to, and the chunks that hold them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from regalia.seal.faults import address_range

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from regalia.seal.format.sealed import Geometry


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of the plaintext stream, and the memory that it goes to.

    Attributes:
        offset: offset in the plaintext stream, in bytes.
        out: writable, contiguous memory; its length is the number of bytes to read, at least 1.

    Raises:
        ValueError: ``out`` is empty, read-only or not contiguous, or ``offset`` is negative.
    """

    offset: int
    out: memoryview

    def __post_init__(self) -> None:
        if self.out.readonly or not self.out.c_contiguous or not self.out.nbytes:
            raise ValueError("a piece goes to writable, contiguous memory of at least one byte")
        if self.offset < 0:
            raise ValueError("a piece begins in the stream")

    @property
    def end(self) -> int:
        """Stream offset after the last byte."""
        return self.offset + self.out.nbytes


@dataclass(frozen=True, slots=True)
class ChunkJob:
    """One chunk, and all pieces that want a part of it."""

    number: int  # in the stream
    start: int  # stream offset of its first byte
    stop: int  # stream offset after its last byte
    pieces: tuple[Piece, ...]

    @property
    def whole(self) -> Piece | None:
        """A piece that wants the whole chunk, if there is one."""
        for piece in self.pieces:
            if piece.offset <= self.start and self.stop <= piece.end:
                return piece
        return None


def in_order(pieces: Iterable[Piece], stream_size: int) -> tuple[Piece, ...]:
    """Sort pieces by their place in the stream, as bytes.

    Args:
        pieces: the pieces; parts of the stream may be in several of them.
        stream_size: number of bytes in the stream.

    Raises:
        ValueError: a piece leaves the stream, or two share memory. Both are bugs of the caller.
    """
    ordered = sorted(
        (Piece(piece.offset, piece.out.cast("B")) for piece in pieces),
        key=lambda piece: piece.offset,
    )
    if any(piece.end > stream_size for piece in ordered):
        raise ValueError("range leaves the stream")
    # Two threads would write there at once, and neither caller would get what it asked for.
    places = sorted(address_range(piece.out) for piece in ordered)
    if any(before > start for (_, before), (start, _) in pairwise(places)):
        raise ValueError("two pieces go to the same memory")
    return tuple(ordered)


def touched_chunks(spans: Iterable[tuple[int, int]], payload: int) -> Iterator[range]:
    """The numbers of the chunks that some ranges of the stream lie in, each number once.

    Args:
        spans: first and last offset of each range, in bytes, the last one not included. They are
            in ascending order of their first offset, and none is empty.
        payload: bytes of plaintext in every chunk except the last.
    """
    start = stop = 0
    for first, last in spans:
        if first // payload >= stop:
            if start < stop:
                yield range(start, stop)
            start = first // payload
        stop = max(stop, -(-last // payload))
    if start < stop:
        yield range(start, stop)


def chunk_jobs(ordered: Sequence[Piece], geometry: Geometry) -> Iterator[ChunkJob]:
    """Every chunk that the pieces touch, once, in the order of the stream.

    Args:
        ordered: result of ``in_order``.
        geometry: division of the stream into chunks.
    """
    payload = geometry.payload
    spans = ((piece.offset, piece.end) for piece in ordered)
    wanting: tuple[Piece, ...] = ()
    following = 0
    for numbers in touched_chunks(spans, payload):
        for number in numbers:
            start = number * payload
            stop = min(start + payload, geometry.stream_size)
            first = following
            while following < len(ordered) and ordered[following].offset < stop:
                following += 1
            still = tuple(piece for piece in wanting if piece.end > start)
            wanting = still + tuple(ordered[first:following])
            yield ChunkJob(number, start, stop, wanting)


def read_amplification(spans: Iterable[tuple[int, int]], geometry: Geometry) -> float:
    """Bytes of ciphertext that a load would read for each byte of the stream that it asks for.

    A chunk is authenticated as a whole, so a part of one costs the reading of all of it.

    Args:
        spans: offset and size of each part of the stream, in bytes, in any order. A byte that is
            in several of them counts once.
        geometry: division of the stream into chunks.

    Raises:
        ValueError: there is no part, or one is empty or leaves the stream.
    """
    ordered = sorted((offset, offset + size) for offset, size in spans)
    if not ordered or any(
        first < 0 or first >= last or last > geometry.stream_size for first, last in ordered
    ):
        raise ValueError("parts of the stream, each of at least one byte")
    asked, reached = 0, 0
    for first, last in ordered:
        asked += max(0, last - max(first, reached))
        reached = max(reached, last)
    return stored_bytes(ordered, geometry) / asked


def stored_bytes(spans: Iterable[tuple[int, int]], geometry: Geometry) -> int:
    """Bytes of ciphertext in all chunks that some ranges of the stream lie in, each chunk once.

    Args:
        spans: first and last offset of each range, as ``touched_chunks`` wants them.
        geometry: division of the stream into chunks.
    """
    payload = geometry.payload
    return sum(
        min(numbers.stop * payload, geometry.stream_size)
        - numbers.start * payload
        + len(numbers) * (geometry.stride - payload)
        for numbers in touched_chunks(spans, payload)
    )
