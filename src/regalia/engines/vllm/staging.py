"""Memory that tensors wait in until vLLM has copied them: locked, not dumped, and wiped."""

from __future__ import annotations

import ctypes
import mmap
import threading
import weakref
from typing import TYPE_CHECKING, Any

from regalia.core.errors import LocalError
from regalia.engines.hosted_codes import HostedCode

if TYPE_CHECKING:
    from collections.abc import Callable

_LIBC = ctypes.CDLL(None, use_errno=True)
ALIGNMENT = 64  # bytes, for the widest vectors of the processor
KEPT = 3  # areas that are kept for use again


def _address(area: mmap.mmap) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(area))


class StagingArea:
    """A pool of areas. Each is wiped and comes back when no tensor uses it any more.

    vLLM decides how long it keeps a tensor: some models collect several before they copy them. So
    an area belongs to the tensors in it, and not to a round of the loader.
    """

    def __init__(self) -> None:
        import numpy as np

        self._numpy = np
        self._free: list[mmap.mmap] = []
        # Areas come back when the garbage collector runs, which may be while this thread has it.
        self._lock = threading.RLock()

    def take(self, size: int) -> Any:  # noqa: ANN401 - a NumPy array of bytes
        """An array of ``size`` bytes, whose views keep its area alive.

        Raises:
            LocalError: memory cannot be had.
        """
        area = self._take_area(max(size, 1))
        array = self._numpy.frombuffer(area, dtype=self._numpy.uint8)[:size]
        # The base of all views is this array's own, which lives as long as the last of them.
        weakref.finalize(array.base, self._wiper(area))
        return array

    def _wiper(self, area: mmap.mmap) -> Callable[[], None]:
        def give_back() -> None:
            ctypes.memset(_address(area), 0, len(area))
            with self._lock:
                if len(self._free) < KEPT:
                    self._free.append(area)

        return give_back

    def _take_area(self, size: int) -> mmap.mmap:
        with self._lock:
            fitting = [area for area in self._free if size <= len(area) <= 4 * size + (1 << 20)]
            if fitting:
                area = min(fitting, key=len)
                self._free.remove(area)
                return area
        try:
            area = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        except OSError as exc:
            raise LocalError(
                HostedCode.ENGINE_PROCESS_FAILED, f"{size} bytes of memory: {exc.strerror}"
            ) from exc
        area.madvise(mmap.MADV_DONTDUMP)
        area.madvise(mmap.MADV_DONTFORK)
        # As far as the limit allows: the runtime's report of hardening says whether all is locked.
        _LIBC.mlock(ctypes.c_void_p(_address(area)), ctypes.c_size_t(size))
        return area

    def close(self) -> None:
        """Forget the areas that nobody uses; they are wiped already."""
        with self._lock:
            self._free.clear()
