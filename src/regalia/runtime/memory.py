"""The memory that holds the plaintext model.

It is locked against swapping, left out of core dumps and not inherited by child processes.
``LockedMemory`` implements the ``Destination`` protocol of ``regalia.seal``.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import platform
import threading
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from regalia.core.errors import KeyAccessError, LocalError
from regalia.runtime.codes import RuntimeCode

if TYPE_CHECKING:
    from collections.abc import Iterator

_LIBC = ctypes.CDLL(None, use_errno=True)

# Values of include/uapi/asm-generic/mman-common.h
MADV_UNMERGEABLE = 13
MLOCK_ONFAULT = 1
_SYS_MEMFD_SECRET = {"x86_64": 447, "aarch64": 447}  # by machine; include/uapi/asm-generic/unistd.h
_O_CLOEXEC = 0o2000000
_STEP = 1 << 20  # bytes that ``wiped`` compares at a time
_WIPE_STEP = 1 << 30  # bytes whose pages are asked for at a time
_LOWEST_BIT = bytes(number & 1 for number in range(256))  # the only one that mincore(2) sets


class MemoryKind(StrEnum):
    """Kind of memory that the plaintext is held in."""

    LOCKED = "locked"  # anonymous memory, mlock(2)
    SECRET = "secret"  # noqa: S105 - memfd_secret(2): outside the kernel's direct map


class LockedMemory:
    """Mappings that are allocated, filled, and wiped together at the end.

    The first holds the model as it was sealed. An engine asks for more if the architecture wants
    tensors in another layout than the files have.

    Args:
        kind: kind of memory to request from the kernel.
        dangerous_allow_unlocked: whether to continue with unlocked memory if mlock2(2) fails.
    """

    def __init__(self, kind: MemoryKind, *, dangerous_allow_unlocked: bool) -> None:
        self._kind = kind
        self._allow_unlocked = dangerous_allow_unlocked
        self._mappings: list[_Mapping] = []
        self._closed = False
        self._guard = threading.Lock()
        self.locked = False  # whether all mappings are

    @property
    def address(self) -> int:
        """Address of the first mapping; 0 if there is none."""
        return self._mappings[0].address if self._mappings else 0

    @property
    def size(self) -> int:
        """Bytes in all mappings, as requested; each holds whole pages."""
        return sum(mapping.size for mapping in self._mappings)

    def allocate(self, size: int) -> memoryview:
        """Map ``size`` zero bytes and lock them.

        Raises:
            LocalError: MEMORY_NOT_LOCKABLE or SECRET_MEMORY_UNAVAILABLE.
            KeyAccessError: LEASE_LOST, the memory was closed.
        """
        with self._guard:
            if self._closed:
                raise KeyAccessError(RuntimeCode.LEASE_LOST, "the memory takes no more weights")
            return self._allocate(size)

    def _allocate(self, size: int) -> memoryview:
        mapped = max(size, 1)  # mmap(2) refuses a length of 0
        secret = self._kind is MemoryKind.SECRET
        pages = _map_secret(mapped) if secret else _map_anonymous(mapped)
        mapping = _Mapping(pages, _address(pages), size)
        locked = _protect(mapping, secret=secret)
        if not locked and not self._allow_unlocked:
            raise LocalError(
                RuntimeCode.MEMORY_NOT_LOCKABLE,
                f"mlock of {mapped} bytes: {os.strerror(ctypes.get_errno())}",
            )
        self.locked = locked and (self.locked or not self._mappings)
        self._mappings.append(mapping)
        return memoryview(pages)[:size]

    def discard(self, start: int, stop: int) -> None:
        """Overwrite a part of the first mapping with zeros, and give its whole pages back.

        Args:
            start: first byte, counted from the start of the mapping.
            stop: byte after the last one. Nothing may use the part any more.

        Raises:
            ValueError: it is not a part of the mapping.
        """
        mapping = self._mappings[0]
        if not 0 <= start <= stop <= mapping.size:
            raise ValueError("not a part of the memory")
        ctypes.memset(mapping.address + start, 0, stop - start)
        if self._kind is MemoryKind.LOCKED:
            _give_back(mapping.address + start, stop - start)

    def wipe(self) -> None:
        """Overwrite the memory with zeros. May be called again.

        The mappings are kept, because views of them are still in use: they stay valid and read
        zeros.
        """
        for mapping in self._mappings:
            mapping.wipe(locked=self.locked)

    def close(self) -> None:
        """Wipe, and refuse to allocate from here on. May be called again."""
        with self._guard:
            self._closed = True
        self.wipe()

    def retire(self) -> None:
        """Close, and let the kernel reuse the pages. Views stay valid, and read zeros."""
        self.close()
        if self._kind is MemoryKind.LOCKED:
            for mapping in self._mappings:
                _give_back(mapping.address, len(mapping.pages))

    def free(self) -> None:
        """Give memory back that was never written to. Nothing may use it any more."""
        for mapping in self._mappings:
            mapping.pages.close()
        self._mappings.clear()

    @property
    def wiped(self) -> bool:
        """Whether every byte is zero. Reads the whole memory without copying it."""
        return all(mapping.is_zero() for mapping in self._mappings)


@dataclass(frozen=True, slots=True)
class _Mapping:
    """Pages from the kernel, their address, and how many bytes of them were asked for."""

    pages: mmap.mmap
    address: int
    size: int

    def wipe(self, *, locked: bool) -> None:
        """Overwrite every page that is in memory.

        A locked page that is not there was never written to, and writing zeros to it would take
        memory. A page that is not locked may be in swap.
        """
        if not locked:
            ctypes.memset(self.address, 0, self.size)
            return
        for at in range(0, self.size, _WIPE_STEP):
            size = min(_WIPE_STEP, self.size - at)
            for first, last in _resident(self.address + at, size):
                start = at + first
                ctypes.memset(self.address + start, 0, min(last - first, self.size - start))

    def is_zero(self) -> bool:
        zeros = bytes(_STEP)
        return all(
            _LIBC.memcmp(ctypes.c_void_p(self.address + at), zeros, min(_STEP, self.size - at)) == 0
            for at in range(0, self.size, _STEP)
        )


def _address(pages: mmap.mmap) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(pages))


def _resident(address: int, size: int) -> Iterator[tuple[int, int]]:
    """Ranges of pages that are in memory, as offsets from a page's address."""
    count = -(-size // mmap.PAGESIZE)
    there = (ctypes.c_ubyte * count)()
    if _LIBC.mincore(ctypes.c_void_p(address), ctypes.c_size_t(size), there) != 0:
        yield 0, size  # the kernel does not tell, so all of them may be
        return
    pages = bytes(there).translate(_LOWEST_BIT)
    first = pages.find(1)
    while first >= 0:
        last = pages.find(0, first)
        last = count if last < 0 else last
        yield first * mmap.PAGESIZE, last * mmap.PAGESIZE
        first = pages.find(1, last)


def _protect(mapping: _Mapping, *, secret: bool) -> bool:
    """Keep the pages from children, dumps and swap. Returns whether they are locked."""
    # A child of fork(2) would inherit either kind of mapping, so MADV_DONTFORK must succeed.
    # The kernel itself keeps secret memory out of core dumps and never merges its pages, so
    # it may refuse the other advice.
    _advise(mapping.pages, mmap.MADV_DONTFORK, required=True)
    _advise(mapping.pages, mmap.MADV_DONTDUMP, required=not secret)
    _advise(mapping.pages, MADV_UNMERGEABLE, required=False)
    # MLOCK_ONFAULT locks pages as the decrypting threads touch them. Without it the kernel
    # would populate the whole mapping here, in one thread.
    size = ctypes.c_size_t(len(mapping.pages))
    return secret or bool(_LIBC.mlock2(ctypes.c_void_p(mapping.address), size, MLOCK_ONFAULT) == 0)


def _give_back(first: int, size: int) -> None:
    """Let the kernel reuse the whole pages of a range that holds zeros."""
    page = mmap.PAGESIZE
    start, stop = -(-first // page) * page, (first + size) // page * page
    if start < stop:
        # Locked pages cannot be given back. If the kernel refuses, they stay, and hold zeros.
        _LIBC.munlock(ctypes.c_void_p(start), ctypes.c_size_t(stop - start))
        _LIBC.madvise(ctypes.c_void_p(start), ctypes.c_size_t(stop - start), mmap.MADV_DONTNEED)


def _advise(mapping: mmap.mmap, advice: int, *, required: bool) -> None:
    try:
        mapping.madvise(advice)
    except OSError as exc:
        if required:
            raise LocalError(
                RuntimeCode.HARDENING_FAILED, f"madvise {advice}: {exc.strerror}"
            ) from exc


def _map_anonymous(size: int) -> mmap.mmap:
    try:
        return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as exc:
        raise LocalError(
            RuntimeCode.MEMORY_NOT_LOCKABLE, f"{size} bytes cannot be had: {exc.strerror}"
        ) from exc


def _map_secret(size: int) -> mmap.mmap:
    number = _SYS_MEMFD_SECRET.get(platform.machine())
    fd = -1 if number is None else int(_LIBC.syscall(number, _O_CLOEXEC))
    if fd < 0:
        why = os.strerror(ctypes.get_errno() or errno.ENOSYS)
        raise LocalError(RuntimeCode.SECRET_MEMORY_UNAVAILABLE, f"memfd_secret: {why}")
    try:
        os.ftruncate(fd, size)
        # Secret memory is always locked, so it counts against RLIMIT_MEMLOCK.
        return mmap.mmap(fd, size, flags=mmap.MAP_SHARED)
    except OSError as exc:
        raise LocalError(
            RuntimeCode.SECRET_MEMORY_UNAVAILABLE,
            f"{size} bytes of secret memory: {exc.strerror}",
        ) from exc
    finally:
        os.close(fd)
