"""Chunks that a reading has decrypted and not used up: kept for the next one.

A chunk is authenticated as a whole, so whoever wants its end has to decrypt its beginning as well.
A worker walks through the model in the order in which it is stored, and what it wants next often
begins in the chunk in which the last part has ended.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from regalia.runtime.memory import LockedMemory, MemoryKind

if TYPE_CHECKING:
    from regalia.seal.format.sealed import Geometry

CHUNKS = 4  # that are kept at most: the two ends of a reading, and those of the one before


class KeptChunks:
    """Memory for a few chunks: locked, not dumped, and wiped.

    Args:
        geometry: division of the model's stream into chunks.
    """

    def __init__(self, geometry: Geometry) -> None:
        self._geometry = geometry
        # As far as the limit allows, as all memory that tensors wait in on their way to an engine.
        self._memory = LockedMemory(MemoryKind.LOCKED, dangerous_allow_unlocked=True)
        self._slots: list[memoryview] = []
        self._places: dict[int, int] = {}  # slot by chunk; the first was used longest ago

    def find(self, number: int) -> memoryview | None:
        """A chunk's plaintext; None if it is not here.

        Args:
            number: of the chunk in the stream.
        """
        place = self._places.pop(number, None)
        if place is None:
            return None
        self._places[number] = place
        return self._chunk(number, place)

    def claim(self, number: int) -> memoryview:
        """Memory for a chunk that is not here, in place of the one that was used longest ago.

        Args:
            number: of the chunk in the stream. If it cannot be decrypted, ``wipe`` all.

        Raises:
            LocalError: there is no memory.
        """
        if not self._slots:
            payload = self._geometry.payload
            whole = self._memory.allocate(CHUNKS * payload)
            self._slots = [whole[at * payload : (at + 1) * payload] for at in range(CHUNKS)]
        used = len(self._places)
        place = used if used < CHUNKS else self._places.pop(next(iter(self._places)))
        self._places[number] = place
        return self._chunk(number, place)

    def wipe(self) -> None:
        """Overwrite all chunks, and forget them."""
        self._places.clear()
        self._memory.wipe()

    def _chunk(self, number: int, place: int) -> memoryview:
        payload = self._geometry.payload
        return self._slots[place][: min(payload, self._geometry.stream_size - number * payload)]
