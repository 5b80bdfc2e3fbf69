"""The sealed path: chunked OHTTP and Binary HTTP outside, an ordinary ASGI application inside.

Every piece that the inner application sends is sealed and sent on at once, so that streams stay
streams. An answer that breaks off is left without its final chunk: the client sees the cut.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import msgspec

from regalia.core.errors import CoreCode, IntegrityError, ParseError, RegaliaError
from regalia.crypto import ohttp
from regalia.crypto.ohttp import OhttpCode, ServerExchange
from regalia.host.events import ServiceEvent, emit
from regalia.runtime.codes import RequestCode
from regalia.runtime.openai.errors import ApiError
from regalia.wire import bhttp, serving

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from regalia.core.errors import Code
    from regalia.crypto.hpke import KemKeyPair
    from regalia.crypto.ohttp import ResponseSealer
    from regalia.runtime.metrics import Metrics
    from regalia.runtime.replay import ReplayMemory
    from regalia.wire.bhttp import RequestHead

READ_SECONDS = 60  # a request that takes longer to arrive is given up
_DROPPED = {b"connection", b"transfer-encoding", b"keep-alive", b"upgrade"}  # of one hop only


class _RefusedError(Exception):
    """A request that could not be opened: answered in clear, for there is no key to seal with."""

    def __init__(self, status: int, code: Code, detail: str, kind: str = "about:blank") -> None:
        super().__init__(code.name)
        self.status = status
        self.code = code
        self.detail = detail
        self.kind = kind


class _GoneError(Exception):
    """The client left before its request was whole."""


@dataclass(frozen=True, slots=True)
class _Opened:
    """A request as it was before it was sealed, and the way back."""

    head: RequestHead
    body: bytes
    enc: bytes
    sealer: ResponseSealer


class SealedGateway:
    """ASGI application for ``POST /ohttp``.

    Args:
        pair: the attested serving key.
        inner: what answers opened requests.
        replays: refuses repeated ones.
        metrics: counts.
        request_bytes: largest sealed request.
        padding: sealed answers are padded to multiples of this many bytes; 0 = off.
        serving: False once the model is gone.
    """

    def __init__(  # noqa: PLR0913 - each is one collaborator
        self,
        pair: KemKeyPair,
        inner: ASGIApp,
        replays: ReplayMemory,
        metrics: Metrics,
        *,
        request_bytes: int,
        padding: int,
        serving: Callable[[], bool],
    ) -> None:
        self._pair = pair
        self._inner = inner
        self._replays = replays
        self._metrics = metrics
        self._request_bytes = request_bytes
        self._padding = padding
        self._serving = serving

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one sealed request."""
        try:
            opened = await self._open(scope, receive)
        except _GoneError:
            return
        except _RefusedError as refused:
            self._count(refused.code.name)
            await _send_problem(send, refused)
            return
        answer = _SealedAnswer(opened.sealer, send, self._padding)
        try:
            self._admit(opened)
        except ApiError as error:
            self._count(error.code.name)
            await answer.send_whole(error)
            return
        await self._run(opened, receive, answer)

    def _count(self, code: str) -> None:
        self._metrics.refused.labels(code=code).inc()
        emit(ServiceEvent.REQUEST_REFUSED, code=code)

    async def _open(self, scope: Scope, receive: Receive) -> _Opened:
        headers = dict(scope["headers"])
        if not self._serving():
            raise _RefusedError(503, RequestCode.NOT_SERVING, "the runtime has no model")
        if headers.get(b"content-type") != ohttp.REQUEST_MEDIA_TYPE.encode():
            raise _RefusedError(
                415, RequestCode.SEALED_MEDIA_TYPE, f"want content-type {ohttp.REQUEST_MEDIA_TYPE}"
            )
        exchange = ServerExchange(self._pair)
        limits = bhttp.Limits(content_max=self._request_bytes, padding_max=self._request_bytes)
        parser = bhttp.RequestParser(limits)
        events: list[bhttp.Event] = []
        try:
            async with asyncio.timeout(READ_SECONDS):
                async for piece in self._pieces(receive):
                    for chunk in exchange.feed(piece):
                        events += parser.feed(chunk)
            last = exchange.finish()
            events += parser.feed(last) if last else []
            events += parser.finish()
        except (ParseError, IntegrityError) as exc:
            unknown = exc.code is OhttpCode.OHTTP_KEY_UNKNOWN
            kind = serving.KEY_PROBLEM_TYPE if unknown else "about:blank"
            raise _RefusedError(400, exc.code, exc.what, kind) from exc
        except TimeoutError as exc:
            raise _RefusedError(
                408, RequestCode.SEALED_REQUEST_TIMEOUT, f"not whole in {READ_SECONDS} s"
            ) from exc
        return _opened(exchange, events)

    async def _pieces(self, receive: Receive) -> AsyncGenerator[bytes]:
        size = 0
        while True:
            message = await receive()
            if message["type"] != "http.request":
                raise _GoneError
            piece = message.get("body", b"")
            size += len(piece)
            if size > self._request_bytes:
                raise _RefusedError(
                    413,
                    CoreCode.TOO_LARGE,
                    f"a sealed request has at most {self._request_bytes} bytes",
                )
            if piece:
                yield piece
            if not message.get("more_body", False):
                return

    def _admit(self, opened: _Opened) -> None:
        dates = [value for name, value in opened.head.fields if name == b"date"]
        date = dates[0].decode("ascii", "replace") if len(dates) == 1 else None
        self._replays.require_admissible(opened.enc, date)

    async def _run(self, opened: _Opened, receive: Receive, answer: _SealedAnswer) -> None:
        """Run the inner application until it is done or the client has left."""
        inner = asyncio.create_task(
            _call(self._inner, _inner_scope(opened.head), opened.body, answer)
        )
        gone = asyncio.create_task(_disconnected(receive))
        try:
            await asyncio.wait({inner, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (inner, gone):
                task.cancel()
            await asyncio.gather(inner, gone, return_exceptions=True)
        if not inner.cancelled() and (failure := inner.exception()) is not None:
            # Its words may quote a prompt: only its kind is told. The answer stays without an end.
            emit(ServiceEvent.REQUEST_REFUSED, code=_name(failure))


def _name(failure: BaseException) -> str:
    return failure.code.name if isinstance(failure, RegaliaError) else type(failure).__name__


def _opened(exchange: ServerExchange, events: list[bhttp.Event]) -> _Opened:
    head = next(item for item in events if isinstance(item, bhttp.RequestHead))
    body = b"".join(item.data for item in events if isinstance(item, bhttp.Content))
    if exchange.enc is None:
        raise RuntimeError("an opened request has an encapsulated key")
    return _Opened(head, body, exchange.enc, exchange.response())


def _inner_scope(head: RequestHead) -> dict[str, Any]:
    path, _, query = head.path.partition(b"?")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": head.method.decode("ascii"),
        "scheme": "https",
        "path": unquote(path.decode("ascii")),
        "raw_path": path,
        "query_string": query,
        "root_path": "",
        "headers": list(head.fields),
        "client": None,
        "server": None,
    }


async def _call(app: ASGIApp, scope: Scope, body: bytes, answer: _SealedAnswer) -> None:
    asked = False

    async def receive() -> Message:
        nonlocal asked
        if asked:
            await asyncio.Event().wait()  # this task is cancelled when the client leaves
        asked = True
        return {"type": "http.request", "body": body, "more_body": False}

    await app(scope, receive, answer.send)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class _SealedAnswer:
    """Takes ASGI messages of the inner application and sends them on, sealed."""

    def __init__(self, sealer: ResponseSealer, send: Send, padding: int) -> None:
        self._sealer = sealer
        self._send = send
        self._padding = padding
        self._size = 0  # bytes of Binary HTTP so far
        self._started = False

    async def send(self, message: Message) -> None:
        """ASGI ``send`` of the inner application."""
        if message["type"] == "http.response.start":
            fields = tuple(
                (name.lower(), value)
                for name, value in message.get("headers", ())
                if name.lower() not in _DROPPED
            )
            await self._seal(
                bhttp.encode_streamed_head(bhttp.ResponseHead(message["status"], fields))
            )
            return
        body = message.get("body", b"")
        piece = bhttp.encode_streamed_content(body) if body else b""
        if message.get("more_body", False):
            if piece:
                await self._seal(piece)
            return
        await self._seal(piece + self._end(len(piece)), final=True)

    def _end(self, coming: int) -> bytes:
        end = bhttp.encode_streamed_end()
        if not self._padding:
            return end
        room = -(self._size + coming + len(end)) % self._padding
        return bhttp.encode_streamed_end(padding=room)

    async def send_whole(self, error: ApiError) -> None:
        """An answer of ours in place of the inner application's."""
        await error.response()({"type": "http"}, _never, self.send)

    async def _seal(self, data: bytes, *, final: bool = False) -> None:
        self._size += len(data)
        pieces = [*_split(data)]
        sealed = b"" if self._started else self._sealer.start
        if final:
            *pieces, last = pieces or [b""]
        sealed += b"".join(self._sealer.seal(piece) for piece in pieces)
        if final:
            sealed += self._sealer.seal_final(last)
        if not self._started:
            self._started = True
            await self._send(
                {
                    "type": "http.response.start",
                    "status": 200,
                    "headers": [
                        (b"content-type", ohttp.RESPONSE_MEDIA_TYPE.encode()),
                        (b"cache-control", b"no-store"),
                    ],
                }
            )
        await self._send({"type": "http.response.body", "body": sealed, "more_body": not final})


def _split(data: bytes) -> Iterator[bytes]:
    for start in range(0, len(data), ohttp.CHUNK_MAX):
        yield data[start : start + ohttp.CHUNK_MAX]


async def _never() -> Message:
    raise RuntimeError("a finished answer reads nothing")


async def _send_problem(send: Send, refused: _RefusedError) -> None:
    body = msgspec.json.encode(
        {
            "type": refused.kind,
            "title": refused.code.name,
            "status": refused.status,
            "detail": refused.detail,
        }
    )
    with suppress(OSError):
        await send(
            {
                "type": "http.response.start",
                "status": refused.status,
                "headers": [
                    (b"content-type", serving.PROBLEM_MEDIA_TYPE.encode()),
                    (b"content-length", str(len(body)).encode()),
                ],
            }
        )
        await send({"type": "http.response.body", "body": body})
