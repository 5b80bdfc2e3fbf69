"""The one mapping that holds the plaintext model: locked, absent from dumps and from children.

Implements the ``Destination`` protocol of ``regalia.seal``.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import platform
from enum import StrEnum

from regalia.core.errors import LocalError
from regalia.runtime.codes import RuntimeCode

_LIBC = ctypes.CDLL(None, use_errno=True)

MADV_UNMERGEABLE = 13
MLOCK_ONFAULT = 1
_SYS_MEMFD_SECRET = {"x86_64": 447, "aarch64": 447}  # by machine; include/uapi/asm-generic/unistd.h
_O_CLOEXEC = 0o2000000
_STEP = 1 << 20  # bytes


class MemoryKind(StrEnum):
    """How the plaintext is held."""

    LOCKED = "locked"  # anonymous memory, mlock(2)
    SECRET = "secret"  # noqa: S105 - memfd_secret(2): outside the kernel's direct map


class LockedMemory:
    """One mapping, allocated once and wiped at the end.

    Args:
        kind: which memory to ask for.
        dangerous_allow_unlocked: go on when mlock(2) is refused.
    """

    def __init__(self, kind: MemoryKind, *, dangerous_allow_unlocked: bool) -> None:
        self._kind = kind
        self._allow_unlocked = dangerous_allow_unlocked
        self._map: mmap.mmap | None = None
        self.address = 0
        self.size = 0  # bytes, as asked for
        self.locked = False

    def allocate(self, size: int) -> memoryview:
        """Map ``size`` bytes, zero, and lock them. May be called once.

        Raises:
            LocalError: MEMORY_NOT_LOCKABLE or SECRET_MEMORY_UNAVAILABLE.
            RuntimeError: it was called before (the caller's bug).
        """
        if self._map is not None:
            raise RuntimeError("allocated before")
        mapped = max(size, 1)
        if self._kind is MemoryKind.SECRET:
            self._map = _map_secret(mapped)
        else:
            self._map = _map_anonymous(mapped)
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        self.size = size
        self._protect(mapped)
        return memoryview(self._map)[:size]

    def _protect(self, mapped: int) -> None:
        if self._map is None:
            raise RuntimeError("nothing is allocated")
        # Secret memory refuses some of this advice because it needs none of it.
        _advise(self._map, mmap.MADV_DONTFORK, required=True)
        secret = self._kind is MemoryKind.SECRET
        _advise(self._map, mmap.MADV_DONTDUMP, required=not secret)
        _advise(self._map, MADV_UNMERGEABLE, required=False)
        # On fault: pages are locked as they are touched, by the threads that decrypt into them.
        self.locked = secret or (
            _LIBC.mlock2(ctypes.c_void_p(self.address), ctypes.c_size_t(mapped), MLOCK_ONFAULT) == 0
        )
        if not self.locked and not self._allow_unlocked:
            raise LocalError(
                RuntimeCode.MEMORY_NOT_LOCKABLE,
                f"mlock of {mapped} bytes: {os.strerror(ctypes.get_errno())}",
            )

    def wipe(self) -> None:
        """Overwrite everything with zeros. Views stay valid and read zeros. Safe to call twice."""
        if self._map is not None:
            ctypes.memset(self.address, 0, self.size)

    @property
    def wiped(self) -> bool:
        """True if every byte is zero. Reads all of it, without copying any."""
        zeros = bytes(_STEP)
        return all(
            _LIBC.memcmp(ctypes.c_void_p(self.address + at), zeros, min(_STEP, self.size - at)) == 0
            for at in range(0, self.size, _STEP)
        )


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
        # The mapping is charged to RLIMIT_MEMLOCK.
        return mmap.mmap(fd, size, flags=mmap.MAP_SHARED)
    except OSError as exc:
        raise LocalError(
            RuntimeCode.SECRET_MEMORY_UNAVAILABLE,
            f"{size} bytes of secret memory: {exc.strerror}",
        ) from exc
    finally:
        os.close(fd)
