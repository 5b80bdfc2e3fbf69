"""One set of pages that this process may wipe, and that llama.cpp reads as a file.

llama.cpp takes weights from a file: it copies them to its heap, or maps the file. So the file is
made of memory (``memfd_create``: it has no name in any file system), and the same pages are mapped
where the model's memory gave room for them. There they are locked and are wiped with the model,
and what llama.cpp mapped then reads zeros, too. The weights exist once.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from pathlib import Path
from typing import TYPE_CHECKING

from regalia.core.errors import LocalError
from regalia.engines.codes import EngineCode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regalia.core.weights import ModelFiles

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.mmap.restype = ctypes.c_void_p
_LIBC.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]

_NAME = "regalia-model"
_STEP = 4 << 20  # bytes that are twice in memory while a file moves
_MAP_FIXED = 0x10  # include/uapi/asm-generic/mman-common.h
_MADV_UNMERGEABLE = 13
_MLOCK_ONFAULT = 1
_SECRET = "secretmem"  # noqa: S105 - what memfd_secret(2) calls its mappings
_LOCKED = "lo"  # in VmFlags


class SharedFile:
    """A file of the model, as a file of memory.

    Attributes:
        fd: its descriptor; ``close`` closes it, and what is mapped stays.
    """

    def __init__(self, files: ModelFiles, path: str) -> None:
        """Move the file's bytes. The first copy is overwritten piece by piece.

        Args:
            files: the model's files.
            path: of the file; its views read zeros from here on.

        Raises:
            LocalError: ENGINE_MEMORY_UNSUITABLE, or as ``ModelFiles.allocate``.
        """
        source = files.view(path)
        size = len(source)
        room = files.allocate(size)
        address = ctypes.addressof(ctypes.c_char.from_buffer(room))
        needs_lock = _look(address)
        self.fd = os.memfd_create(_NAME, os.MFD_CLOEXEC)
        try:
            os.ftruncate(self.fd, size)
            self._map_over(address, size, needs_lock=needs_lock)
            for start in range(0, size, _STEP):
                stop = min(start + _STEP, size)
                room[start:stop] = source[start:stop]
                files.discard(path, start, stop)
        except BaseException:
            self.close()
            raise

    def _map_over(self, address: int, size: int, *, needs_lock: bool) -> None:
        rights, flags = mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED | _MAP_FIXED
        if _LIBC.mmap(address, size, rights, flags, self.fd, 0) != address:
            raise _unsuitable(f"mmap of {size} bytes: {os.strerror(ctypes.get_errno())}")
        _keep_apart(address, size)
        locked = _LIBC.mlock2(ctypes.c_void_p(address), ctypes.c_size_t(size), _MLOCK_ONFAULT) == 0
        if needs_lock and not locked:
            raise _unsuitable(f"mlock of {size} bytes: {os.strerror(ctypes.get_errno())}")

    def protect_mappings(self) -> int:
        """Keep all mappings of the file from children and core dumps. Returns their number."""
        inode = os.fstat(self.fd).st_ino
        found = 0
        for line in Path("/proc/self/maps").read_text(encoding="utf-8").splitlines():
            span, _, _, _, number, *name = line.split(maxsplit=5)
            if int(number) == inode and name and _NAME in name[0]:
                first, last = (int(item, 16) for item in span.split("-"))
                _keep_apart(first, last - first)
                found += 1
        return found

    def close(self) -> None:
        """Close the descriptor. May be called again."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def _look(address: int) -> bool:
    """Whether the mapping at an address is locked. Raises LocalError if it is secret."""
    for line, flags in _mappings():
        first, last = (int(item, 16) for item in line.split(maxsplit=1)[0].split("-"))
        if first <= address < last:
            if _SECRET in line:
                raise _unsuitable("weights of this engine cannot lie in memfd_secret(2)")
            return _LOCKED in flags
    raise _unsuitable("the kernel does not tell how the memory is mapped")


def _mappings() -> Iterator[tuple[str, list[str]]]:
    """First line and flags of each mapping of this process."""
    line = ""
    for text in Path("/proc/self/smaps").read_text(encoding="utf-8").splitlines():
        key, _, rest = text.partition(":")
        if " " in key or "-" in key:
            line = text
        elif key == "VmFlags":
            yield line, rest.split()


def _keep_apart(address: int, size: int) -> None:
    for advice in (mmap.MADV_DONTFORK, mmap.MADV_DONTDUMP, _MADV_UNMERGEABLE):
        done = _LIBC.madvise(ctypes.c_void_p(address), ctypes.c_size_t(size), advice) == 0
        if not done and advice != _MADV_UNMERGEABLE:  # the kernel may lack that one
            raise _unsuitable(f"madvise {advice}: {os.strerror(ctypes.get_errno())}")


def _unsuitable(why: str) -> LocalError:
    return LocalError(EngineCode.ENGINE_MEMORY_UNSUITABLE, why)
