"""The outer HTTP application: the few routes that are served without the sealed channel.

These are health, metrics, evidence and the sealed path itself. OpenAI's paths are refused here,
because a prompt sent in clear could be read on the way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from regalia.core.errors import ParseError, RegaliaError
from regalia.host.peers import peer_of
from regalia.host.shares import FairPlaces, LineFullError
from regalia.runtime.codes import RequestCode
from regalia.runtime.openai.errors import ApiError, retry_after
from regalia.wire import serving
from regalia.wire.evidence import CHALLENGE_SIZE
from regalia.wire.release import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request
    from starlette.types import ASGIApp

    from regalia.core.errors import Code
    from regalia.runtime.metrics import Metrics
    from regalia.wire.serving import ServingEvidence

_JSON = "application/json"
_WAITING_MAX = 64  # evidence requests that wait; one peer has three quarters of them
OPENAI_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


_ASK_AGAIN = (
    f"Ask with ?challenge= and {CHALLENGE_SIZE} random bytes in base64url without padding;"
    " hex is for the command line."
)


def _refusal(status: int, code: Code, what: str, fix: str | None = None) -> Response:
    """A refusal in clear.

    Args:
        status: of HTTP.
        code: why.
        what: happened.
        fix: what to do; the code's own if None.
    """
    fix = code.fix if fix is None else fix
    body = Refusal(code=code.name, what=what, why=code.why, fix=fix, reasons=[], log=None)
    return Response(msgspec.json.encode(body), status, media_type=_JSON)


class Outside:
    """Handlers of the routes that are served in clear.

    Args:
        evidence: collects evidence over a challenge of 32 bytes; it blocks.
        metrics: counters to increment.
        parallel: number of evidence requests that are answered at the same time.
        serving: tells whether the model is loaded and the lease holds.
        refresh: updates the gauges before metrics are rendered.
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
        self._places = FairPlaces(parallel, _WAITING_MAX)
        self._serving = serving
        self._refresh = refresh

    async def health(self, _: Request) -> Response:
        """Answer 200 while a model is served, and 503 otherwise."""
        if self._serving():
            return Response(b'{"status":"serving"}', media_type=_JSON)
        return Response(b'{"status":"not serving"}', 503, media_type=_JSON)

    async def metrics(self, _: Request) -> Response:
        """Answer with the metrics in Prometheus' text format."""
        self._refresh()
        return Response(
            generate_latest(self._metrics.registry),
            headers={"content-type": CONTENT_TYPE_LATEST},
        )

    async def evidence(self, http: Request) -> Response:
        """Answer with fresh evidence over the client's challenge."""
        try:
            challenge = serving.parse_challenge(http.query_params.get("challenge", ""))
        except ParseError as error:
            return _refusal(400, error.code, error.what, _ASK_AGAIN)
        if not self._serving():
            refused = _refusal(503, RequestCode.NOT_SERVING, "the runtime has no model")
            refused.headers["retry-after"] = str(retry_after(RequestCode.NOT_SERVING))
            return refused
        peer = peer_of(http.client.host if http.client else "")
        try:
            made = await self._places.run(peer, lambda: self._evidence(challenge))
        except LineFullError:
            waiting = f"{self._places.waiting} are waiting"
            return _refusal(429, RequestCode.TOO_MANY_CHALLENGES, waiting)
        except RegaliaError as error:
            return _refusal(503, error.code, error.what)
        self._metrics.evidence.inc()
        return Response(
            made.encode(), media_type=serving.MEDIA_TYPE, headers={"cache-control": "no-store"}
        )

    async def in_clear(self, _: Request) -> Response:
        """Refuse OpenAI's paths outside the sealed channel, in OpenAI's error shape."""
        code = RequestCode.SEALED_PATH_ONLY
        self._metrics.refused.labels(code=code.name).inc()
        return ApiError(
            code, f"This path is served inside the sealed channel only. {code.fix}"
        ).response()


async def _unknown(_: Request, __: Exception) -> Response:
    return _refusal(404, RequestCode.ROUTE_UNKNOWN, "no such path or method")


def build_outer(outside: Outside, sealed: ASGIApp) -> Starlette:
    """Build the outer ASGI application.

    Args:
        outside: handlers of the routes in clear.
        sealed: the gateway that opens sealed requests.
    """
    routes = [
        Route("/health", outside.health, methods=["GET"]),
        Route("/metrics", outside.metrics, methods=["GET"]),
        Route(serving.EVIDENCE_PATH, outside.evidence, methods=["GET"]),
        # Starlette treats an object with ``__call__`` as an ASGI application, for which it does
        # not default to GET but would pass on every method.
        Route(serving.SEALED_PATH, sealed, methods=["POST"]),
        Route("/v1/{path:path}", outside.in_clear, methods=OPENAI_METHODS),
    ]
    app = Starlette(routes=routes, exception_handlers={404: _unknown, 405: _unknown})
    app.router.redirect_slashes = False
    return app
