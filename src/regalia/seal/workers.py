"""Work that several threads take item by item, and the certainty that all of them have stopped."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")


class SharedWork(Generic[T]):
    """Items that threads take one by one. May be used from several threads."""

    def __init__(self, items: Iterator[T]) -> None:
        self._items = items
        self._condition = threading.Condition()
        self._stopped = False
        self._inside = 0  # threads that may write

    @contextmanager
    def thread(self) -> Iterator[None]:
        """Count the calling thread as one that may write, until it leaves the block.

        A thread that fails stops the others.
        """
        with self._condition:
            self._inside += 1
        try:
            yield
        except BaseException:
            self.stop()
            raise
        finally:
            with self._condition:
                self._inside -= 1
                self._condition.notify_all()

    def take(self) -> T | None:
        """The next item; None if there is none, or no thread shall begin another."""
        with self._condition:
            return None if self._stopped else next(self._items, None)

    def stop(self) -> None:
        """Hand out no more items."""
        with self._condition:
            self._stopped = True

    def settle(self) -> None:
        """Wait until nobody writes any more. Call ``stop`` before: a late thread finds no item."""
        with self._condition:
            self._condition.wait_for(lambda: self._inside == 0)


def finish(step: Callable[[], object]) -> None:
    """Do what must be done before anything ends, however often somebody interrupts."""
    while True:
        try:
            step()
        except KeyboardInterrupt:
            continue
        return
