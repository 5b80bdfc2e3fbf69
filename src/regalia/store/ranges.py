"""Reads ciphertext by ranges of an untrusted server, whose answers are compared with requests."""

from __future__ import annotations

import re
import threading
import time
from abc import ABC, abstractmethod
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Self

import httpx

from regalia.core.errors import IntegrityError, UnavailableError
from regalia.core.weights import Reading
from regalia.host.bulk_transport import BulkTransport
from regalia.store.attempts import ATTEMPTS, AgainError, in_attempts
from regalia.store.connection import certificates, store_client
from regalia.store.names import STORED_NAME, StoreCode

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from regalia.store.attempts import T

TIMEOUT_S = 30.0
BLOB_MAX = 1 << 46  # bytes; a server that claims a larger size is refused
RANGE_MAX = 16 << 20  # bytes of one request
# A connection to an object store brings some 80 MB/s, and the first of its bytes after some 30 ms:
# 16 requests of 8 MiB keep a link of 10 Gbit/s busy.
READING = Reading(size=8 << 20, at_once=16)
RANGE_SECONDS = 300.0  # a slower answer is abandoned, as it may be meant to stall the start

_CONTENT_RANGE = re.compile(r"bytes (\d{1,20})-(\d{1,20})/(\d{1,20})")
_PARTIAL = 206
_NOT_FOUND = 404
_BUSY = 429
_SERVER_ERROR = 500
_FORBIDDEN = frozenset({401, 403})


class First(NamedTuple):
    """What the first answer said about a blob. All later ones must say the same."""

    size: int
    version: tuple[str, ...]


class RangedBlobs(ABC):
    """A ``BlobSource`` of range requests. May be used from several threads.

    Args:
        transport: replaces the HTTP transport in tests.
        pause: replaces ``time.sleep`` between attempts in tests.
        timeout_s: seconds that each step of a request may take.
        attempts: how often a request is sent before reading fails.

    Raises:
        UsageError: as ``certificates``.
    """

    def __init__(
        self,
        *,
        transport: httpx.BaseTransport | None = None,
        pause: Callable[[float], None] = time.sleep,
        timeout_s: float = TIMEOUT_S,
        attempts: int = ATTEMPTS,
    ) -> None:
        if transport is None:
            transport = BulkTransport(RANGE_SECONDS, self._tls())
        self._http = store_client(transport, step_s=timeout_s)
        self._pause = pause
        self._attempts = attempts
        self._firsts: dict[str, First] = {}
        self._lock = threading.Lock()

    @abstractmethod
    def describe(self) -> str:
        """Address of the store."""

    @abstractmethod
    def _name(self, name: str) -> str:
        """Address of a blob, for messages."""

    @abstractmethod
    def _request(self, name: str, first: int, last: int) -> httpx.Request:
        """Ask for bytes ``first`` to ``last``, both included. Raises AgainError or RegaliaError."""

    def _tls(self) -> ssl.SSLContext:
        """Whose certificates are believed."""
        return certificates()

    def _send(self, name: str, request: httpx.Request) -> httpx.Response:  # noqa: ARG002
        """Send, and read the head of the answer; the caller closes it. Raises TransportError."""
        return self._http.send(request, stream=True)

    def _version(self, response: httpx.Response) -> tuple[str, ...]:  # noqa: ARG002
        """What the server calls this state of the blob, where its protocol has a word for it."""
        return ()

    def size(self, name: str) -> int:
        """Size of a blob in bytes. It is requested once and then remembered.

        Raises:
            UnavailableError: PEER_UNREACHABLE, BLOB_MISSING, STORE_FAILED or
                STORE_ACCESS_REFUSED.
            IntegrityError: STORE_ANSWER_WRONG.
        """
        return self._known(name).size

    def read_into(self, name: str, offset: int, buffer: memoryview) -> None:
        """Fill the whole buffer.

        Args:
            name: name of the blob.
            offset: offset in the blob of the first byte to read.
            buffer: buffer to fill; its length is the number of bytes to read.

        Raises:
            UnavailableError: as ``size``.
            IntegrityError: STORE_ANSWER_WRONG, also if the range exceeds the blob or the size of
                the blob has changed.
        """
        flat = buffer.cast("B")
        if offset < 0 or offset + flat.nbytes > self.size(name):
            raise IntegrityError(
                StoreCode.STORE_ANSWER_WRONG, f"{self._name(name)} ends before what is to be read"
            )
        for start in range(0, flat.nbytes, RANGE_MAX):
            part = flat[start : start + RANGE_MAX]
            self._attempt(partial(self._ask_range, name, offset + start, part))

    def reading(self) -> Reading | None:
        """As ``IsDistant``: in large ranges, and many at once."""
        return READING

    def _known(self, name: str) -> First:
        with self._lock:
            known = self._firsts.get(name)
        return known if known is not None else self._attempt(lambda: self._ask_first(name))

    def _attempt(self, ask: Callable[[], T]) -> T:
        return in_attempts(ask, self.describe(), pause=self._pause, attempts=self._attempts)

    def _ask_first(self, name: str) -> First:
        # A range request for one byte: its Content-Range states the size (RFC 9110, section 14.4).
        with self._get(name, 0, 0) as response:
            first, last, total = self._content_range(name, response)
            if (first, last) != (0, 0):
                raise self._wrong(name, f"bytes {first}-{last} in place of the first one")
            version = self._version(response)
        if not 0 < total <= BLOB_MAX:
            raise self._wrong(name, f"a size of {total} bytes")
        with self._lock:
            # The first answer counts for all threads: a server must not state different sizes.
            return self._firsts.setdefault(name, First(total, version))

    def _ask_range(self, name: str, first: int, part: memoryview) -> None:
        last = first + part.nbytes - 1
        deadline = time.monotonic() + RANGE_SECONDS
        known = self._known(name)
        with self._get(name, first, last) as response:
            want = (first, last, known.size)
            if (got := self._content_range(name, response)) != want:
                raise self._wrong(name, f"bytes {got} in place of {want}")
            if self._version(response) != known.version:
                raise self._wrong(name, "another version than the one that was begun with")
            done = 0
            try:
                for piece in response.iter_raw():
                    if done + len(piece) > part.nbytes:
                        raise self._wrong(name, "more bytes than were asked for")
                    part[done : done + len(piece)] = piece
                    done += len(piece)
                    if time.monotonic() > deadline:
                        raise AgainError(f"{part.nbytes} bytes took over {RANGE_SECONDS} s")
            except httpx.TransportError as exc:
                raise AgainError(f"{type(exc).__name__}: {exc}") from exc
            if done != part.nbytes:
                raise AgainError(f"{done} of {part.nbytes} bytes arrived")

    @contextmanager
    def _get(self, name: str, first: int, last: int) -> Iterator[httpx.Response]:
        if not STORED_NAME.fullmatch(name):
            raise UnavailableError(StoreCode.BLOB_MISSING, f"{name[:80]!r} is no blob's name")
        request = self._request(name, first, last)
        try:
            response = self._send(name, request)
        except httpx.TransportError as exc:
            raise AgainError(f"{type(exc).__name__}: {exc}", unreachable=True) from exc
        try:
            self._check_status(name, response)
            yield response
        finally:
            response.close()

    def _check_status(self, name: str, response: httpx.Response) -> None:
        status = response.status_code
        if status >= _SERVER_ERROR or status == _BUSY:
            raise AgainError(f"status {status}")
        if status in _FORBIDDEN:
            raise UnavailableError(
                StoreCode.STORE_ACCESS_REFUSED, f"{self._name(name)}: status {status}"
            )
        if status == _NOT_FOUND:
            raise UnavailableError(StoreCode.BLOB_MISSING, f"{self._name(name)} is not there")
        if status != _PARTIAL:
            raise self._wrong(name, f"status {status} in place of {_PARTIAL}")
        if response.headers.get("content-encoding", "identity") != "identity":
            raise self._wrong(name, "an encoding that was not asked for")

    def _content_range(self, name: str, response: httpx.Response) -> tuple[int, int, int]:
        """First byte, last byte and size of the whole blob, as the server states them."""
        text = response.headers.get("content-range", "")
        match = _CONTENT_RANGE.fullmatch(text)
        if match is None:
            raise self._wrong(name, f"content-range {text[:80]!r}")
        first, last, total = (int(group) for group in match.groups())
        return first, last, total

    def _wrong(self, name: str, what: str) -> IntegrityError:
        return IntegrityError(StoreCode.STORE_ANSWER_WRONG, f"{self._name(name)}: {what}")

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
