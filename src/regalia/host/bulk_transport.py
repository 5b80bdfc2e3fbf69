"""An HTTP transport for large bodies, on the parser of the standard library.

The parser that httpx brings copies each body several times while it holds the interpreter's lock:
2 to 3 ms of CPU time for each MiB, whatever the number of threads. http.client reads from the
socket into the piece that is handed out, without the lock. What ``HeadTransport`` bounds is
bounded here as well: the head of an answer as a whole, and all of it.
"""

from __future__ import annotations

import http.client
import io
import select
import socket
import ssl
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx

from regalia.host.deadlines import allowed_s, answer_within, sooner, time_left, until

if TYPE_CHECKING:
    from collections.abc import Iterator

_PIECE = 256 << 10  # bytes that are handed out at most at once
_HEAD_MAX = 256 << 10  # bytes of an answer's head, and of what was read ahead of its body
_READ_AHEAD = 64 << 10  # bytes
_IDLE_MAX = 20  # connections that are kept for later
_IDLE_S = 5.0
_FINAL = 200  # the lowest status that is not interim
_PORTS = {"http": 80, "https": 443}
_FORBIDDEN = frozenset(b"\r\n\0")


class BulkTransport(httpx.BaseTransport):
    """Synchronous transport for GET. Takes no proxy or credentials from the environment.

    Args:
        answer_s: seconds from a request to the end of its answer.
        tls: whose certificates are believed.
    """

    def __init__(self, answer_s: float, tls: ssl.SSLContext) -> None:
        self._answer_s = answer_s
        self._tls = tls
        self._tls.set_alpn_protocols(["http/1.1"])
        self._idle: list[_Connection] = []
        self._lock = threading.Lock()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send, and read the head of the answer.

        Args:
            request: without a body, and with the timeouts of its client.

        Raises:
            httpx.TransportError: it cannot be sent, or the head is malformed or late.
        """
        head = _head_of(request)
        end = sooner(None, self._answer_s)
        with until(end), answer_within(allowed_s(request)):
            connection = self._kept(request)
            if connection is not None:
                # It may have been closed by the server meanwhile, which shows only now.
                try:
                    response = connection.ask(head, request)
                except (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError):
                    connection = None
            if connection is None:
                connection = _Connection(request, self._tls)
                response = connection.ask(head, request)
        fields = [
            (name.encode("latin-1"), v.encode("latin-1")) for name, v in response.getheaders()
        ]
        body = _Body(self, connection, response, end)
        return httpx.Response(response.status, headers=fields, stream=body)

    def close(self) -> None:
        """Close the connections that nobody uses."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def keep(self, connection: _Connection) -> None:
        """Take back a connection whose answer was read to its end."""
        connection.idle_since = time.monotonic()
        with self._lock:
            self._idle.append(connection)
            surplus = self._idle.pop(0) if len(self._idle) > _IDLE_MAX else None
        if surplus is not None:
            surplus.close()

    def _kept(self, request: httpx.Request) -> _Connection | None:
        place, now = _place(request.url), time.monotonic()
        with self._lock:
            old = [each for each in self._idle if now - each.idle_since > _IDLE_S]
            fresh = [each for each in self._idle if now - each.idle_since <= _IDLE_S]
            found = next((each for each in reversed(fresh) if each.place == place), None)
            self._idle = [each for each in fresh if each is not found]
        for each in old:
            each.close()
        if found is not None and not found.is_quiet():
            found.close()
            return None
        return found


class _Connection:
    """One connection, which answers one request after the other."""

    def __init__(self, request: httpx.Request, tls: ssl.SSLContext) -> None:
        self.place = _place(request.url)
        self.idle_since = 0.0
        scheme, host, port = self.place
        with _as_transport_errors(request, httpx.ConnectTimeout, httpx.ConnectError):
            timeout = time_left(request.extensions.get("timeout", {}).get("connect"))
            sock = socket.create_connection((host, port), timeout)
            try:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if scheme == "https":
                    sock = tls.wrap_socket(sock, server_hostname=host)
            except BaseException:
                sock.close()
                raise
        self._sock = sock
        self._bytes = _Bytes(sock)
        self._reader = _Reader(self._bytes, _READ_AHEAD)

    def ask(self, head: bytes, request: httpx.Request) -> http.client.HTTPResponse:
        """Send a request, and read the head of its final answer. Closed if it raises."""
        timeouts = request.extensions.get("timeout", {})
        try:
            with _as_transport_errors(request, httpx.WriteTimeout, httpx.WriteError):
                self._sock.settimeout(time_left(timeouts.get("write")))
                self._sock.sendall(head)
            self._bytes.begin_head(timeouts.get("read"))
            with _as_transport_errors(request, httpx.ReadTimeout, httpx.ReadError):
                while True:
                    response = http.client.HTTPResponse(self, method="GET")  # type: ignore[arg-type]
                    response.begin()
                    if response.status >= _FINAL:
                        break
            self._bytes.end_head()
        except BaseException:
            self.close()
            raise
        return response

    def is_quiet(self) -> bool:
        """Whether nothing came after the last answer, neither the end nor what nobody asked for."""
        if self._bytes.has_more(self._reader):
            return False
        readable, _, _ = select.select([self._sock], [], [], 0)
        return not readable

    def makefile(self, _mode: str) -> io.BufferedReader:
        """What the parser reads from. It outlives a response, with what was read ahead."""
        return self._reader

    def close(self) -> None:
        """Close the connection."""
        self._sock.close()


class _Bytes(io.RawIOBase):
    """The bytes of a socket, each step of which ends in time."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._step_s: float | None = None
        self._head_left: int | None = None
        self._held = False

    def has_more(self, reader: io.BufferedReader) -> bool:
        """Whether something was read ahead and not handed out, here or by TLS."""
        self._held = True  # so that looking does not read
        try:
            ahead = reader.peek(1)
        finally:
            self._held = False
        return bool(ahead) or (isinstance(self._sock, ssl.SSLSocket) and self._sock.pending() > 0)

    def begin_head(self, step_s: float | None) -> None:
        self._step_s, self._head_left = step_s, _HEAD_MAX

    def end_head(self) -> None:
        self._head_left = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int | None:  # type: ignore[override]
        if self._held:
            return None
        self._sock.settimeout(time_left(self._step_s))
        count = self._sock.recv_into(buffer)
        if self._head_left is not None:
            self._head_left -= count
            if self._head_left < 0:
                raise http.client.HTTPException(f"a head of more than {_HEAD_MAX} bytes")
        return count


class _Reader(io.BufferedReader):
    """A reader that is not closed at the end of an answer."""

    def close(self) -> None:
        pass


class _Body(httpx.SyncByteStream):
    """A body that has to be there in time, whoever reads it, and in whichever thread."""

    def __init__(
        self,
        transport: BulkTransport,
        connection: _Connection,
        response: http.client.HTTPResponse,
        end: float | None,
    ) -> None:
        self._transport = transport
        self._connection: _Connection | None = connection
        self._response = response
        self._end = end

    def __iter__(self) -> Iterator[bytes]:
        while piece := self._next():
            yield piece
        if not self._response.length:  # else the answer broke off
            self._give_back()

    def _next(self) -> bytes:
        with (
            until(sooner(self._end, None)),
            _as_transport_errors(None, httpx.ReadTimeout, httpx.ReadError),
        ):
            return self._response.read1(_PIECE)

    def _give_back(self) -> None:
        if self._connection is not None and not self._response.will_close:
            self._transport.keep(self._connection)
            self._connection = None

    def close(self) -> None:
        """Close the connection if the body was not read to its end."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


@contextmanager
def _as_transport_errors(
    request: httpx.Request | None,
    late: type[httpx.TransportError],
    broken: type[httpx.TransportError],
) -> Iterator[None]:
    """Raise what httpx raises, for what sockets and the parser raise."""
    try:
        yield
    except TimeoutError as exc:
        raise late(str(exc) or "timed out", request=request) from exc
    except OSError as exc:  # a connection that ended, and certificates that do not verify, too
        raise broken(str(exc), request=request) from exc
    except (http.client.HTTPException, ValueError) as exc:
        text = f"{type(exc).__name__}: {exc}"
        raise httpx.RemoteProtocolError(text, request=request) from exc


def _place(url: httpx.URL) -> tuple[str, str, int]:
    return url.scheme, url.host, url.port or _PORTS[url.scheme]


def _head_of(request: httpx.Request) -> bytes:
    """The request as bytes. Raises LocalProtocolError."""
    method, url = request.method, request.url
    if method != "GET" or url.scheme not in _PORTS:
        raise httpx.UnsupportedProtocol(f"{method} {url.scheme}", request=request)
    lines = [b"GET " + url.raw_path + b" HTTP/1.1"]
    lines += [name + b": " + value for name, value in request.headers.raw]
    if any(_FORBIDDEN.intersection(line) for line in lines):
        raise httpx.LocalProtocolError("a control character in a header", request=request)
    return b"\r\n".join([*lines, b"", b""])
