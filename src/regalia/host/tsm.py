"""Linux's configfs-tsm: reports of the confidential VM that this process runs in.

Linux, Documentation/ABI/testing/configfs-tsm-report. A request is a directory; the kernel fills it
with attributes. ``generation`` counts the writes to it: if the count is not what our own writes
make it, another process wrote too, and the report may be over its data.
"""

from __future__ import annotations

import errno
import secrets
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from regalia.core.errors import CoreCode, LocalError, UnavailableError
from regalia.host.tsm_codes import TsmCode

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path("/sys/kernel/config/tsm/report")
ATTRIBUTE_MAX = 64 * 1024  # bytes
TRIES = 3

# The kernel says so when the request changed while the report was made.
_CHANGED = frozenset({errno.EWOULDBLOCK, errno.EBUSY})
_ABSENT = frozenset({errno.ENOENT, errno.ENXIO, errno.ENODEV, errno.EOPNOTSUPP})


class Requests(Protocol):
    """Where requests are made: configfs, or a double of it. Every method raises OSError."""

    def make(self, name: str) -> None:
        """Make a request."""

    def read(self, name: str, attribute: str) -> bytes:
        """Read one of its attributes.

        Args:
            name: of the report's folder.
            attribute: file in that folder.
        """

    def write(self, name: str, attribute: str, data: bytes) -> None:
        """Write one of its attributes, in one call.

        Args:
            name: of the report's folder.
            attribute: file in that folder.
            data: written as it is.
        """

    def remove(self, name: str) -> None:
        """End the request."""


@dataclass(frozen=True, slots=True)
class Configfs:
    """The kernel's own."""

    root: Path = ROOT

    def make(self, name: str) -> None:
        """Make a request."""
        (self.root / name).mkdir(mode=0o700)

    def read(self, name: str, attribute: str) -> bytes:
        """Read one of its attributes.

        Args:
            name: of the report's folder.
            attribute: file in that folder.

        Raises:
            OSError: the kernel refuses.
        """
        with (self.root / name / attribute).open("rb", buffering=0) as file:
            parts = bytearray()
            while part := file.read(ATTRIBUTE_MAX):
                parts += part
                if len(parts) > ATTRIBUTE_MAX:
                    raise OSError(errno.EFBIG, "attribute is too large")
            return bytes(parts)

    def write(self, name: str, attribute: str, data: bytes) -> None:
        """Write one of its attributes, in one call.

        Args:
            name: of the report's folder.
            attribute: file in that folder.
            data: written as it is.

        Raises:
            OSError: the kernel refuses, or took a part of it.
        """
        with (self.root / name / attribute).open("wb", buffering=0) as file:
            if file.write(data) != len(data):
                raise OSError(errno.EIO, "attribute was written in part")

    def remove(self, name: str) -> None:
        """End the request."""
        (self.root / name).rmdir()


@dataclass(frozen=True, slots=True)
class TsmReport:
    """What the kernel gave: a report or quote, and what the host added to it."""

    outblob: bytes
    auxblob: bytes  # SNP: the certificate table, perhaps empty


def request_report(
    requests: Requests, *, provider: str, inblob: bytes, privlevel: int | None = None
) -> TsmReport:
    """Have one report made.

    Args:
        requests: where.
        provider: the driver's name, such as ``sev_guest``; the kernel must name the same one.
        inblob: report data, 64 bytes.
        privlevel: the VMPL to ask at; None for the kernel's own.

    Raises:
        UnavailableError: TSM_UNREACHABLE.
        LocalError: TSM_OTHER_PROVIDER, TSM_DISTURBED, TSM_FAILED or NO_PERMISSION.
    """
    for _ in range(TRIES):
        with _request(requests) as name, _kernel_errors():
            named = requests.read(name, "provider").decode("ascii", "replace").strip()
            if named != provider:
                raise LocalError(
                    TsmCode.TSM_OTHER_PROVIDER,
                    f"the kernel's provider is {named[:40]!r}, want {provider}",
                )
            report = _attempt(requests, name, inblob, privlevel)
        if report is not None:
            return report
    raise LocalError(
        TsmCode.TSM_DISTURBED, f"the request was written to by somebody else, {TRIES} times"
    )


def _attempt(
    requests: Requests, name: str, inblob: bytes, privlevel: int | None
) -> TsmReport | None:
    """The report, or None if another process wrote to the request."""
    before = _generation(requests, name)
    writes = 1
    requests.write(name, "inblob", inblob)
    if privlevel is not None:
        requests.write(name, "privlevel", str(privlevel).encode())
        writes += 1
    try:
        outblob = requests.read(name, "outblob")
        auxblob = _optional(requests, name, "auxblob")
    except OSError as exc:
        if exc.errno in _CHANGED:
            return None
        raise
    return TsmReport(outblob, auxblob) if _generation(requests, name) == before + writes else None


def _generation(requests: Requests, name: str) -> int:
    text = requests.read(name, "generation").strip()
    if not text.isdigit():
        raise LocalError(TsmCode.TSM_FAILED, f"generation is {text[:20]!r}")
    return int(text)


def _optional(requests: Requests, name: str, attribute: str) -> bytes:
    try:
        return requests.read(name, attribute)
    except OSError as exc:
        if exc.errno == errno.ENOENT:  # TDX has none
            return b""
        raise


@contextmanager
def _request(requests: Requests) -> Iterator[str]:
    """A request of a name that nobody else uses, removed in any case."""
    name = f"regalia-{secrets.token_hex(8)}"
    try:
        requests.make(name)
    except OSError as exc:
        if exc.errno in _ABSENT:
            raise UnavailableError(
                TsmCode.TSM_UNREACHABLE, f"configfs-tsm: {exc.strerror or exc}"
            ) from exc
        raise _failed(exc) from exc
    try:
        yield name
    finally:
        with _kernel_errors():
            requests.remove(name)


@contextmanager
def _kernel_errors() -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise _failed(exc) from exc


def _failed(exc: OSError) -> LocalError:
    denied = exc.errno in {errno.EACCES, errno.EPERM}
    code = CoreCode.NO_PERMISSION if denied else TsmCode.TSM_FAILED
    return LocalError(code, f"configfs-tsm: {exc.strerror or exc}")
