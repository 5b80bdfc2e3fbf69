"""Secret bytes that cannot be printed, compared, hashed or pickled by accident."""

from __future__ import annotations

import ctypes
import hmac
from typing import TYPE_CHECKING, NoReturn, Self, final

if TYPE_CHECKING:
    from types import TracebackType

_LIBC = ctypes.CDLL(None, use_errno=True)


@final
class SecretBytes:
    """Key material in one mutable buffer that is locked in memory and wiped on ``close``.

    Locking is best effort: ``locked`` says whether mlock(2) succeeded. Copies that a C library
    makes for itself are out of our reach; docs/limitations.md says so.
    """

    __hash__ = None  # type: ignore[assignment]
    __slots__ = ("_buf", "_closed", "locked")

    def __init__(self, buf: bytearray) -> None:
        """Take ownership of ``buf``: the caller keeps no copy."""
        if not isinstance(buf, bytearray):
            raise TypeError("SecretBytes takes a bytearray, which can be wiped")
        self._buf = buf
        self._closed = False
        self.locked = self._lock()

    @classmethod
    def copy_of(cls, data: bytes | bytearray | memoryview) -> Self:
        """Copy bytes that a library handed out and that we cannot wipe."""
        return cls(bytearray(data))

    def _address(self) -> int:
        return ctypes.addressof((ctypes.c_char * len(self._buf)).from_buffer(self._buf))

    def _lock(self) -> bool:
        if not self._buf:
            return False
        return bool(_LIBC.mlock(ctypes.c_void_p(self._address()), len(self._buf)) == 0)

    def view(self) -> memoryview:
        """Read-only view; keep it no longer than the call that needs it.

        Raises:
            RuntimeError: the secret was wiped already (the caller's bug).
        """
        if self._closed:
            raise RuntimeError("secret used after close")
        return memoryview(self._buf).toreadonly()

    def matches(self, other: SecretBytes) -> bool:
        """Compare in constant time."""
        return hmac.compare_digest(self.view(), other.view())

    def close(self) -> None:
        """Overwrite the buffer with zeros. Safe to call twice."""
        if not self._closed and self._buf:
            ctypes.memset(self._address(), 0, len(self._buf))
            if self.locked:
                _LIBC.munlock(ctypes.c_void_p(self._address()), len(self._buf))
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
