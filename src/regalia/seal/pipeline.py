"""A bounded pipeline: items are processed in parallel, and then by several steps in order.

    slot ─► work (any thread) ─┬─► step 1 (its own thread, in order of submission)
                               └─► step 2 (its own thread, in order of submission)

A slot is a set of buffers. The number of slots is fixed, so memory is bounded for inputs of any
length, and the fastest stage waits for the slowest.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Generic, Self, TypeVar

from regalia.core.codec import MIB

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from concurrent.futures import Future
    from types import TracebackType

Slot = TypeVar("Slot")

_BUFFERS_LIMIT = 64 * MIB  # bytes in all slots of one pipeline
_SLOTS_MIN = 4


def slot_count(threads: int, slot_size: int) -> int:
    """Number of slots that keep all threads and steps busy within the memory limit.

    Args:
        threads: number of threads that encrypt or decrypt.
        slot_size: number of bytes in one slot.
    """
    return max(_SLOTS_MIN, min(_BUFFERS_LIMIT // slot_size, 2 * threads + 8))


class Pipeline(Generic[Slot]):
    """Pipeline to be used as a context manager. Leaving it early cancels pending items."""

    def __init__(
        self,
        slots: Iterable[Slot],
        *,
        threads: int,
        work: Callable[[Slot], None],
        steps: tuple[Callable[[Slot], None], ...],
    ) -> None:
        """Start ``threads`` threads for ``work``, and one additional thread for each step."""
        self._free = deque(slots)
        self._busy: deque[tuple[Slot, list[Future[None]]]] = deque()
        self._work = work
        self._steps = steps
        self._pool = ThreadPoolExecutor(threads)
        self._lanes = [ThreadPoolExecutor(1) for _ in steps]

    def take(self) -> Slot:
        """Return a free slot, after waiting for the oldest one if necessary.

        Raises the exception with which the oldest slot failed.
        """
        if not self._free:
            self._finish_oldest()
        return self._free.popleft()

    def submit(self, slot: Slot) -> None:
        """Process a slot. The caller must not use it until ``take`` returns it again."""
        worked = self._pool.submit(self._work, slot)

        # Each lane is one thread with a first-in, first-out queue, which keeps every step in the
        # order of submission although ``work`` finishes in any order.
        def run(step: Callable[[Slot], None]) -> None:
            worked.result()
            step(slot)

        futures = [
            lane.submit(run, step) for lane, step in zip(self._lanes, self._steps, strict=True)
        ]
        self._busy.append((slot, [worked, *futures]))

    def drain(self) -> None:
        """Wait until all submitted slots are processed. Raises the first exception."""
        while self._busy:
            self._finish_oldest()

    def _finish_oldest(self) -> None:
        slot, futures = self._busy.popleft()
        for future in futures:
            future.result()
        self._free.append(slot)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Cancel everywhere before waiting anywhere: a lane that waits for cancelled work ends at
        # once.
        for executor in (self._pool, *self._lanes):
            executor.shutdown(wait=False, cancel_futures=True)
        for executor in (self._pool, *self._lanes):
            executor.shutdown(wait=True)
