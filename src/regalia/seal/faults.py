"""Reduces the cost of page faults in destinations, which exceeds the cost of decryption.

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
from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING

from regalia.core.codec import MIB

if TYPE_CHECKING:
    from collections.abc import Iterable

_LIBC = ctypes.CDLL(None)
_MADV_POPULATE_WRITE = 23  # Linux 5.14
BLOCK = 2 * MIB  # a huge page on x86-64, and on arm64 with 4 KiB pages
_FIRST_TRIAL = 8  # blocks of small pages before a huge one is tried
_PAUSE_MAX = 1024  # blocks between two trials of the slower way
_SMOOTHING = 0.25  # weight of the newest measurement
_LOWEST_BIT = bytes(number & 1 for number in range(256))  # the only one that mincore(2) sets
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
    """Populates the pages of some destinations. May be used from several threads."""

    def __init__(self, destinations: Iterable[memoryview]) -> None:
        """Populate nothing yet. A destination may already be populated.

        Args:
            destinations: writable, contiguous and not empty; no two share memory.
        """
        self._regions = _joined(map(address_range, destinations))
        self._firsts = [first for first, _ in self._regions]
        self._lock = threading.Lock()
        self._populated: set[int] = set()  # first addresses of what was populated at once
        self.choice = Choice()

    def prepare(self, part: memoryview) -> None:
        """Populate the pages of a part of a destination that is about to be written.

        Args:
            part: the part, not empty.
        """
        start, stop = address_range(part)
        first, end = self._regions[bisect_right(self._firsts, start) - 1]
        for block in range(start & -BLOCK, stop, BLOCK):
            # A destination may begin and end inside of a page, which is mapped whole.
            begin = max(block, first & -mmap.PAGESIZE)
            with self._lock:
                if begin in self._populated:
                    continue
                self._populated.add(begin)
                whole = first <= block and block + BLOCK <= end
                huge = whole and self.choice.next_is_huge()
            self._populate(begin, min(block + BLOCK, end) - begin, huge=huge)

    def _populate(self, first: int, size: int, *, huge: bool) -> None:
        # An engine's own memory often is there. To populate it again took a quarter of the time of
        # a load, and to ask takes nearly none.
        if _is_there(first, size):
            return
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


def _is_there(first: int, size: int) -> bool:
    """Whether every page of a range is in memory."""
    count = -(-size // mmap.PAGESIZE)
    there = (ctypes.c_ubyte * count)()
    if _LIBC.mincore(ctypes.c_void_p(first), ctypes.c_size_t(size), there) != 0:
        return False
    return 0 not in bytes(there).translate(_LOWEST_BIT)


def address_range(view: memoryview) -> tuple[int, int]:
    """First address of a writable, contiguous buffer, and the address after its last byte."""
    first = ctypes.addressof(ctypes.c_char.from_buffer(view))
    return first, first + view.nbytes


def _joined(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same addresses in ascending order, in as few ranges as possible."""
    joined: list[tuple[int, int]] = []
    for first, end in sorted(ranges):
        if joined and joined[-1][1] == first:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((first, end))
    return joined
