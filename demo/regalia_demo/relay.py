"""A hostile relay: it stands in the path as a reseller's proxy would, reads along, and cuts.

It speaks HTTP on both sides and ends a cut answer cleanly, as a careful thief would: a plain
client sees nothing wrong.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.responses import StreamingResponse
from starlette.routing import Route

from regalia_demo.processes import free_address

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from starlette.requests import Request

_HOP_BY_HOP = {"host", "connection", "content-length", "transfer-encoding", "keep-alive"}
_WAIT_S = 10
_TIMEOUT_S = 120


@dataclass
class Relay:
    """What the relay is told to do, and what it has seen."""

    upstream: str
    keep_chunks: int | None = None  # pass on so many pieces of a streamed answer, then end it
    seen: bytearray = field(default_factory=bytearray)
    url: str = ""

    async def handle(self, request: Request) -> StreamingResponse:
        """Pass one request on."""
        body = await request.body()
        self.seen += f"{request.method} {request.url.path}\n{request.headers.items()}\n".encode()
        self.seen += body
        client = httpx.AsyncClient(timeout=_TIMEOUT_S)
        upstream = await client.send(
            client.build_request(
                request.method,
                f"{self.upstream}{request.url.path}",
                params=request.url.query.encode(),
                content=body,
                headers=[(k, v) for k, v in request.headers.items() if k not in _HOP_BY_HOP],
            ),
            stream=True,
        )

        async def pieces() -> AsyncIterator[bytes]:
            passed = 0
            try:
                async for piece in upstream.aiter_raw():
                    self.seen += piece
                    if self._cuts(request) and passed == self.keep_chunks:
                        return
                    passed += 1
                    yield piece
            finally:
                await upstream.aclose()
                await client.aclose()

        headers = {k: v for k, v in upstream.headers.items() if k not in _HOP_BY_HOP}
        return StreamingResponse(pieces(), upstream.status_code, headers)

    def _cuts(self, request: Request) -> bool:
        return self.keep_chunks is not None and request.method == "POST"


@contextmanager
def relay_to(upstream: str, *, keep_chunks: int | None) -> Iterator[Relay]:
    """A relay in front of ``upstream`` on a loopback address, in a thread of its own."""
    address = free_address()
    relay = Relay(upstream, keep_chunks, url=f"http://{address}")
    app = Starlette(routes=[Route("/{path:path}", relay.handle, methods=["GET", "POST"])])
    host, _, port = address.rpartition(":")
    server = uvicorn.Server(
        uvicorn.Config(app, host=host, port=int(port), log_level="critical", lifespan="off")
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        waited = threading.Event()
        for _ in range(_WAIT_S * 20):
            if server.started:
                break
            waited.wait(0.05)
        yield relay
    finally:
        server.should_exit = True
        thread.join(_WAIT_S)
