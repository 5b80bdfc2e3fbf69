"""A double of configfs-tsm at the boundary of its files: it reacts to writes as the kernel does."""

from __future__ import annotations

import errno
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(slots=True)
class _Request:
    written: dict[str, bytes] = field(default_factory=dict)
    generation: int = 0


@dataclass(slots=True)
class FakeTsm:
    """A kernel with one provider.

    Attributes:
        provider: what it calls itself.
        report: from report data and VMPL (-1: none was written) to the report.
        auxblob: what the host adds; None where the provider has no such attribute.
        fails: errno of each operation by its name, ``make`` or ``read outblob`` and so on.
        intruders: how many times somebody else writes before the report is read.
        changed: how many times the kernel itself says that the request changed.
    """

    provider: str
    report: Callable[[bytes, int], bytes]
    auxblob: bytes | None = b""
    fails: dict[str, int] = field(default_factory=dict)
    intruders: int = 0
    changed: int = 0
    requests: dict[str, _Request] = field(default_factory=dict)
    made: int = 0

    def make(self, name: str) -> None:
        """Mkdir."""
        self._fail("make")
        if name in self.requests:
            raise OSError(errno.EEXIST, "File exists")
        self.requests[name] = _Request()
        self.made += 1

    def remove(self, name: str) -> None:
        """Rmdir."""
        self._fail("remove")
        del self.requests[name]

    def write(self, name: str, attribute: str, data: bytes) -> None:
        """Each write counts."""
        self._fail(f"write {attribute}")
        if attribute not in {"inblob", "privlevel"} or (attribute == "inblob" and len(data) > 64):  # noqa: PLR2004 - the kernel's limit
            raise OSError(errno.EINVAL, "Invalid argument")
        request = self.requests[name]
        request.written[attribute] = data
        request.generation += 1

    def read(self, name: str, attribute: str) -> bytes:
        """What the kernel shows."""
        self._fail(f"read {attribute}")
        request = self.requests[name]
        if attribute == "provider":
            return self.provider.encode() + b"\n"
        if attribute == "generation":
            return f"{request.generation}\n".encode()
        if attribute == "auxblob" and self.auxblob is None:
            raise OSError(errno.ENOENT, "No such file or directory")
        if attribute == "auxblob":
            return self.auxblob or b""
        return self._outblob(request)

    def _outblob(self, request: _Request) -> bytes:
        if self.changed:
            self.changed -= 1
            raise OSError(errno.EWOULDBLOCK, "Resource temporarily unavailable")
        if self.intruders:
            self.intruders -= 1
            request.written["inblob"] = b"\x66" * 64
            request.generation += 1
        privlevel = int(request.written.get("privlevel", b"-1"))
        return self.report(request.written["inblob"], privlevel)

    def _fail(self, operation: str) -> None:
        if operation in self.fails:
            raise OSError(self.fails[operation], "as the test wants it")
