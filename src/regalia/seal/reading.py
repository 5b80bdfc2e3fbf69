"""How a load reads its chunks: one by one from a disk, in long readings from a store far away.

A disk brings a chunk at the speed of its bytes, and a chunk that stays in the processor's cache is
decrypted fastest. A distant store lets every reading wait for its first byte. So there several
chunks come by one reading, and many readings are under way at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from regalia.core.codec import MIB

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from regalia.core.weights import Reading
    from regalia.seal.format.sealed import Geometry
    from regalia.seal.pieces import ChunkJob

_BUFFERS_MIN = 16 * MIB  # bytes of buffers that a load may always have
_SHARE = 64  # and a larger load this part of its size, which keeps its peak below 1.02


class ReadPlan(NamedTuple):
    """How a load divides its work.

    Attributes:
        threads: threads that read and decrypt, each one reading at a time.
        chunks: most chunks in one reading.
    """

    threads: int
    chunks: int


def plan_reading(total: int, stride: int, *, threads: int, reading: Reading | None) -> ReadPlan:
    """Divide a load.

    Args:
        total: bytes of plaintext in the chunks to load.
        stride: stored size of one chunk, in bytes.
        threads: as many as the caller wants at least.
        reading: how the store likes to be read; None if it is near.
    """
    if reading is None:
        return ReadPlan(threads, 1)
    room = max(_BUFFERS_MIN, total // _SHARE) // stride  # chunks in all buffers together
    liked = max(1, reading.size // stride)
    # Where there is no room for all that the store likes, half of the readings, longer ones: bytes
    # under way fill a link, and each reading has a price of its own.
    at_once = max(reading.at_once // 2, min(reading.at_once, room // liked))
    at_once = max(1, min(at_once, room, -(-total // stride)))
    chunks = max(1, min(room // at_once, liked))
    return ReadPlan(max(threads, at_once), chunks)


def batches(
    jobs: Iterable[ChunkJob], geometry: Geometry, most: int
) -> Iterator[tuple[ChunkJob, ...]]:
    """The same jobs in groups of chunks that follow each other in one shard.

    Args:
        jobs: in the order of the stream.
        geometry: says where a shard ends.
        most: chunks in a group.
    """
    group: list[ChunkJob] = []
    for job in jobs:
        ends = group and (
            len(group) == most
            or job.number != group[-1].number + 1
            or job.number % geometry.shard_chunks == 0
        )
        if ends:
            yield tuple(group)
            group = []
        group.append(job)
    if group:
        yield tuple(group)
