"""Gateway of the sealed channel: chunked OHTTP outside, an ordinary ASGI application inside.

The encrypted messages are Binary HTTP (RFC 9292). Every piece that the inner application sends is
sealed and sent at once, so streamed answers stay streamed. An answer that is interrupted gets no
final chunk, so the client detects the truncation.
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import msgspec

from regalia.core.errors import CoreCode, IntegrityError, ParseError, RegaliaError
from regalia.crypto import ohttp
from regalia.crypto.ohttp import ServerExchange
from regalia.crypto.ohttp_codes import OhttpCode
from regalia.host.events import ServiceEvent, emit
from regalia.host.peers import peer_of
from regalia.runtime.codes import RequestCode
from regalia.runtime.inflight import Inflight
from regalia.runtime.openai.errors import ApiError, from_regalia, retry_after
from regalia.runtime.sealed_answer import SealedAnswer
from regalia.wire import bhttp, serving

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Iterator

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from regalia.core.errors import Code
    from regalia.crypto.hpke import KemKeyPair
    from regalia.runtime.inflight import InflightRequest
    from regalia.runtime.metrics import Metrics
    from regalia.runtime.replay import ReplayMemory
    from regalia.wire.bhttp import RequestHead

READ_SECONDS = 60  # a request that takes longer to arrive is refused
_SLICE = 1 << 16  # bytes that are decrypted and parsed without a pause
# Seconds after the time of an answer, in which the application can say itself that it is over.
_GRACE_S = 5.0


class _RefusedError(Exception):
    """A request that could not be opened.

    The answer goes out in clear, because there is no response key to seal it with, so it carries
    a code and nothing that was read.
    """

    def __init__(self, status: int, code: Code, kind: str = "about:blank") -> None:
        super().__init__(code.name)
        self.status = status
        self.code = code
        self.kind = kind


class _MalformedError(Exception):
    """What a client sealed is not a request. The answer is sealed like any other."""

    def __init__(self, error: ParseError) -> None:
        super().__init__(error.code.name)
        self.error = error


class _GoneError(Exception):
    """The client disconnected before its request was complete."""


@dataclass(frozen=True, slots=True)
class _Opened:
    """A decrypted request."""

    head: RequestHead
    body: bytes
    enc: bytes


class _Contents:
    """Parses what the chunks of a request hold, and joins its content as it arrives."""

    def __init__(self, limits: bhttp.Limits) -> None:
        self._parser = bhttp.RequestParser(limits)
        self._head: RequestHead | None = None
        self._body = bytearray()

    def add(self, chunks: Iterable[bytes]) -> None:
        """Parse more chunks. Raises _MalformedError."""
        with _malformed():
            for chunk in chunks:
                self._keep(self._parser.feed(chunk))

    def opened(self, enc: bytes) -> _Opened:
        """The whole request, after its last chunk. Raises _MalformedError."""
        with _malformed():
            self._keep(self._parser.finish())
        if self._head is None:
            raise RuntimeError("a message that was parsed has a head")
        return _Opened(self._head, bytes(self._body), enc)

    def _keep(self, events: list[bhttp.Event]) -> None:
        for event in events:
            if isinstance(event, bhttp.RequestHead):
                self._head = event
            elif isinstance(event, bhttp.Content):
                self._body += event.data


@contextmanager
def _malformed() -> Iterator[None]:
    try:
        yield
    except ParseError as exc:
        raise _MalformedError(exc) from exc


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayLimits:
    """Bounds of the sealed path.

    Attributes:
        request_bytes: size of one sealed request.
        inflight_bytes: size of all sealed requests together that are not answered.
        answer_s: seconds that the answer to an opened request may take.
        padding: sealed answers are padded to multiples of this many bytes; 0 turns it off.
    """

    request_bytes: int = 4 << 20
    inflight_bytes: int = 64 << 20
    answer_s: float = 900.0
    padding: int = 256


class SealedGateway:
    """ASGI application for ``POST /ohttp``.

    Args:
        pair: serving key pair, whose public half is in the evidence.
        inner: application that answers opened requests.
        replays: refuses requests that were answered before.
        metrics: counters to increment.
        limits: bounds on sizes and times.
        serving: tells whether the model is loaded and the lease holds.
    """

    def __init__(  # noqa: PLR0913 - each is one collaborator
        self,
        pair: KemKeyPair,
        inner: ASGIApp,
        replays: ReplayMemory,
        metrics: Metrics,
        limits: GatewayLimits,
        *,
        serving: Callable[[], bool],
    ) -> None:
        self._pair = pair
        self._inner = inner
        self._replays = replays
        self._metrics = metrics
        self._limits = limits
        self._serving = serving
        self._inflight = Inflight(limits.inflight_bytes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one sealed request."""
        with self._inflight.request() as request:
            try:
                await self._handle(scope, receive, send, request)
            except _GoneError:
                return
            except _RefusedError as refused:
                self._count(refused.code.name)
                await _send_problem(send, refused)

    async def _handle(
        self, scope: Scope, receive: Receive, send: Send, request: InflightRequest
    ) -> None:
        self._look(scope)
        exchange = ServerExchange(self._pair)
        try:
            opened = await self._open(exchange, receive, request)
        except _MalformedError as exc:
            await self._refuse(self._answer(exchange, send), from_regalia(exc.error))
            return
        # From here on there is a response key, so refusals are sealed too.
        answer = self._answer(exchange, send, head_only=opened.head.method == b"HEAD")
        try:
            self._admit(opened, scope.get("client"))
        except ApiError as error:
            await self._refuse(answer, error)
            return
        await self._run(opened, receive, answer, scope.get("client"))

    def _look(self, scope: Scope) -> None:
        """Refuse what can be refused without reading."""
        if not self._serving():
            raise _RefusedError(503, RequestCode.NOT_SERVING)
        headers = dict(scope["headers"])
        if headers.get(b"content-type") != ohttp.REQUEST_MEDIA_TYPE.encode():
            raise _RefusedError(415, RequestCode.SEALED_MEDIA_TYPE)

    def _answer(
        self, exchange: ServerExchange, send: Send, *, head_only: bool = False
    ) -> SealedAnswer:
        padding = self._limits.padding
        return SealedAnswer(exchange.response(), send, padding, head_only=head_only)

    async def _refuse(self, answer: SealedAnswer, error: ApiError) -> None:
        self._count(error.code.name)
        await answer.send_whole(error)

    def _count(self, code: str) -> None:
        self._metrics.refused.labels(code=code).inc()
        emit(ServiceEvent.REQUEST_REFUSED, code=code)

    async def _open(
        self, exchange: ServerExchange, receive: Receive, request: InflightRequest
    ) -> _Opened:
        # Chunks are decrypted as they arrive, but only the final one shows that the request is
        # complete: nothing may act on the contents before ``exchange.finish`` has returned.
        size = self._limits.request_bytes
        contents = _Contents(bhttp.Limits(content_max=size, padding_max=size))
        try:
            async with request.arriving(READ_SECONDS):
                async for piece in self._pieces(receive, request):
                    contents.add(exchange.feed(piece))
            contents.add([exchange.finish()])
        except (ParseError, IntegrityError) as exc:
            unknown = exc.code is OhttpCode.OHTTP_KEY_UNKNOWN
            kind = serving.KEY_PROBLEM_TYPE if unknown else "about:blank"
            raise _RefusedError(400, exc.code, kind) from exc
        except TimeoutError as exc:
            if request.evicted:
                raise _RefusedError(503, RequestCode.REQUEST_MEMORY_FULL) from exc
            raise _RefusedError(408, RequestCode.SEALED_REQUEST_TIMEOUT) from exc
        if exchange.enc is None:
            raise RuntimeError("an opened request has an encapsulated key")
        return contents.opened(exchange.enc)

    async def _pieces(self, receive: Receive, request: InflightRequest) -> AsyncGenerator[bytes]:
        while True:
            message = await receive()
            if message["type"] != "http.request":
                raise _GoneError
            body = message.get("body", b"")
            request.grow(len(body))
            if request.size > self._limits.request_bytes:
                raise _RefusedError(413, CoreCode.TOO_LARGE)
            for start in range(0, len(body), _SLICE):
                yield body[start : start + _SLICE]
                if len(body) > _SLICE:
                    await asyncio.sleep(0)  # others have their turn between two slices
            if not message.get("more_body", False):
                return

    def _admit(self, opened: _Opened, peer: tuple[str, int] | None) -> None:
        # Two date fields are as bad as none: which of them counts would be a guess.
        dates = [value for name, value in opened.head.fields if name == b"date"]
        date = dates[0].decode("ascii", "replace") if len(dates) == 1 else None
        self._replays.require_admissible(opened.enc, date, peer_of(peer[0] if peer else ""))

    async def _run(
        self,
        opened: _Opened,
        receive: Receive,
        answer: SealedAnswer,
        peer: tuple[str, int] | None,
    ) -> None:
        """Run the inner application until it is done or the client has disconnected."""
        inner = asyncio.create_task(
            _call(self._inner, _inner_scope(opened.head, peer), opened.body, answer)
        )
        gone = asyncio.create_task(_disconnected(receive))
        try:
            done, _ = await asyncio.wait(
                {inner, gone},
                timeout=self._limits.answer_s + _GRACE_S,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if not done:  # the answer is cut, and has no final chunk
                self._metrics.abandoned.labels(code=RequestCode.ANSWER_NOT_READ.name).inc()
        finally:
            for task in (inner, gone):
                task.cancel()
            await asyncio.gather(inner, gone, return_exceptions=True)
        if not inner.cancelled() and (failure := inner.exception()) is not None:
            # Log only the exception type: its message may contain prompt text. The response is
            # left unterminated.
            emit(ServiceEvent.REQUEST_REFUSED, code=_name(failure))


def _name(failure: BaseException) -> str:
    return failure.code.name if isinstance(failure, RegaliaError) else type(failure).__name__


def _inner_scope(head: RequestHead, peer: tuple[str, int] | None) -> dict[str, Any]:
    # The address is that of the outer connection: unauthenticated, and maybe a relay's. It serves
    # for fair shares only.
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
        "client": peer,
        "server": None,
    }


async def _call(app: ASGIApp, scope: Scope, body: bytes, answer: SealedAnswer) -> None:
    asked = False

    async def receive() -> Message:
        nonlocal asked
        if asked:
            # ASGI would send "http.disconnect" next. Wait instead: the task is cancelled when
            # the client disconnects.
            await asyncio.Event().wait()
        asked = True
        return {"type": "http.request", "body": body, "more_body": False}

    await app(scope, receive, answer.send)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _send_problem(send: Send, refused: _RefusedError) -> None:
    body = msgspec.json.encode(
        {
            "type": refused.kind,
            "title": refused.code.name,
            "status": refused.status,
        }
    )
    with suppress(OSError):  # the client may have disconnected meanwhile
        await send(
            {
                "type": "http.response.start",
                "status": refused.status,
                "headers": [
                    (b"content-type", serving.PROBLEM_MEDIA_TYPE.encode()),
                    (b"content-length", str(len(body)).encode()),
                    *_retry_after(refused),
                ],
            }
        )
        await send({"type": "http.response.body", "body": body})


def _retry_after(refused: _RefusedError) -> list[tuple[bytes, bytes]]:
    if refused.status != HTTPStatus.SERVICE_UNAVAILABLE:
        return []
    return [(b"retry-after", str(retry_after(refused.code)).encode())]
