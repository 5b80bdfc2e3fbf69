"""How the pages of a destination come into being: this costs more than the decryption.

A page that is touched for the first time costs a fault of its own, in the middle of a decryption.
Asking for all pages of a chunk in one system call, just before it is decrypted, took a fifth off
the CPU time of a whole load where we measured it, and leaves the pages in the cache. Huge pages
can take off more, or cost three times as much where memory is fragmented: whoever allocates the
destination may ask for them, and this works with either kind.
"""

from __future__ import annotations

import ctypes
import mmap

_LIBC = ctypes.CDLL(None)
_MADV_POPULATE_WRITE = 23  # Linux 5.14


class PageFaulter:
    """Prepares parts of one destination. Safe to use from several threads."""

    def __init__(self, destination: memoryview) -> None:
        """``destination`` may be untouched, or faulted in already."""
        size = destination.nbytes
        self._address = ctypes.addressof(ctypes.c_char.from_buffer(destination)) if size else 0

    def prepare(self, offset: int, size: int) -> None:
        """Get the pages that hold these bytes, which are about to be written.

        Only a hint: a kernel that does not know it takes the faults one by one.
        """
        if size:
            first = (self._address + offset) & -mmap.PAGESIZE
            length = self._address + offset + size - first
            _LIBC.madvise(ctypes.c_void_p(first), ctypes.c_size_t(length), _MADV_POPULATE_WRITE)
