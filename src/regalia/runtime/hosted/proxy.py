"""The application inside the sealed channel for an engine with an API of its own.

Each request is parsed, screened and passed on over the private socket; answers come back as the
engine makes them, one sealed and padded piece for each event. The engine's other routes cannot be
reached: nothing but the routes below is ever asked for.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import time
from collections import Counter
from contextlib import aclosing, asynccontextmanager, contextmanager
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import httpx
import msgspec
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from regalia.core.errors import RegaliaError
from regalia.engines.hosted import Bounds
from regalia.runtime.codes import RequestCode
from regalia.runtime.openai.answers import pad_event
from regalia.runtime.openai.app import EventStream
from regalia.runtime.openai.errors import ApiError, from_regalia

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
    from pathlib import Path

    from starlette.requests import Request

    from regalia.engines.hosted import RequestGuard
    from regalia.runtime.config import LimitsSection
    from regalia.runtime.generation import Caller
    from regalia.runtime.workload import InnerParts

ROUTES = (
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/tokenize",
    "/detokenize",
)
EVENT_MAX = 16 << 20  # bytes of one event of the engine's, which holds at most one whole answer
_JSON = "application/json"
_STREAM = "text/event-stream"
_EVENT_END = b"\n\n"
_NAMES = {"/v1/chat/completions": "chat", "/v1/completions": "completions"}


class Admission:
    """Bounds the number of requests that the engine has, in all and by listed caller.

    Args:
        limits: of the configuration.
    """

    def __init__(self, limits: LimitsSection) -> None:
        self._limits = limits
        self._by_caller: Counter[str] = Counter()

    @property
    def waiting(self) -> int:
        """Number of requests that the engine has beyond those that it answers at once."""
        return max(0, self._by_caller.total() - self._limits.parallel)

    def check_room(self, caller: Caller) -> None:
        """Refuse a request that there is no room for. Raises ApiError QUEUE_FULL or CALLER_BUSY."""
        limits = self._limits
        if self._by_caller.total() >= limits.parallel + limits.queue:
            raise ApiError(RequestCode.QUEUE_FULL, f"{self.waiting} requests are waiting.")
        if caller.listed and self._by_caller[caller.name] >= limits.per_caller:
            raise ApiError(
                RequestCode.CALLER_BUSY,
                f"{limits.per_caller} requests of this caller are in progress.",
            )

    @contextmanager
    def request(self, caller: Caller) -> Iterator[None]:
        """While the engine has a request. Raises as ``check_room``."""
        self.check_room(caller)
        self._by_caller[caller.name] += 1
        try:
            yield
        finally:
            self._by_caller[caller.name] -= 1
            if not self._by_caller[caller.name]:
                del self._by_caller[caller.name]


class Proxy:
    """Passes screened requests on.

    Args:
        api: path of the engine's private socket.
        guard: decides what of a request reaches the engine.
        parts: of the inner application.
        served_name: name that the model is served under.
        limits: of the configuration.
    """

    def __init__(
        self,
        api: Path,
        guard: RequestGuard,
        parts: InnerParts,
        *,
        served_name: str,
        limits: LimitsSection,
    ) -> None:
        self._guard = guard
        self._parts = parts
        self._name = served_name
        self._limits = limits
        self._salt = os.urandom(32)
        self._admission = Admission(limits)
        self._api = str(api)

    @property
    def waiting(self) -> int:
        """Number of requests that the engine has not begun, as far as can be known."""
        return self._admission.waiting

    def turn_to(self, api: Path) -> None:
        """Pass requests on to an engine that was started in place of the one before.

        Args:
            api: path of its private socket.
        """
        self._api = str(api)

    async def answer(self, route: str, http: Request) -> Response:
        """Answer one request.

        Args:
            route: one of ``ROUTES``. A request's own address contains what its sender has put
                into fields of its head, so nothing is read from there.
            http: the request.

        Raises:
            ApiError: it is refused, or the engine fails.
            UsageError: of the guard.
        """
        caller = self._caller(http)
        body = _parse(await http.body())
        if body.get("model") != self._name and route != "/detokenize":
            named = body.get("model")
            shown = named[:100] if isinstance(named, str) else ""
            raise ApiError(
                RequestCode.SERVED_NAME_UNKNOWN,
                f"The model `{shown}` does not exist.",
                param="model",
            )
        wanted = self._guard.screen(
            route,
            body,
            Bounds(answer_tokens=self._limits.answer_tokens, salt=self._salt_of(caller)),
        )
        content = msgspec.json.encode(wanted)
        if wanted.get("stream") is True:
            # After the head was sent, a full queue could no longer be reported with status 429.
            self._admission.check_room(caller)
            return EventStream(self._events(route, content, caller))
        with self._admission.request(caller):
            status, data = await self._whole(route, content)
        return Response(data, status, media_type=_JSON)

    def _caller(self, http: Request) -> Caller:
        given = [value for name, value in http.headers.raw if name == b"authorization"]
        return self._parts.callers.find(given, http.client.host if http.client else "")

    def _salt_of(self, caller: Caller) -> str:
        # Whoever is not listed shares an address with others, maybe, and so shares nothing.
        material = caller.name.encode() if caller.listed else os.urandom(16)
        return hmac.new(self._salt, material, hashlib.sha256).hexdigest()

    async def _whole(self, route: str, content: bytes) -> tuple[int, bytes]:
        async with self._asked(route, content) as response:
            _require_kind(response, _JSON)
            data = bytearray()
            async for piece in self._pieces(response):
                data += piece
                if len(data) > EVENT_MAX:
                    raise ApiError(RequestCode.GENERATION_FAILED, "The answer is too large.")
        return response.status_code, bytes(data)

    async def _pieces(self, response: httpx.Response) -> AsyncGenerator[bytes]:
        """The bytes of an answer, until its time is over: one that drips never times out."""
        deadline = time.monotonic() + self._limits.answer_s
        async for piece in response.aiter_raw():
            yield piece
            if time.monotonic() > deadline:
                raise self._too_slow()

    def _too_slow(self) -> ApiError:
        return ApiError(
            RequestCode.ANSWER_TIMEOUT, f"Not complete after {self._limits.answer_s} s."
        )

    @asynccontextmanager
    async def _asked(self, route: str, content: bytes) -> AsyncGenerator[httpx.Response]:
        """The engine's answer to one request, over a connection of its own."""
        # Nothing is left of it when the client leaves: the engine notices, and gives up.
        http = httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(uds=self._api, verify=False),
            timeout=httpx.Timeout(10.0, read=float(self._limits.answer_s)),
            trust_env=False,
        )
        try:
            async with (
                http,
                http.stream(
                    "POST",
                    f"http://engine{route}",
                    content=content,
                    headers={"content-type": _JSON, "accept-encoding": "identity"},
                ) as response,
            ):
                yield response
        except httpx.ReadTimeout as exc:
            raise self._too_slow() from exc
        except httpx.HTTPError as exc:
            raise self._gone() from exc

    def _gone(self) -> ApiError:
        if self._parts.serving():
            return ApiError(RequestCode.GENERATION_FAILED, "The engine does not answer.")
        return ApiError(RequestCode.NOT_SERVING, "The runtime has no model at the moment.")

    async def _events(self, route: str, content: bytes, caller: Caller) -> AsyncGenerator[bytes]:
        """The events of a stream, each padded; an error of the engine's is one event."""
        padding = self._limits.stream_padding
        try:
            with self._admission.request(caller):
                # A client that leaves closes the connection, and the engine gives the answer up.
                async with aclosing(self._engine_events(route, content)) as events:
                    async for event in events:
                        yield pad_event(event, padding)
        except ApiError as error:
            yield pad_event(b"data: " + error.encode() + b"\n\n", padding)

    async def _engine_events(self, route: str, content: bytes) -> AsyncGenerator[bytes]:
        async with self._asked(route, content) as response:
            streams = response.status_code == HTTPStatus.OK
            _require_kind(response, _STREAM if streams else _JSON)
            splitter = _Splitter()
            async with aclosing(self._pieces(response)) as pieces:
                async for piece in pieces:
                    for event in splitter.events(piece) if streams else splitter.keep(piece):
                        yield event
            rest = splitter.rest
            if rest and streams:
                raise ApiError(RequestCode.GENERATION_FAILED, "The answer ended within an event.")
            if not streams:
                # An error before the stream began, as one JSON object. An event is one line.
                yield b"data: " + _one_line(rest) + _EVENT_END

    async def models(self, _: Request) -> Response:
        """List the one model."""
        body = {"object": "list", "data": [self._model_body()]}
        return Response(msgspec.json.encode(body), media_type=_JSON)

    async def model(self, http: Request) -> Response:
        """Describe the one model. Raises ApiError SERVED_NAME_UNKNOWN."""
        if http.path_params["name"] != self._name:
            raise ApiError(RequestCode.SERVED_NAME_UNKNOWN, "There is no such model.")
        return Response(msgspec.json.encode(self._model_body()), media_type=_JSON)

    def _model_body(self) -> dict[str, object]:
        return {
            "id": self._name,
            "object": "model",
            "created": self._parts.started,
            "owned_by": "regalia",
        }

    def count(self, route: str, status: int) -> None:
        """Count an answer.

        Args:
            route: short name for the metric.
            status: of HTTP.
        """
        self._parts.metrics.requests.labels(route=route, status=str(status)).inc()


def _parse(body: bytes) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError) as exc:
        raise ApiError(RequestCode.REQUEST_INVALID, f"The body is not JSON: {exc}.") from exc
    if not isinstance(value, dict):
        raise ApiError(RequestCode.REQUEST_INVALID, "The body is not a JSON object.")
    return value


class _Splitter:
    """Splits an engine's stream into its events."""

    def __init__(self) -> None:
        self.rest = bytearray()  # of an event that is not complete
        self._seen = 0  # bytes of it in which no end begins

    def events(self, piece: bytes) -> Iterator[bytes]:
        """Events that are complete with this piece. Raises ApiError GENERATION_FAILED."""
        self.rest += piece
        while (end := self.rest.find(_EVENT_END, self._seen)) >= 0:
            stop = end + len(_EVENT_END)
            yield bytes(self.rest[:stop])
            del self.rest[:stop]
            self._seen = 0
        self._seen = max(0, len(self.rest) - len(_EVENT_END) + 1)
        self._require_small()

    def keep(self, piece: bytes) -> tuple[()]:
        """Keep a piece of what is no stream. Raises ApiError GENERATION_FAILED."""
        self.rest += piece
        self._require_small()
        return ()

    def _require_small(self) -> None:
        if len(self.rest) > EVENT_MAX:
            raise ApiError(RequestCode.GENERATION_FAILED, "An event is too large.")


def _require_kind(response: httpx.Response, kind: str) -> None:
    """Refuse what is no answer: pages of a server that fails, redirections, and its own failures.

    What the engine says of a request that it refuses is for the client. What it says of its own
    failure may quote code, paths and other requests.
    """
    status = response.status_code
    refused = HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR
    found = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not (status == HTTPStatus.OK or refused) or found != kind:
        raise ApiError(RequestCode.GENERATION_FAILED, "The engine failed.")


def _one_line(data: bytes | bytearray) -> bytes:
    try:
        return msgspec.json.encode(msgspec.json.decode(data))
    except (msgspec.DecodeError, RecursionError) as exc:
        raise ApiError(RequestCode.GENERATION_FAILED, "The engine failed.") from exc


def _endpoint(
    proxy: Proxy, name: str, handle: Callable[[Request], Awaitable[Response]]
) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(http: Request) -> Response:
        try:
            response = await handle(http)
        except ApiError as error:
            response = error.response()
        except RegaliaError as error:
            response = from_regalia(error).response()
        proxy.count(name, response.status_code)
        return response

    return endpoint


async def _unknown(http: Request, _: Exception) -> Response:
    message = f"Unknown request URL: {http.method} {http.url.path[:200]}"
    return ApiError(RequestCode.ROUTE_UNKNOWN, message).response()


async def _failed(_: Request, __: Exception) -> Response:
    return ApiError(RequestCode.GENERATION_FAILED, "The runtime failed.").response()


def build_app(proxy: Proxy) -> Starlette:
    """Build the application: the routes that are passed on, and the list of models."""
    passed_on = [
        Route(
            path,
            _endpoint(proxy, _NAMES.get(path, path.strip("/")), partial(proxy.answer, path)),
            methods=["POST"],
        )
        for path in ROUTES
    ]
    routes = [
        *passed_on,
        Route("/v1/models", _endpoint(proxy, "models", proxy.models), methods=["GET"]),
        Route("/v1/models/{name:path}", _endpoint(proxy, "models", proxy.model), methods=["GET"]),
    ]
    handlers = {404: _unknown, 405: _unknown, 500: _failed}
    app = Starlette(routes=routes, exception_handlers=handlers)
    app.router.redirect_slashes = False
    return app
