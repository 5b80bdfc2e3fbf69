"""Threads of one operation that certainly end, wherever the main thread is interrupted.

A signal handler raises KeyboardInterrupt in the main thread between two instructions, and so also
after a lock of ``threading.Condition`` was taken and before the statement that gives it back,
because these locks are written in Python. Whoever wants such a lock afterwards waits forever.
Futures, events and thread pools consist of them. So the thread that starts a crew uses only what
is a single instruction: plain locks, simple queues and attributes.
"""

from __future__ import annotations

import _thread
import threading
import time
from queue import SimpleQueue
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")

_POLL = 0.001  # seconds between two looks at who is still inside


class Crew:
    """Threads that work until they are done, until one of them fails, or until ``stop``."""

    def __init__(self) -> None:
        self.stopped = False  # nobody shall begin anything more
        self._guard = threading.Lock()
        self._inside = 0  # threads that may write
        self._started = 0
        self._ended: SimpleQueue[BaseException | None] = SimpleQueue()

    def start(self, work: Callable[[], None]) -> None:
        """Start a thread. When it fails, the crew is stopped and ``wait`` raises its exception.

        Args:
            work: what it does. It looks at ``stopped`` before each of its steps.
        """
        self._started += 1
        # threading.Thread.start waits for an event.
        _thread.start_new_thread(self._run, (work,))

    def _run(self, work: Callable[[], None]) -> None:
        failure = None
        with self._guard:
            self._inside += 1
        try:
            if not self.stopped:  # a thread that begins late finds nothing to do
                work()
        except BaseException as exc:  # noqa: BLE001 - raised by ``wait``, in the thread that waits
            self.stopped = True
            failure = exc
        with self._guard:
            self._inside -= 1
        self._ended.put(failure)

    def wait(self) -> None:
        """Wait until all threads have ended, or raise the first failure."""
        for _ in range(self._started):
            if (failure := self._ended.get()) is not None:
                raise failure

    def settle(self) -> None:
        """Stop, and wait until nobody writes any more, also no thread that begins later."""
        self.stopped = True
        while self._inside:
            time.sleep(_POLL)


def in_threads(count: int, work: Callable[[Crew], None]) -> None:
    """Do the same in several threads. When this returns or raises, none of them works any more.

    Args:
        count: number of threads.
        work: what each does, with the crew that it belongs to.

    Raises:
        Exception: as the first ``work`` that failed.
    """
    crew = Crew()
    try:
        for _ in range(count):
            crew.start(lambda: work(crew))
        crew.wait()
    except BaseException:
        finish(crew.settle)
        raise


class SharedItems(Generic[T]):
    """Items that threads take one by one."""

    def __init__(self, items: Iterator[T]) -> None:
        self._items = items
        self._guard = threading.Lock()

    def take(self) -> T | None:
        """The next item; None if there is none."""
        with self._guard:
            return next(self._items, None)


def finish(step: Callable[[], object]) -> None:
    """Do what must be done before anything ends, however often somebody interrupts."""
    while True:
        try:
            step()
        except KeyboardInterrupt:
            continue
        return
