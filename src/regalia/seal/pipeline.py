"""A bounded pipeline: items are processed in parallel, and then by several steps in order.

    slot ─► work (any thread) ─┬─► step 1 (its own thread, in order of submission)
                               └─► step 2 (its own thread, in order of submission)

A slot is a set of buffers. The number of slots is fixed, so memory is bounded for inputs of any
length, and the fastest stage waits for the slowest.
"""

from __future__ import annotations

import threading
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Generic, Self, TypeVar

from regalia.core.codec import MIB
from regalia.core.errors import RegaliaError
from regalia.seal.workers import Crew, finish

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType

Slot = TypeVar("Slot")

_BUFFERS_LIMIT = 64 * MIB  # bytes in all slots of one pipeline
_SLOTS_MIN = 4
_POLL = 0.05  # seconds between two looks at whether the pipeline was stopped


def slot_count(threads: int, slot_size: int) -> int:
    """Number of slots that keep all threads and steps busy within the memory limit.

    Args:
        threads: number of threads that encrypt or decrypt.
        slot_size: number of bytes in one slot.
    """
    return max(_SLOTS_MIN, min(_BUFFERS_LIMIT // slot_size, 2 * threads + 8))


class _Item(Generic[Slot]):
    """A slot that was submitted, and how far it is."""

    def __init__(self, slot: Slot, steps: int) -> None:
        self.slot = slot
        self.left = steps  # steps that it has not passed
        self.worked = threading.Event()  # waited for and set by the pipeline's own threads only


class Pipeline(Generic[Slot]):
    """Pipeline to be used as a context manager. Leaving it early cancels pending items."""

    def __init__(
        self,
        slots: Iterable[Slot],
        *,
        threads: int,
        work: Callable[[Slot], None],
        steps: tuple[Callable[[Slot], None], ...],
        done: Callable[[Slot], None] = lambda _: None,
    ) -> None:
        """Entering starts ``threads`` threads for ``work``, and one more for each step.

        Args:
            slots: sets of buffers.
            threads: number of threads that do ``work``.
            work: what is done with each slot, in any order.
            steps: at least one; what is done afterwards, in the order of submission.
            done: called with each slot that passed all steps, in the order of submission and in
                the thread that calls ``take`` and ``drain``, or leaves.
        """
        self._crew = Crew()
        self._guard = threading.Lock()
        self._free = deque(slots)
        self._in_use = 0
        # What comes back: slots that passed all steps, and the exceptions of those that do not.
        self._back: SimpleQueue[Slot | _Failed] = SimpleQueue()
        self._work = work
        self._done = done
        self._threads = threads
        self._queue: SimpleQueue[_Item[Slot] | None] = SimpleQueue()
        self._steps = [(step, SimpleQueue[_Item[Slot] | None]()) for step in steps]

    def take(self) -> Slot:
        """Return a free slot, after waiting for one if necessary.

        Raises the exception with which a slot failed.
        """
        while not self._back.empty():
            self._free.append(self._collect())
        return self._free.popleft() if self._free else self._collect()

    def _collect(self) -> Slot:
        back = self._back.get()
        if isinstance(back, _Failed):
            raise back.why
        self._in_use -= 1
        self._done(back)
        return back

    def submit(self, slot: Slot) -> None:
        """Process a slot. The caller must not use it until ``take`` returns it again."""
        item = _Item(slot, len(self._steps))
        self._in_use += 1
        self._queue.put(item)
        # Each step is one thread with a first-in, first-out queue, which keeps it in the order of
        # submission although ``work`` finishes in any order.
        for _, queue in self._steps:
            queue.put(item)

    def drain(self) -> None:
        """Wait until all submitted slots are processed. Raises the first exception."""
        while self._in_use:
            self._free.append(self._collect())

    def _run_work(self) -> None:
        while (item := self._queue.get()) is not None:
            try:
                if not self._crew.stopped:
                    self._work(item.slot)
            except BaseException as exc:
                self._fail(exc)
                raise
            finally:
                item.worked.set()

    def _run_step(
        self, step: Callable[[Slot], None], queue: SimpleQueue[_Item[Slot] | None]
    ) -> None:
        while (item := queue.get()) is not None:
            while not item.worked.wait(_POLL):
                if self._crew.stopped:
                    return
            if self._crew.stopped:
                return
            try:
                step(item.slot)
            except BaseException as exc:
                self._fail(exc)
                raise
            with self._guard:
                item.left -= 1
                free = item.left == 0
            if free:
                self._back.put(item.slot)

    def _fail(self, why: BaseException) -> None:
        self._crew.stopped = True  # before the step of this slot may begin
        self._back.put(_Failed(why))

    def __enter__(self) -> Self:
        for _ in range(self._threads):
            self._crew.start(self._run_work)
        for step, queue in self._steps:
            self._crew.start(partial(self._run_step, step, queue))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        finish(self._end)
        # Also those count that passed all steps before the others were stopped.
        with suppress(RegaliaError):
            while not self._back.empty():
                back = self._back.get()
                if not isinstance(back, _Failed):
                    self._done(back)

    def _end(self) -> None:
        self._crew.stopped = True
        for queue in (*[self._queue] * self._threads, *(queue for _, queue in self._steps)):
            queue.put(None)
        self._crew.settle()


@dataclass(frozen=True)
class _Failed:
    """What comes back in place of a slot."""

    why: BaseException
