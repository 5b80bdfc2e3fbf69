"""An engine's API on a unix socket, byte by byte as a test wants it, and a proxy before it."""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from regalia.runtime.callers import Callers
from regalia.runtime.config import LimitsSection
from regalia.runtime.hosted.proxy import Proxy, build_app
from regalia.runtime.metrics import Metrics
from regalia.runtime.workload import InnerParts
from regalia_testing.hosted_engine import EchoGuard

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from starlette.applications import Starlette

    from regalia.engines.hosted import RequestGuard
    from regalia.runtime.config import CallerSection

    Behave = Callable[["Asked", asyncio.StreamWriter], Awaitable[None]]

CHAT = "/v1/chat/completions"


@dataclass
class Asked:
    """A request that reached the engine."""

    method: str
    target: str
    headers: dict[str, str]
    body: Any


def response(body: bytes, *, status: int = 200, kind: str = "application/json") -> bytes:
    """A whole answer."""
    head = f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def stream_head(kind: str = "text/event-stream; charset=utf-8") -> bytes:
    """The beginning of an answer that ends with its connection."""
    return f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\nconnection: close\r\n\r\n".encode()


async def echo(asked: Asked, writer: asyncio.StreamWriter) -> None:
    """Answer with what was asked."""
    writer.write(response(msgspec.json.encode(asked.body)))


@dataclass
class FakeEngine:
    """Notes what it was asked, and behaves as it is told."""

    behave: Behave = echo
    asked: list[Asked] = field(default_factory=list)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One more connection."""
        task = asyncio.create_task(self.serve(reader, writer))
        self.tasks.add(task)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, until it is closed."""
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                await self._answer(reader, writer)
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, target, _ = head[0].split(" ")
        fields = dict(line.lower().split(": ", 1) for line in head[1:] if line)
        body = await reader.readexactly(int(fields.get("content-length", 0)))
        asked = Asked(method, target, fields, msgspec.json.decode(body))
        self.asked.append(asked)
        await self.behave(asked, writer)
        await writer.drain()

    async def end(self) -> None:
        """Close what is open."""
        for task in self.tasks:
            task.cancel()
        if self.tasks:
            await asyncio.wait(self.tasks)
        self.tasks.clear()


@asynccontextmanager
async def proxied(
    engine: FakeEngine,
    *,
    limits: LimitsSection | None = None,
    callers: tuple[CallerSection, ...] = (),
    guard: RequestGuard | None = None,
    serving: bool = True,
) -> AsyncIterator[tuple[Starlette, Proxy]]:
    """The inner application before an engine."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "api"
        server = await asyncio.start_unix_server(engine.connected, path)
        parts = InnerParts(
            callers=Callers(callers),
            metrics=Metrics(),
            fingerprint="model:00",
            started=0,
            serving=lambda: serving,
        )
        proxy = Proxy(
            path,
            guard or EchoGuard(),
            parts,
            served_name="tiny",
            limits=limits or LimitsSection(stream_padding=0),
        )
        async with server:
            try:
                yield build_app(proxy), proxy
            finally:
                await engine.end()
