"""POST /v1/embeddings: vectors of one text or of several, in OpenAI's shape."""

from __future__ import annotations

import base64
import sys
from contextlib import aclosing
from itertools import islice
from typing import TYPE_CHECKING

import msgspec
from starlette.responses import Response

from regalia.engines.base import Embedder
from regalia.runtime.codes import RequestCode
from regalia.runtime.openai.errors import ApiError
from regalia.runtime.openai.schema import INPUTS_MAX, EmbeddingRequest
from regalia.runtime.openai.service import JSON, caller_of, check_model, parsed

if TYPE_CHECKING:
    from array import array

    from starlette.requests import Request

    from regalia.runtime.generation import Caller
    from regalia.runtime.openai.service import Service

NUMBERS_MAX = 1 << 20  # components of all vectors of one answer; as text they are about 20 MB
_TURN = 32  # texts that are tokenized before others have their turn

_Input = str | tuple[int, ...]


async def embeddings(service: Service, http: Request) -> Response:
    """Answer one request.

    Args:
        service: serves a model that embeds.
        http: the request.

    Raises:
        ApiError: REQUEST_INVALID, SERVED_NAME_UNKNOWN, CALLER_UNKNOWN, or ROUTE_NOT_FOR_MODEL if
            the model writes text.
        RegaliaError: an input does not suit the model, or there is no room; as
            ``Generations.embed``.
    """
    caller = caller_of(service, http)
    engine = _embedder(service)
    request = await parsed(service, http, EmbeddingRequest, caller)
    check_model(service, request.model)
    _check_dimensions(engine, request.dimensions)
    inputs = await _tokens(service, engine, _inputs(engine, request.input), caller)
    vectors: list[array[float]] = []
    async with aclosing(service.generations.embed(inputs, caller)) as computed:
        async for vector in computed:
            vectors.append(vector)  # noqa: PERF401 - one at a time, as they are computed
    in_base64 = request.encoding_format == "base64"
    count = sum(map(len, inputs))
    body = await service.read(
        caller, lambda: _body(engine.model_name, vectors, count, in_base64=in_base64)
    )
    return Response(body, media_type=JSON)


def _embedder(service: Service) -> Embedder:
    if not isinstance(service.engine, Embedder):
        raise ApiError(
            RequestCode.ROUTE_NOT_FOR_MODEL,
            "This model writes text (POST /v1/chat/completions), and computes no embeddings.",
            param="model",
        )
    return service.engine


def _check_dimensions(engine: Embedder, wanted: int | None) -> None:
    """Refuse shorter vectors: only some models are trained so that their beginning suffices."""
    if wanted is not None and wanted != engine.dimensions:
        raise ApiError(
            RequestCode.REQUEST_INVALID,
            f"This model's vectors have {engine.dimensions} dimensions, and no others.",
            param="dimensions",
        )


def _inputs(engine: Embedder, given: str | list[str | int | list[int]]) -> list[_Input]:
    """The inputs of a request one by one, whichever of OpenAI's four forms they have."""
    if isinstance(given, str):
        return _bounded(engine, [given])
    texts = [item for item in given if isinstance(item, str)]
    lists = [tuple(item) for item in given if isinstance(item, list)]
    numbers = tuple(item for item in given if isinstance(item, int))
    kinds = [kind for kind in (texts, lists, numbers) if kind]
    if len(kinds) != 1:
        why = "Send texts, or lists of tokens, and not both in one request."
        raise ApiError(
            RequestCode.REQUEST_INVALID, why if kinds else "There is no input.", param="input"
        )
    return _bounded(engine, [numbers] if numbers else [*texts, *lists])


def _bounded(engine: Embedder, inputs: list[_Input]) -> list[_Input]:
    most = min(INPUTS_MAX, max(1, NUMBERS_MAX // engine.dimensions))
    if len(inputs) > most:
        raise ApiError(
            RequestCode.REQUEST_INVALID,
            f"{len(inputs)} inputs; this model takes {most} in one request at most.",
            param="input",
        )
    if not all(inputs):
        raise ApiError(RequestCode.REQUEST_INVALID, "An input is empty.", param="input")
    return inputs


async def _tokens(
    service: Service, engine: Embedder, inputs: list[_Input], caller: Caller
) -> tuple[tuple[int, ...], ...]:
    def read(batch: list[_Input]) -> list[tuple[int, ...]]:
        return [
            engine.encode_text(item) if isinstance(item, str) else engine.check_tokens(item)
            for item in batch
        ]

    # Asked before the work of tokenizing, and again when the work is handed over.
    service.generations.check_room(caller)
    found: list[tuple[int, ...]] = []
    left = iter(inputs)
    while batch := list(islice(left, _TURN)):
        found += await service.read(caller, lambda batch=batch: read(batch))  # type: ignore[misc]
    return tuple(found)


def _body(model: str, vectors: list[array[float]], tokens: int, *, in_base64: bool) -> bytes:
    data = [
        {
            "object": "embedding",
            "index": index,
            "embedding": _little_endian(vector) if in_base64 else vector.tolist(),
        }
        for index, vector in enumerate(vectors)
    ]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return msgspec.json.encode({"object": "list", "data": data, "model": model, "usage": usage})


def _little_endian(vector: array[float]) -> str:
    if sys.byteorder == "big":
        vector = vector[:]
        vector.byteswap()
    return base64.b64encode(vector.tobytes()).decode()
