"""HTTP transports whose timeouts hold for the head of an answer as a whole.

httpx bounds each read. A server that sends an interim answer (1xx) now and then, and never the
final one, would so be waited for without end. Here the head of the final answer must be there
within the sum of the request's timeouts. The body is bounded by each reader.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import anyio
import httpcore
import httpx

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable, Iterator

# Until when the head has to be there, on the monotonic clock. Reading it happens in the thread
# that sent the request, before the transport returns.
_UNTIL: ContextVar[float | None] = ContextVar("until", default=None)
_LIMITS = httpx.Limits(max_connections=100, max_keepalive_connections=20, keepalive_expiry=5.0)


def _allowed_s(request: httpx.Request) -> float | None:
    """Seconds that an exchange may take until the head of its answer; None if there is no bound."""
    timeouts: dict[str, float | None] = request.extensions.get("timeout", {})
    seconds = [timeouts.get(step) for step in ("pool", "connect", "write", "read")]
    return None if None in seconds else sum(each for each in seconds if each is not None)


class HeadTransport(httpx.HTTPTransport):
    """Synchronous transport. Takes no proxy or credentials from the environment."""

    def __init__(self) -> None:
        super().__init__(trust_env=False, limits=_LIMITS)
        # httpx passes every setting of the pool on but this one.
        self._pool = httpcore.ConnectionPool(
            ssl_context=httpx.create_ssl_context(trust_env=False),
            max_connections=_LIMITS.max_connections,
            max_keepalive_connections=_LIMITS.max_keepalive_connections,
            keepalive_expiry=_LIMITS.keepalive_expiry,
            network_backend=_Backend(),
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send, and read the head of the answer.

        Args:
            request: with the timeouts of its client.

        Raises:
            httpx.TransportError: ReadTimeout, also if only the head as a whole takes too long.
        """
        with _head_within(_allowed_s(request)):
            return super().handle_request(request)


class AsyncHeadTransport(httpx.AsyncHTTPTransport):
    """Asynchronous transport. Takes no proxy or credentials from the environment."""

    def __init__(self) -> None:
        super().__init__(trust_env=False, limits=_LIMITS)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """As ``HeadTransport.handle_request``.

        Args:
            request: with the timeouts of its client.
        """
        try:
            with anyio.fail_after(_allowed_s(request)):
                return await super().handle_async_request(request)
        except TimeoutError as exc:
            raise httpx.ReadTimeout("no final answer in time", request=request) from exc


@contextmanager
def _head_within(seconds: float | None) -> Iterator[None]:
    token = _UNTIL.set(None if seconds is None else time.monotonic() + seconds)
    try:
        yield
    finally:
        _UNTIL.reset(token)


class _Backend(httpcore.SyncBackend):
    """Connections whose reads end in time for the head of an answer."""

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        stream = super().connect_tcp(host, port, timeout, local_address, socket_options)
        return _Stream(stream)


class _Stream(httpcore.NetworkStream):
    def __init__(self, inner: httpcore.NetworkStream) -> None:
        self._inner = inner

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        until = _UNTIL.get()
        if until is not None:
            left = until - time.monotonic()
            if left <= 0:
                raise httpcore.ReadTimeout("no final answer in time")
            timeout = left if timeout is None else min(timeout, left)
        return self._inner.read(max_bytes, timeout)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, timeout)

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        return _Stream(self._inner.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:  # noqa: ANN401 - as the base class
        return self._inner.get_extra_info(info)
