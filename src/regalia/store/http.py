"""Reads ciphertext over HTTP. The server is untrusted, so answers are compared with requests."""

from __future__ import annotations

import re
import threading
import time
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Self, TypeVar

import httpx

from regalia.core.errors import CoreCode, IntegrityError, UnavailableError, UsageError
from regalia.host.transports import HeadTransport
from regalia.store.names import BLOB_NAME, StoreCode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

_T = TypeVar("_T")
TIMEOUT_S = 30.0
ATTEMPTS = 4
_PAUSES_S = (0.2, 0.8, 2.0)  # before the second, third and fourth attempt
BLOB_MAX = 1 << 46  # bytes; a server that claims a larger size is refused
RANGE_MAX = 16 << 20  # bytes of one request
RANGE_SECONDS = 300.0  # a slower answer is abandoned, as it may be meant to stall the start

_CONTENT_RANGE = re.compile(r"bytes (\d{1,20})-(\d{1,20})/(\d{1,20})")
_PARTIAL = 206
_NOT_FOUND = 404
_SERVER_ERROR = 500


class _AgainError(Exception):
    """An attempt failed for a reason that may be temporary."""

    def __init__(self, why: str, *, unreachable: bool = False) -> None:
        super().__init__(why)
        self.unreachable = unreachable


class HttpBlobs:
    """Reads blobs under a URL with range requests. May be used from several threads.

    Args:
        url: http or https address of the folder with the blobs. Redirects are not followed.
        transport: replaces the HTTP transport in tests.
        pause: replaces ``time.sleep`` between attempts in tests.
    """

    def __init__(
        self,
        url: str,
        *,
        transport: httpx.BaseTransport | None = None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        try:
            self._url = httpx.URL(url if url.endswith("/") else url + "/")
        except httpx.InvalidURL as exc:
            raise UsageError(CoreCode.BAD_CONFIG, f"store {url!r} is no URL") from exc
        if self._url.scheme not in ("http", "https") or not self._url.host or self._url.query:
            raise UsageError(CoreCode.BAD_CONFIG, f"store {url!r}: want http://HOST[:PORT]/PATH/")
        self._http = httpx.Client(
            timeout=TIMEOUT_S,
            trust_env=False,
            follow_redirects=False,
            transport=HeadTransport(RANGE_SECONDS) if transport is None else transport,
        )
        self._pause = pause
        self._sizes: dict[str, int] = {}
        self._lock = threading.Lock()

    def describe(self) -> str:
        """Address of the store."""
        return str(self._url)

    def size(self, name: str) -> int:
        """Size of a blob in bytes. It is requested once and then remembered.

        Raises:
            UnavailableError: PEER_UNREACHABLE, BLOB_MISSING or STORE_FAILED.
            IntegrityError: STORE_ANSWER_WRONG.
        """
        with self._lock:
            known = self._sizes.get(name)
        return known if known is not None else self._attempt(lambda: self._ask_size(name))

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

    def _name(self, name: str) -> str:
        return f"{self._url}{name}"

    def _attempt(self, ask: Callable[[], _T]) -> _T:
        last: _AgainError | None = None
        for number in range(ATTEMPTS):
            if number:
                self._pause(_PAUSES_S[number - 1])
            try:
                return ask()
            except _AgainError as exc:
                last = exc
        raise UnavailableError(
            CoreCode.PEER_UNREACHABLE if last and last.unreachable else StoreCode.STORE_FAILED,
            f"{self._url}: {ATTEMPTS} attempts, the last one: {last}",
        ) from last

    def _ask_size(self, name: str) -> int:
        # A range request for one byte: its Content-Range states the size (RFC 9110, section 14.4).
        with self._get(name, 0, 0) as response:
            _, _, total = _content_range(response)
        if not 0 < total <= BLOB_MAX:
            raise _wrong(self._name(name), f"a size of {total} bytes")
        with self._lock:
            # The first answer counts for all threads: a server must not state different sizes.
            return self._sizes.setdefault(name, total)

    def _ask_range(self, name: str, first: int, part: memoryview) -> None:
        last = first + part.nbytes - 1
        deadline = time.monotonic() + RANGE_SECONDS
        with self._get(name, first, last) as response:
            want = (first, last, self.size(name))
            if (got := _content_range(response)) != want:
                raise _wrong(self._name(name), f"bytes {got} in place of {want}")
            done = 0
            try:
                for piece in response.iter_raw():
                    if done + len(piece) > part.nbytes:
                        raise _wrong(self._name(name), "more bytes than were asked for")
                    part[done : done + len(piece)] = piece
                    done += len(piece)
                    if time.monotonic() > deadline:
                        raise _AgainError(f"{part.nbytes} bytes took over {RANGE_SECONDS} s")
            except httpx.TransportError as exc:
                raise _AgainError(f"{type(exc).__name__}: {exc}") from exc
            if done != part.nbytes:
                raise _AgainError(f"{done} of {part.nbytes} bytes arrived")

    @contextmanager
    def _get(self, name: str, first: int, last: int) -> Iterator[httpx.Response]:
        if not BLOB_NAME.fullmatch(name):
            raise UnavailableError(StoreCode.BLOB_MISSING, f"{name[:80]!r} is no blob's name")
        request = self._http.build_request(
            "GET",
            self._url.join(name),
            headers={"range": f"bytes={first}-{last}", "accept-encoding": "identity"},
        )
        try:
            response = self._http.send(request, stream=True)
        except httpx.TransportError as exc:
            raise _AgainError(f"{type(exc).__name__}: {exc}", unreachable=True) from exc
        try:
            self._check_status(name, response)
            yield response
        finally:
            response.close()

    def _check_status(self, name: str, response: httpx.Response) -> None:
        status = response.status_code
        if status >= _SERVER_ERROR:
            raise _AgainError(f"status {status}")
        if status == _NOT_FOUND:
            raise UnavailableError(StoreCode.BLOB_MISSING, f"{self._name(name)} is not there")
        if status != _PARTIAL:
            raise _wrong(self._name(name), f"status {status} in place of {_PARTIAL}")
        if response.headers.get("content-encoding", "identity") != "identity":
            raise _wrong(self._name(name), "an encoding that was not asked for")

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


def _content_range(response: httpx.Response) -> tuple[int, int, int]:
    """First byte, last byte and size of the whole blob, as the server states them."""
    text = response.headers.get("content-range", "")
    match = _CONTENT_RANGE.fullmatch(text)
    if match is None:
        raise _wrong(str(response.request.url), f"content-range {text[:80]!r}")
    first, last, total = (int(group) for group in match.groups())
    return first, last, total


def _wrong(where: str, what: str) -> IntegrityError:
    return IntegrityError(StoreCode.STORE_ANSWER_WRONG, f"{where}: {what}")
