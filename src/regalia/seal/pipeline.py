"""A bounded pipeline: work in parallel, then each of several steps in order.

    slot ─► work (any thread) ─┬─► step 1 (its own thread, in order of submission)
                               └─► step 2 (its own thread, in order of submission)

A slot is a set of buffers. There are only as many as were given, so memory is bounded whatever
the length of the input, and the fastest stage waits for the slowest.
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

_BUFFERS_LIMIT = 64 * MIB  # bytes, all slots of one pipeline together
_SLOTS_MIN = 4


def slot_count(threads: int, slot_size: int) -> int:
    """How many slots of ``slot_size`` bytes keep ``threads`` and the steps busy.

    Args:
        threads: that encrypt.
        slot_size: bytes.
    """
    return max(_SLOTS_MIN, min(_BUFFERS_LIMIT // slot_size, 2 * threads + 8))


class Pipeline(Generic[Slot]):
    """Use as a context manager; leaving it early cancels what has not begun."""

    def __init__(
        self,
        slots: Iterable[Slot],
        *,
        threads: int,
        work: Callable[[Slot], None],
        steps: tuple[Callable[[Slot], None], ...],
    ) -> None:
        """``threads`` run ``work``; each step has one more thread of its own."""
        self._free = deque(slots)
        self._busy: deque[tuple[Slot, list[Future[None]]]] = deque()
        self._work = work
        self._steps = steps
        self._pool = ThreadPoolExecutor(threads)
        self._lanes = [ThreadPoolExecutor(1) for _ in steps]

    def take(self) -> Slot:
        """A free slot; waits for the oldest one if none is free. Raises that one's failure."""
        if not self._free:
            self._finish_oldest()
        return self._free.popleft()

    def submit(self, slot: Slot) -> None:
        """Send a slot through. It must not be touched until ``take`` returns it again."""
        worked = self._pool.submit(self._work, slot)

        def run(step: Callable[[Slot], None]) -> None:
            worked.result()
            step(slot)

        futures = [
            lane.submit(run, step) for lane, step in zip(self._lanes, self._steps, strict=True)
        ]
        self._busy.append((slot, [worked, *futures]))

    def drain(self) -> None:
        """Wait until everything submitted is through. Raises the first failure."""
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
        for executor in (self._pool, *self._lanes):
            executor.shutdown(wait=False, cancel_futures=True)
        for executor in (self._pool, *self._lanes):
            executor.shutdown(wait=True)
