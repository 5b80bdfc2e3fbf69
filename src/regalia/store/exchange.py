"""Small requests to an untrusted store: one answer, bounded in time and size."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

import httpx

from regalia.core.errors import IntegrityError
from regalia.host.transports import HeadTransport
from regalia.store.attempts import AgainError, in_attempts
from regalia.store.connection import certificates, store_client
from regalia.store.names import StoreCode

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from regalia.store.attempts import T

STEP_S = 60.0  # seconds that each step of a request may take; a part is sent in at most as many
ANSWER_S = 300.0  # seconds from a request to the end of its answer
SERVER_ERROR = 500
BUSY = 429
_SUCCESS = range(200, 300)


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, headers and body of an answer."""

    status: int
    headers: httpx.Headers
    body: bytes


@dataclass(frozen=True, slots=True)
class Call:
    """A request, and what is expected of its answer.

    Attributes:
        limit: bytes of the answer's body.
        allow: statuses that the caller expects, besides successes.
    """

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | bytearray | None = field(default=None, repr=False)
    limit: int = 1 << 16
    allow: frozenset[int] = frozenset()

    def answered_by(self, status: int) -> bool:
        """Whether the caller expects this status."""
        return status in _SUCCESS or status in self.allow


class Exchange:
    """Sends requests, and reads whole answers. May be used from several threads.

    Args:
        where: address of the store, for messages.
        transport: replaces the HTTP transport in tests.
        pause: replaces ``time.sleep`` between attempts in tests.
        step_s: seconds that each step of a request may take.
        answer_s: seconds from a request to the end of its answer.

    Raises:
        UsageError: as ``certificates``.
    """

    def __init__(
        self,
        where: str,
        *,
        transport: httpx.BaseTransport | None = None,
        pause: Callable[[float], None] = time.sleep,
        step_s: float = STEP_S,
        answer_s: float = ANSWER_S,
    ) -> None:
        self._where = where
        self._pause = pause
        self._ahead_s = 0.0
        if transport is None:
            transport = HeadTransport(answer_s, tls=certificates())
        self._http = store_client(transport, step_s=step_s)

    def send(self, call: Call, headers: Mapping[str, str]) -> Answer:
        """Send one request.

        Args:
            call: the request.
            headers: besides those of the request.

        Raises:
            AgainError: the server cannot be reached, is busy or broken, or takes too long.
            IntegrityError: STORE_ANSWER_WRONG, the body is larger.
        """
        request = self._http.build_request(
            call.method,
            call.url,
            headers={**call.headers, **headers, "accept-encoding": "identity"},
            content=None if call.body is None else bytes(call.body),
        )
        try:
            response = self._http.send(request, stream=True)
        except httpx.TransportError as exc:
            raise AgainError(f"{type(exc).__name__}: {exc}", unreachable=True) from exc
        try:
            # Before its body: what a gateway says of a failure may be long, and nobody reads it.
            if response.status_code >= SERVER_ERROR or response.status_code == BUSY:
                raise AgainError(f"status {response.status_code}")
            data = self._body(response, call.limit)
        except httpx.TransportError as exc:
            raise AgainError(f"{type(exc).__name__}: {exc}") from exc
        finally:
            response.close()
        self._note_time(response)
        return Answer(response.status_code, response.headers, data)

    def attempt(self, ask: Callable[[], T]) -> T:
        """As ``in_attempts``, for this store."""
        return in_attempts(ask, self._where, pause=self._pause)

    def now(self) -> float:
        """The server's time as far as its answers tell it, in seconds since 1970."""
        return time.time() + self._ahead_s

    def wrong(self, what: str) -> IntegrityError:
        """STORE_ANSWER_WRONG."""
        return IntegrityError(StoreCode.STORE_ANSWER_WRONG, f"{self._where}: {what}")

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _body(self, response: httpx.Response, limit: int) -> bytes:
        data = bytearray()
        for piece in response.iter_raw():
            data += piece
            if len(data) > limit:
                raise self.wrong(f"an answer of more than {limit} bytes")
        return bytes(data)

    def _note_time(self, response: httpx.Response) -> None:
        try:
            stated = parsedate_to_datetime(response.headers.get("date", "")).timestamp()
        except (ValueError, OverflowError):  # the latter for a year of twenty digits
            return
        self._ahead_s = stated - time.time()
