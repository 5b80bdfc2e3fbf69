"""The inner HTTP application: OpenAI's routes, reachable only through the sealed channel."""

from __future__ import annotations

import time
from contextlib import aclosing
from typing import TYPE_CHECKING

import msgspec
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from regalia.core.errors import RegaliaError
from regalia.engines.base import Embedder, GenerationRequest
from regalia.engines.codes import EngineCode
from regalia.runtime.codes import RequestCode
from regalia.runtime.openai.answers import DONE, EVENT_STREAM, new_shape, pad_event
from regalia.runtime.openai.embeddings import embeddings
from regalia.runtime.openai.errors import ApiError, from_regalia
from regalia.runtime.openai.schema import ChatRequest, CompletionRequest
from regalia.runtime.openai.service import JSON, Service, caller_of, check_model, parsed

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

    from regalia.engines.base import Engine, TextDelta
    from regalia.runtime.generation import Caller
    from regalia.runtime.openai.answers import Shape
    from regalia.runtime.openai.schema import Common

__all__ = ["Service", "build_app"]

COMPLETION_TOKENS = 16  # OpenAI's default for /v1/completions


def _generation(
    service: Service, request: Common, tokens: tuple[int, ...], limit: int | None
) -> GenerationRequest:
    # A request that names a limit is refused unless prompt and limit fit into the context
    # together. Without a limit, one token of room is enough and the answer gets all of it.
    room = service.engine.context_length - len(tokens)
    wanted = limit or 1
    if room < wanted:
        raise ApiError(
            EngineCode.PROMPT_TOO_LONG,
            f"This model reads at most {service.engine.context_length} tokens; {len(tokens)} in"
            f" the prompt and {wanted} for the answer are too many.",
            param="messages" if isinstance(request, ChatRequest) else "prompt",
        )
    return GenerationRequest(
        tokens=tokens,
        max_tokens=min(limit or room, room, service.answer_tokens),
        stop=request.stops,
        temperature=1.0 if request.temperature is None else request.temperature,
        top_p=1.0 if request.top_p is None else request.top_p,
        seed=request.seed_value,
    )


def _shape(service: Service, request: Common) -> Shape:
    return new_shape(
        chat=isinstance(request, ChatRequest),
        model=service.engine.model_name,
        fingerprint=service.fingerprint,
        created=int(time.time()),
        with_usage=request.wants_usage,
    )


class EventStream(Response):
    """A streamed response of server-sent events that always closes its source.

    Starlette's own streaming response leaves that to the garbage collector, so the engine would
    continue to generate for a client that has disconnected.
    """

    def __init__(self, events: AsyncGenerator[bytes]) -> None:
        super().__init__(
            headers={"cache-control": "no-cache", "content-type": EVENT_STREAM}, media_type=None
        )
        del self.headers["content-length"]
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Send every event as soon as it is produced."""
        async with aclosing(self._events) as events:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            async for event in events:
                await send({"type": "http.response.body", "body": event, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _answer(
    service: Service, request: Common, generation: GenerationRequest, caller: Caller
) -> Response:
    # Checked before a stream starts: after its head was sent, a full queue could no longer be
    # reported with status 429.
    service.generations.check_room(caller)
    shape = _shape(service, request)
    if request.stream:
        return EventStream(_events(service, shape, generation, caller))
    pieces: list[str] = []
    async with aclosing(service.generations.run(generation, caller)) as deltas:
        async for delta in deltas:
            pieces.append(delta.text)
            if delta.finish is not None and delta.usage is not None:
                body = shape.whole("".join(pieces), delta.finish, delta.usage)
                return Response(body, media_type=JSON)
    raise ApiError(RequestCode.GENERATION_FAILED, "The engine stopped before the end.")


async def _events(
    service: Service, shape: Shape, generation: GenerationRequest, caller: Caller
) -> AsyncGenerator[bytes]:
    try:
        if shape.chat:
            yield pad_event(shape.opening(), service.padding)
        async with aclosing(service.generations.run(generation, caller)) as deltas:
            async for delta in deltas:
                for event in _delta_events(shape, delta):
                    yield pad_event(event, service.padding)
        yield pad_event(DONE, service.padding)
    # The status line is already out, so errors become events of the stream, without [DONE].
    except ApiError as error:
        yield pad_event(b"data: " + error.encode() + b"\n\n", service.padding)
    except RegaliaError as error:
        yield pad_event(b"data: " + from_regalia(error).encode() + b"\n\n", service.padding)


def _delta_events(shape: Shape, delta: TextDelta) -> list[bytes]:
    events: list[bytes] = []
    if delta.text:
        events.append(shape.piece(delta.text, None))
    if delta.finish is not None and delta.usage is not None:
        events.append(shape.piece("", delta.finish))
        if shape.with_usage:
            events.append(shape.counts(delta.usage))
    return events


def _generator(service: Service) -> Engine:
    if isinstance(service.engine, Embedder):
        raise ApiError(
            RequestCode.ROUTE_NOT_FOR_MODEL,
            "This model computes embeddings (POST /v1/embeddings), and does not write text.",
            param="model",
        )
    return service.engine


async def _chat(service: Service, http: Request) -> Response:
    caller = caller_of(service, http)
    engine = _generator(service)
    request = await parsed(service, http, ChatRequest, caller)
    check_model(service, request.model)
    tokens = await service.read(caller, lambda: engine.encode_chat(request.turns()))
    generation = _generation(service, request, tokens, request.limit)
    return await _answer(service, request, generation, caller)


async def _completion(service: Service, http: Request) -> Response:
    caller = caller_of(service, http)
    engine = _generator(service)
    request = await parsed(service, http, CompletionRequest, caller)
    check_model(service, request.model)
    tokens = await service.read(caller, lambda: _prompt_tokens(engine, request.prompt))
    limit = request.max_tokens or COMPLETION_TOKENS
    generation = _generation(service, request, tokens, limit)
    return await _answer(service, request, generation, caller)


def _prompt_tokens(engine: Engine, prompt: str | list[str | int | list[int]]) -> tuple[int, ...]:
    if isinstance(prompt, str):
        return engine.encode_text(prompt)
    if len(prompt) == 1 and isinstance(prompt[0], list):
        return engine.check_tokens(tuple(prompt[0]))
    texts = [item for item in prompt if isinstance(item, str)]
    tokens = tuple(item for item in prompt if isinstance(item, int))
    if len(tokens) == len(prompt):
        return engine.check_tokens(tokens)
    if tokens or len(prompt) != 1:
        raise ApiError(
            RequestCode.REQUEST_INVALID, "Send one prompt in each request.", param="prompt"
        )
    return engine.encode_text(texts[0])


def _model_body(service: Service) -> dict[str, object]:
    return {
        "id": service.engine.model_name,
        "object": "model",
        "created": service.started,
        "owned_by": "regalia",
    }


async def _models(service: Service, _: Request) -> Response:
    body = {"object": "list", "data": [_model_body(service)]}
    return Response(msgspec.json.encode(body), media_type=JSON)


async def _model(service: Service, http: Request) -> Response:
    check_model(service, http.path_params["name"])
    return Response(msgspec.json.encode(_model_body(service)), media_type=JSON)


def _endpoint(
    service: Service, name: str, handle: Callable[[Service, Request], Awaitable[Response]]
) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(http: Request) -> Response:
        try:
            response = await handle(service, http)
        except ApiError as error:
            response = error.response()
        except RegaliaError as error:
            response = from_regalia(error).response()
        service.metrics.requests.labels(route=name, status=str(response.status_code)).inc()
        return response

    return endpoint


async def _unknown(http: Request, _: Exception) -> Response:
    message = f"Unknown request URL: {http.method} {http.url.path[:200]}"
    return ApiError(RequestCode.ROUTE_UNKNOWN, message).response()


async def _failed(_: Request, __: Exception) -> Response:
    return ApiError(
        RequestCode.GENERATION_FAILED, "The runtime failed; nobody knows why."
    ).response()


def build_app(service: Service) -> Starlette:
    """Build the inner ASGI application."""
    routes = [
        Route("/v1/chat/completions", _endpoint(service, "chat", _chat), methods=["POST"]),
        Route("/v1/completions", _endpoint(service, "completions", _completion), methods=["POST"]),
        Route("/v1/embeddings", _endpoint(service, "embeddings", embeddings), methods=["POST"]),
        Route("/v1/models", _endpoint(service, "models", _models), methods=["GET"]),
        Route("/v1/models/{name:path}", _endpoint(service, "models", _model), methods=["GET"]),
    ]
    handlers = {404: _unknown, 405: _unknown, 500: _failed}
    app = Starlette(routes=routes, exception_handlers=handlers)
    # A redirect would name the inner address, which the client cannot reach.
    app.router.redirect_slashes = False
    return app
