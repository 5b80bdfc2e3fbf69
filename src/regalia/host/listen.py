"""Listening on an address, and running an ASGI application there until a signal comes.

The socket is bound before anything else happens, so that a taken port is refused at once, and
listened on only when the service is ready, so that nobody connects to a service that is not.
"""

from __future__ import annotations

import os
import signal
import socket
from contextlib import suppress
from typing import TYPE_CHECKING

from regalia.core.codec import decimal
from regalia.core.errors import CoreCode, ParseError, UnavailableError, UsageError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from types import FrameType

    import uvicorn

    from regalia.host.connections import ConnectionLimits

_STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_PATIENCE = 3  # signals after which nothing more is waited for
_PORT_MAX = 65535
_SIGNALED = 128  # a shell's status of a process that a signal has ended, less its number
_BACKLOG = 64  # connections that are accepted in a row, before the others are looked at
_QUEUE = 1024  # connections that wait for that; the kernel ignores more, and the client tries again


def parse_address(text: str) -> tuple[str, int]:
    """``HOST:PORT``, with an IPv6 host in brackets. Port 0 lets the system choose.

    Raises:
        UsageError: BAD_USAGE.
    """
    host, _, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        host = ""
    wrong = UsageError(CoreCode.BAD_USAGE, f"address {text[:80]!r}: want HOST:PORT")
    if not host:
        raise wrong
    try:
        return host, decimal(port, what="port", maximum=_PORT_MAX)
    except ParseError as exc:
        raise wrong from exc


def bind(text: str) -> socket.socket:
    """Bind a TCP socket, not yet listening.

    Raises:
        UsageError: BAD_USAGE.
        UnavailableError: PORT_IN_USE.
    """
    host, port = parse_address(text)
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except socket.gaierror as exc:
        raise UsageError(CoreCode.BAD_USAGE, f"address {text!r}: {exc.strerror}") from exc
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
    except OSError as exc:
        sock.close()
        raise _refused(text, exc) from exc
    return sock


def _refused(text: str, exc: OSError) -> UnavailableError:
    return UnavailableError(CoreCode.PORT_IN_USE, f"cannot listen on {text}: {exc.strerror}")


def address_of(sock: socket.socket) -> str:
    """``HOST:PORT`` of a bound socket."""
    host, port = sock.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def serve(
    app: Callable[..., object],
    sock: socket.socket,
    *,
    drain_s: int,
    on_ready: Callable[[Callable[[], None]], None],
    limits: ConnectionLimits | None = None,
) -> None:
    """Serve HTTP/1.1 until SIGINT, SIGTERM, SIGHUP or a call of the stop function.

    There is no access log and no log of uvicorn's: what is logged, the application logs. Signals
    stay handled when this returns: the caller gives back what it holds, which a second signal
    must not cut. A third one ends the process.

    Args:
        app: ASGI application.
        sock: bound by ``bind``; closed at the end.
        drain_s: seconds that answers in progress get at the end.
        on_ready: called in the event loop once connections are accepted, with a function that
            stops the server from any thread.
        limits: bounds on connections; None for the usual ones.

    Raises:
        UnavailableError: PORT_IN_USE, if somebody else began to listen in the meantime.
    """
    try:
        sock.listen(_BACKLOG)
    except OSError as exc:
        sock.close()
        raise _refused("this address", exc) from exc
    server = _make_server(app, drain_s, on_ready, limits)
    # Signal handlers can be installed only from the main thread.
    stopping = _Stopping(server)
    with suppress(ValueError):
        for number in _STOPS:
            signal.signal(number, stopping.take)
    try:
        server.run(sockets=[sock])
    finally:
        stopping.ended = True


class _Stopping:
    """Handles the signals that stop a server, also while its caller tidies up after it."""

    def __init__(self, server: uvicorn.Server) -> None:
        self._server = server
        self._taken = 0
        self.ended = False

    def take(self, number: int, frame: FrameType | None) -> None:
        """Stop the server; end the process at the third signal if the server is gone."""
        self._taken += 1
        if not self.ended:
            self._server.handle_exit(number, frame)
        elif self._taken >= _PATIENCE:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
            os._exit(_SIGNALED + number)  # the first process of a container survives the signal


def _make_server(
    app: Callable[..., object],
    drain_s: int,
    on_ready: Callable[[Callable[[], None]], None],
    limits: ConnectionLimits | None,
) -> uvicorn.Server:
    import asyncio  # noqa: PLC0415
    from contextlib import contextmanager  # noqa: PLC0415

    import uvicorn  # noqa: PLC0415

    from regalia.host.connections import ConnectionLimits, Door  # noqa: PLC0415

    door = Door(limits or ConnectionLimits())

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets=sockets)
            for sock in sockets or ():
                sock.listen(_QUEUE)  # the event loop keeps its own number of accepts in a row
            loop = asyncio.get_running_loop()
            on_ready(lambda: _stop(self, loop))

        @contextmanager
        def capture_signals(self):  # type: ignore[no-untyped-def] # noqa: ANN202 - uvicorn's signature
            """The base class raises the signal again at the end, which kills the process."""
            yield

    config = uvicorn.Config(
        app,
        log_config=None,
        log_level="critical",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        lifespan="off",
        ws="none",
        backlog=_BACKLOG,
        http=door.protocol(),  # type: ignore[arg-type] # it wants a class, and calls it
        timeout_graceful_shutdown=drain_s,
        h11_max_incomplete_event_size=door.limits.head_size,
    )
    return Server(config)


def _stop(server: uvicorn.Server, loop: asyncio.AbstractEventLoop) -> None:
    def leave() -> None:
        server.should_exit = True

    if not loop.is_closed():
        loop.call_soon_threadsafe(leave)
