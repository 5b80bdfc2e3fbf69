"""How long runs say where they are."""

from __future__ import annotations

import threading
from collections.abc import Callable

# Called with (bytes done so far, bytes in all), by one thread at a time.
Progress = Callable[[int, int], None]


def no_progress(done: int, total: int) -> None:
    """Say nothing.

    Args:
        done: bytes.
        total: bytes.
    """


class Counter:
    """Adds up what several threads have done."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress = progress
        self._total = total
        self._done = 0
        self._lock = threading.Lock()

    def add(self, size: int) -> None:
        """``size`` more bytes are done."""
        with self._lock:
            self._done += size
            self._progress(self._done, self._total)
