"""How the pages of a destination come into being: this costs more than the decryption.

A page that is touched for the first time costs a fault of its own, in the middle of a decryption.
There are two remedies. Huge pages need 512 times fewer faults, and are slow where memory is
fragmented or a hypervisor has to find it first. Otherwise all small pages of a chunk are asked
for in one system call, just before it is decrypted. Which is better differs from hour to hour on
one machine, so a sample of the destination is faulted in both ways, by the stopwatch. All of this
is hints: a kernel that refuses them loads more slowly, and that is all.
"""

from __future__ import annotations

import ctypes
import mmap
import time

from regalia.core.codec import MIB

_LIBC = ctypes.CDLL(None)
_MADV_POPULATE_WRITE = 23  # Linux 5.14
_HUGE_PAGE = 2 * MIB
_SMALL_SAMPLE = 8 * MIB
_HUGE_SAMPLE = 16 * MIB
_PROBE_FROM = 128 * MIB  # bytes of destination below which a probe is not worth its time
_CLEARLY = 1.25  # huge pages must be better by this factor


def _advise(start: int, size: int, advice: int) -> bool:
    return bool(_LIBC.madvise(ctypes.c_void_p(start), ctypes.c_size_t(size), advice) == 0)


def _cost_of_faults(start: int, size: int) -> float:
    """CPU seconds of this thread for each byte, the kernel's work included."""
    began = time.thread_time()
    _advise(start, size, _MADV_POPULATE_WRITE)
    return (time.thread_time() - began) / size


class PageFaulter:
    """Prepares parts of one destination. Safe to use from several threads."""

    def __init__(self, destination: memoryview) -> None:
        """Choose a remedy. ``destination`` may be untouched, or faulted in already."""
        size = destination.nbytes
        self._address = ctypes.addressof(ctypes.c_char.from_buffer(destination)) if size else 0
        self.huge = size >= _PROBE_FROM and self._huge_pages_win(size)

    def _huge_pages_win(self, size: int) -> bool:
        start = self._address & -mmap.PAGESIZE
        huge_start = -(-(start + _SMALL_SAMPLE) // _HUGE_PAGE) * _HUGE_PAGE
        small = _cost_of_faults(start, _SMALL_SAMPLE)
        if not _advise(huge_start, _HUGE_SAMPLE, mmap.MADV_HUGEPAGE):
            return False
        if _cost_of_faults(huge_start, _HUGE_SAMPLE) * _CLEARLY > small:
            return False
        end = (self._address + size) & -mmap.PAGESIZE
        return _advise(huge_start, end - huge_start, mmap.MADV_HUGEPAGE)

    def prepare(self, offset: int, size: int) -> None:
        """Get the pages that hold these bytes, which are about to be written.

        Args:
            offset: in bytes from the mapping's start.
            size: bytes.
        """
        if size and not self.huge:
            first = (self._address + offset) & -mmap.PAGESIZE
            _advise(first, self._address + offset + size - first, _MADV_POPULATE_WRITE)
