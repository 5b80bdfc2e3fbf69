"""Reduces the cost of page faults in a destination, which exceeds the cost of decryption.

Without hints, the kernel handles one fault for every page that a decryption touches first. There
are two remedies. Huge pages need 512 times fewer faults, but are slow if memory is fragmented or
if a hypervisor has to provide it first. Otherwise one system call populates all small pages of a
chunk just before it is decrypted. The better remedy varies on the same machine over time, so the
time of both is measured on a sample of the destination. All of these are only hints: a kernel
that refuses them loads the model more slowly.
"""

from __future__ import annotations

import ctypes
import mmap
import time

from regalia.core.codec import MIB

_LIBC = ctypes.CDLL(None)
_MADV_POPULATE_WRITE = 23  # Linux 5.14
_HUGE_PAGE = 2 * MIB  # on x86-64, and on arm64 with 4 KiB pages
_SMALL_SAMPLE = 8 * MIB
_HUGE_SAMPLE = 16 * MIB
_PROBE_FROM = 128 * MIB  # bytes; a smaller destination is not worth the time of a probe
_CLEARLY = 1.25  # huge pages must be faster by this factor


def _advise(start: int, size: int, advice: int) -> bool:
    return bool(_LIBC.madvise(ctypes.c_void_p(start), ctypes.c_size_t(size), advice) == 0)


def _cost_of_faults(start: int, size: int) -> float:
    """CPU seconds of this thread per byte, including time in the kernel."""
    began = time.thread_time()
    _advise(start, size, _MADV_POPULATE_WRITE)
    return (time.thread_time() - began) / size


class PageFaulter:
    """Populates the pages of one destination. May be used from several threads."""

    def __init__(self, destination: memoryview) -> None:
        """Choose a remedy by a probe. ``destination`` may already be populated."""
        size = destination.nbytes
        self._address = ctypes.addressof(ctypes.c_char.from_buffer(destination)) if size else 0
        self.huge = size >= _PROBE_FROM and self._huge_pages_win(size)

    def _huge_pages_win(self, size: int) -> bool:
        # The samples must not overlap: a page that was populated once has no fault to measure.
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
        """Populate the pages of a range that is about to be written.

        Args:
            offset: offset of the range in the destination, in bytes.
            size: number of bytes in the range.
        """
        if size and not self.huge:
            first = (self._address + offset) & -mmap.PAGESIZE
            _advise(first, self._address + offset + size - first, _MADV_POPULATE_WRITE)
