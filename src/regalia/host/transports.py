"""HTTP transports whose timeouts hold for the head of an answer as a whole.

httpx bounds each read. A server that sends an interim answer (1xx) now and then, and never the
final one, would so be waited for without end, and so would one that sends a body byte by byte.
Here the head of the final answer must be there within the sum of the request's timeouts, and a
reader bounds all of an answer by the transport's ``answer_s`` or by ``answer_within``.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import httpcore
import httpx

from regalia.host.deadlines import allowed_s, answer_within, sooner, time_left, until

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Iterable, Iterator

_WRITE = 64 << 10  # bytes that are sent between two looks at the clock
_LIMITS = httpx.Limits(max_connections=100, max_keepalive_connections=20, keepalive_expiry=5.0)


class HeadTransport(httpx.HTTPTransport):
    """Synchronous transport. Takes no proxy or credentials from the environment.

    Args:
        answer_s: seconds from a request to the end of its answer; None if answers may last.
        tls: whose certificates are believed; None for the public authorities.
    """

    def __init__(self, answer_s: float | None = None, *, tls: ssl.SSLContext | None = None) -> None:
        context = httpx.create_ssl_context(trust_env=False) if tls is None else tls
        super().__init__(verify=context, trust_env=False, limits=_LIMITS)
        self._answer_s = answer_s
        # httpx passes every setting of the pool on but this one.
        self._pool = httpcore.ConnectionPool(
            ssl_context=context,
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
        end = sooner(None, self._answer_s)
        with until(end), answer_within(allowed_s(request)):
            response = super().handle_request(request)
        if end is not None and isinstance(response.stream, httpx.SyncByteStream):
            response.stream = _BoundedStream(response.stream, end)
        return response


class _BoundedStream(httpx.SyncByteStream):
    """A body that has to be there in time, whoever reads it, and in whichever thread."""

    def __init__(self, inner: httpx.SyncByteStream, end: float) -> None:
        self._inner = inner
        self._end = end

    def __iter__(self) -> Iterator[bytes]:
        pieces = iter(self._inner)
        while True:
            with until(sooner(self._end, None)):
                piece = next(pieces, None)
            if piece is None:
                return
            yield piece

    def close(self) -> None:
        self._inner.close()


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
            with anyio.fail_after(allowed_s(request)):
                return await super().handle_async_request(request)
        except TimeoutError as exc:
            raise httpx.ReadTimeout("no final answer in time", request=request) from exc


@asynccontextmanager
async def answer_within_async(seconds: float) -> AsyncIterator[None]:
    """As ``answer_within``, for any asynchronous transport.

    Args:
        seconds: from now on.
    """
    try:
        with anyio.fail_after(seconds):
            yield
    except TimeoutError as exc:
        raise httpx.ReadTimeout("no whole answer in time") from exc


class _Backend(httpcore.SyncBackend):
    """Connections whose reads and writes end in time for an answer's head, or for all of it."""

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
        try:
            timeout = time_left(timeout)
        except TimeoutError as exc:
            raise httpcore.ReadTimeout(str(exc)) from exc
        return self._inner.read(max_bytes, timeout)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        # Cut, as the timeout holds for each little that a slow reader takes.
        view = memoryview(buffer)
        for start in range(0, len(view), _WRITE):
            try:
                timeout = time_left(timeout)
            except TimeoutError as exc:
                raise httpcore.WriteTimeout("the request was not taken in time") from exc
            self._inner.write(bytes(view[start : start + _WRITE]), timeout)

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
