"""Progress reporting of long operations."""

from __future__ import annotations

import threading
from collections.abc import Callable

# Called with (bytes done so far, total bytes), by one thread at a time.
Progress = Callable[[int, int], None]


def no_progress(done: int, total: int) -> None:
    """Ignore progress.

    Args:
        done: number of bytes done so far.
        total: total number of bytes.
    """


class Counter:
    """Adds up the progress of several threads."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress = progress
        self._total = total
        self._done = 0
        self._lock = threading.Lock()

    def add(self, size: int) -> None:
        """Count ``size`` more bytes, and report the sum."""
        with self._lock:
            self._done += size
            self._progress(self._done, self._total)
