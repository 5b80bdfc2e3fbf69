"""Secret bytes that cannot be printed, compared, hashed or pickled by mistake."""

from __future__ import annotations

import ctypes
import hmac
import threading
from collections import Counter
from typing import TYPE_CHECKING, NoReturn, Self, final

if TYPE_CHECKING:
    from types import TracebackType

_LIBC = ctypes.CDLL(None, use_errno=True)
_PAGE = 1 << 12  # bytes; where pages are larger, the kernel rounds to them


class _LockedPages:
    """Counts the secrets on each page of memory.

    mlock(2) works on whole pages and does not count: unlocking one secret would unlock the pages
    that it shares with others.
    """

    def __init__(self) -> None:
        self._secrets: Counter[int] = Counter()  # by page number
        self._guard = threading.Lock()

    def lock(self, address: int, size: int) -> bool:
        """Lock the pages of a secret, unless they are. Returns whether all of them are locked."""
        pages = self._pages(address, size)
        with self._guard:
            if _LIBC.mlock(ctypes.c_void_p(address), ctypes.c_size_t(size)) != 0:
                return False
            self._secrets.update(pages)
        return True

    def unlock(self, address: int, size: int) -> None:
        """Unlock the pages of a secret that hold no other one; the reverse of ``lock``."""
        with self._guard:
            for page in self._pages(address, size):
                self._secrets[page] -= 1
                if self._secrets[page] == 0:
                    del self._secrets[page]
                    _LIBC.munlock(ctypes.c_void_p(page * _PAGE), ctypes.c_size_t(1))

    @staticmethod
    def _pages(address: int, size: int) -> range:
        return range(address // _PAGE, (address + size - 1) // _PAGE + 1)


_PAGES = _LockedPages()  # of this process, as its memory is


@final
class SecretBytes:
    """Key material in one mutable buffer that is locked in memory and wiped on ``close``.

    Locking is best effort: ``locked`` tells whether mlock(2) succeeded. Copies that a C library
    makes internally cannot be wiped; see docs/limitations.md.
    """

    # A hash would reveal whether two secrets are equal, and could be printed.
    __hash__ = None  # type: ignore[assignment]
    __slots__ = ("_buf", "_closed", "locked")

    def __init__(self, buf: bytearray) -> None:
        """Take ownership of ``buf``. The caller must not keep a copy of its contents."""
        if not isinstance(buf, bytearray):
            raise TypeError("SecretBytes takes a bytearray, which can be wiped")
        self._buf = buf
        self._closed = False
        self.locked = self._lock()

    @classmethod
    def copy_of(cls, data: bytes | bytearray | memoryview) -> Self:
        """Copy bytes that a library returned and that cannot be wiped themselves."""
        return cls(bytearray(data))

    def _address(self) -> int:
        return ctypes.addressof((ctypes.c_char * len(self._buf)).from_buffer(self._buf))

    def _lock(self) -> bool:
        return bool(self._buf) and _PAGES.lock(self._address(), len(self._buf))

    def view(self) -> memoryview:
        """Return a read-only view. Do not keep it longer than the call that needs it.

        Raises:
            RuntimeError: the secret was already wiped, which is a bug of the caller.
        """
        if self._closed:
            raise RuntimeError("secret used after close")
        return memoryview(self._buf).toreadonly()

    def matches(self, other: SecretBytes) -> bool:
        """Compare in constant time."""
        return hmac.compare_digest(self.view(), other.view())

    def close(self) -> None:
        """Overwrite the buffer with zeros. May be called again."""
        # memset through ctypes: an assignment to a slice would allocate a buffer of zeros first.
        if not self._closed and self._buf:
            ctypes.memset(self._address(), 0, len(self._buf))
            if self.locked:
                _PAGES.unlock(self._address(), len(self._buf))
        self._closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._buf)

    def __repr__(self) -> str:
        return f"<secret, {len(self._buf)} bytes>"

    def __eq__(self, other: object) -> NoReturn:
        raise TypeError("secrets are compared with .matches()")

    def __reduce__(self) -> NoReturn:
        raise TypeError("secrets are not serialized")

    def __bytes__(self) -> NoReturn:
        raise TypeError("a secret is not copied into bytes; use .view()")
