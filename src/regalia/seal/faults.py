"""Reduces the cost of page faults in a destination, which exceeds the cost of decryption.

Without hints, the kernel handles one fault for every page that a decryption touches first. Here
one system call populates a block of pages just before it is written, either as 512 small pages or
as a huge one. Which of them is faster depends on what memory the kernel and a hypervisor have at
hand, and changes within one load: a huge page took between a third and five times the time of its
small ones on one and the same machine. So both are measured all the time, and the slower one is
tried ever more rarely. All of these are only hints: a kernel that refuses them loads the model
more slowly.
"""

from __future__ import annotations

import ctypes
import mmap
import threading
import time
from dataclasses import dataclass

from regalia.core.codec import MIB

_LIBC = ctypes.CDLL(None)
_MADV_POPULATE_WRITE = 23  # Linux 5.14
BLOCK = 2 * MIB  # a huge page on x86-64, and on arm64 with 4 KiB pages
_FIRST_TRIAL = 8  # blocks of small pages before a huge one is tried
_PAUSE_MAX = 1024  # blocks between two trials of the slower way
_SMOOTHING = 0.25  # weight of the newest measurement
_CLEARLY = 1.25  # a way must be faster by this factor to be taken in place of the other


def _advise(start: int, size: int, advice: int) -> bool:
    return bool(_LIBC.madvise(ctypes.c_void_p(start), ctypes.c_size_t(size), advice) == 0)


@dataclass(slots=True)
class _Way:
    """Small or huge pages: what a block has cost lately, in seconds; None if it was not tried."""

    cost: float | None = None

    def measured(self, seconds: float) -> None:
        before = seconds if self.cost is None else self.cost
        self.cost = before + _SMOOTHING * (seconds - before)


class Choice:
    """Chooses small or huge pages for the next block, and learns from what each block cost."""

    def __init__(self) -> None:
        self._small, self._huge = _Way(), _Way()
        self._taken = self._small
        self._pause = _FIRST_TRIAL
        self._until_trial = _FIRST_TRIAL

    @property
    def prefers_huge(self) -> bool:
        """Whether huge pages have been the faster ones lately."""
        return self._taken is self._huge

    def next_is_huge(self) -> bool:
        """Whether the next block shall be a huge page."""
        self._until_trial -= 1
        if self._until_trial > 0:
            return self.prefers_huge
        self._until_trial = self._pause
        return not self.prefers_huge

    def cost(self, seconds: float, *, huge: bool) -> None:
        """Learn.

        Args:
            seconds: that a block took.
            huge: whether it was a huge page.
        """
        way = self._huge if huge else self._small
        way.measured(seconds)
        other = self._small if self._taken is self._huge else self._huge
        if self._taken.cost is None or other.cost is None:
            return
        if other.cost * _CLEARLY < self._taken.cost:
            self._taken = other
            self._pause = _FIRST_TRIAL
        elif way is other:
            self._pause = min(2 * self._pause, _PAUSE_MAX)

    def huge_pages_refused(self) -> None:
        """There are none here."""
        self._until_trial = 1 << 62


class PageFaulter:
    """Populates the pages of one destination. May be used from several threads."""

    def __init__(self, destination: memoryview) -> None:
        """Populate nothing yet. ``destination`` may already be populated.

        Args:
            destination: writable.
        """
        size = destination.nbytes
        self._first = ctypes.addressof(ctypes.c_char.from_buffer(destination)) if size else 0
        self._end = self._first + size
        self._lock = threading.Lock()
        self._populated: set[int] = set()  # addresses of blocks
        self.choice = Choice()

    def prepare(self, offset: int, size: int) -> None:
        """Populate the pages of a range that is about to be written.

        Args:
            offset: offset of the range in the destination, in bytes.
            size: number of bytes in the range.
        """
        if not size:
            return
        start = (self._first + offset) & -BLOCK
        for block in range(start, self._first + offset + size, BLOCK):
            with self._lock:
                if block in self._populated:
                    continue
                self._populated.add(block)
                whole = self._first <= block and block + BLOCK <= self._end
                huge = whole and self.choice.next_is_huge()
            self._populate(block, huge=huge)

    def _populate(self, block: int, *, huge: bool) -> None:
        # The destination may begin and end inside of a page, which is mapped whole.
        first = max(block, self._first & -mmap.PAGESIZE)
        size = min(block + BLOCK, self._end) - first
        began = time.perf_counter()
        if huge and not _advise(first, size, mmap.MADV_HUGEPAGE):
            with self._lock:
                self.choice.huge_pages_refused()
            huge = False
        _advise(first, size, _MADV_POPULATE_WRITE)
        seconds = time.perf_counter() - began
        if size == BLOCK:
            with self._lock:
                self.choice.cost(seconds, huge=huge)
