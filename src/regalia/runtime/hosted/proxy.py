"""The application inside the sealed channel for an engine with an API of its own.

Each request is parsed, screened and passed on over the private socket; answers come back as the
engine makes them, one sealed and padded piece for each event. The engine's other routes cannot be
reached: nothing but the routes below is ever asked for.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections import Counter
from contextlib import aclosing, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

import httpx
import msgspec
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from regalia.core.errors import RegaliaError
from regalia.engines.hosted import Bounds
from regalia.runtime.codes import RequestCode
from regalia.runtime.openai.answers import EVENT_STREAM, pad_event
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

    @contextmanager
    def request(self, caller: Caller) -> Iterator[None]:
        """While the engine has a request.

        Args:
            caller: whose it is.

        Raises:
            ApiError: QUEUE_FULL or CALLER_BUSY.
        """
        limits = self._limits
        if self._by_caller.total() >= limits.parallel + limits.queue:
            raise ApiError(RequestCode.QUEUE_FULL, f"{self.waiting} requests are waiting.")
        if caller.listed and self._by_caller[caller.name] >= limits.per_caller:
            raise ApiError(
                RequestCode.CALLER_BUSY,
                f"{limits.per_caller} requests of this caller are in progress.",
            )
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

    async def answer(self, http: Request) -> Response:
        """Answer one request on one of ``ROUTES``. Raises ApiError, and UsageError of the guard."""
        route = http.url.path
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
            return EventStream(self._events(route, content, caller))
        with self._admission.request(caller):
            status, data, kind = await self._whole(route, content)
        return Response(data, status, headers={"content-type": kind})

    def _caller(self, http: Request) -> Caller:
        given = [value for name, value in http.headers.raw if name == b"authorization"]
        return self._parts.callers.find(given, http.client.host if http.client else "")

    def _salt_of(self, caller: Caller) -> str:
        # Whoever is not listed shares an address with others, maybe, and so shares nothing.
        material = caller.name.encode() if caller.listed else os.urandom(16)
        return hmac.new(self._salt, material, hashlib.sha256).hexdigest()

    async def _whole(self, route: str, content: bytes) -> tuple[int, bytes, str]:
        async with self._asked(route, content) as response:
            data = bytearray()
            async for piece in response.aiter_raw():
                data += piece
                if len(data) > EVENT_MAX:
                    raise ApiError(RequestCode.GENERATION_FAILED, "The answer is too large.")
        return response.status_code, bytes(data), _kind(response)

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
        except httpx.HTTPError as exc:
            raise self._gone() from exc

    def _gone(self) -> ApiError:
        if self._parts.serving():
            return ApiError(RequestCode.GENERATION_FAILED, "The engine does not answer.")
        return ApiError(RequestCode.NOT_SERVING, "The runtime has no model.")

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
            streams = _kind(response) == EVENT_STREAM
            rest = bytearray()
            async for piece in response.aiter_raw():
                rest += piece
                while streams and (end := rest.find(_EVENT_END)) >= 0:
                    yield bytes(rest[: end + len(_EVENT_END)])
                    del rest[: end + len(_EVENT_END)]
                if len(rest) > EVENT_MAX:
                    raise ApiError(RequestCode.GENERATION_FAILED, "An event is too large.")
            if rest and streams:
                raise ApiError(RequestCode.GENERATION_FAILED, "The answer ended within an event.")
            if rest:
                # An error before the stream began, as one JSON object.
                yield b"data: " + bytes(rest) + _EVENT_END

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


def _kind(response: httpx.Response) -> str:
    kind = response.headers.get("content-type", _JSON)
    return EVENT_STREAM if kind.startswith("text/event-stream") else _JSON


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
            _endpoint(proxy, _NAMES.get(path, path.strip("/")), proxy.answer),
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
