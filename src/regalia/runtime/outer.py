"""What the runtime offers in clear: health, counts, evidence, and the sealed path. No more."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from regalia.core.errors import ParseError, RegaliaError
from regalia.runtime.codes import RequestCode
from regalia.runtime.openai.errors import ApiError
from regalia.wire import serving
from regalia.wire.release import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request
    from starlette.types import ASGIApp

    from regalia.core.errors import Code
    from regalia.runtime.metrics import Metrics
    from regalia.wire.serving import ServingEvidence

_JSON = "application/json"
_WAITING_MAX = 64  # evidence requests that may wait
OPENAI_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


def _refusal(status: int, code: Code, what: str) -> Response:
    body = Refusal(code=code.name, what=what, why=code.why, fix=code.fix, reasons=[], log=None)
    return Response(msgspec.json.encode(body), status, media_type=_JSON)


class Outside:
    """The routes in clear.

    Args:
        evidence: makes evidence over a challenge; blocks.
        metrics: counts.
        parallel: how many pieces of evidence are made at once.
        serving: False before the model is there and once it is gone.
        refresh: brings gauges up to date.
    """

    def __init__(
        self,
        evidence: Callable[[bytes], ServingEvidence],
        metrics: Metrics,
        *,
        parallel: int,
        serving: Callable[[], bool],
        refresh: Callable[[], None],
    ) -> None:
        self._evidence = evidence
        self._metrics = metrics
        self._gate = asyncio.Semaphore(parallel)
        self._waiting = 0
        self._serving = serving
        self._refresh = refresh

    async def health(self, _: Request) -> Response:
        """200 while a model is served, 503 otherwise."""
        if self._serving():
            return Response(b'{"status":"serving"}', media_type=_JSON)
        return Response(b'{"status":"not serving"}', 503, media_type=_JSON)

    async def metrics(self, _: Request) -> Response:
        """Prometheus text."""
        self._refresh()
        return Response(
            generate_latest(self._metrics.registry),
            headers={"content-type": CONTENT_TYPE_LATEST},
        )

    async def evidence(self, http: Request) -> Response:
        """Fresh evidence over the client's challenge."""
        try:
            challenge = serving.parse_challenge(http.query_params.get("challenge", ""))
        except ParseError as error:
            return _refusal(400, error.code, error.what)
        if not self._serving():
            return _refusal(503, RequestCode.NOT_SERVING, "the runtime has no model")
        if self._waiting >= _WAITING_MAX:
            return _refusal(429, RequestCode.TOO_MANY_CHALLENGES, f"{self._waiting} are waiting")
        self._waiting += 1
        try:
            async with self._gate:
                made = await asyncio.to_thread(self._evidence, challenge)
        except RegaliaError as error:
            return _refusal(503, error.code, error.what)
        finally:
            self._waiting -= 1
        self._metrics.evidence.inc()
        return Response(
            made.encode(), media_type=serving.MEDIA_TYPE, headers={"cache-control": "no-store"}
        )

    async def in_clear(self, _: Request) -> Response:
        """OpenAI's paths outside the seal are refused, in OpenAI's shape."""
        code = RequestCode.SEALED_PATH_ONLY
        self._metrics.refused.labels(code=code.name).inc()
        return ApiError(
            code, f"This path is served inside the sealed channel only. {code.fix}"
        ).response()


async def _unknown(_: Request, __: Exception) -> Response:
    return _refusal(404, RequestCode.ROUTE_UNKNOWN, "no such path or method")


def build_outer(outside: Outside, sealed: ASGIApp) -> Starlette:
    """The outer ASGI application.

    Args:
        outside: what anybody may ask.
        sealed: the application behind the sealed channel.
    """
    routes = [
        Route("/health", outside.health, methods=["GET"]),
        Route("/metrics", outside.metrics, methods=["GET"]),
        Route(serving.EVIDENCE_PATH, outside.evidence, methods=["GET"]),
        # An object with __call__ is taken as an ASGI application, and gets every method.
        Route(serving.SEALED_PATH, sealed, methods=["POST"]),
        Route("/v1/{path:path}", outside.in_clear, methods=OPENAI_METHODS),
    ]
    app = Starlette(routes=routes, exception_handlers={404: _unknown, 405: _unknown})
    app.router.redirect_slashes = False
    return app
