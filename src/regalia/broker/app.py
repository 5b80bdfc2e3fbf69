"""The broker's HTTP interface: bounds requests, runs them in threads, and renders refusals.

POST /v1/challenge   POST /v1/release   POST /v1/lease/return
POST /v1/admin/proposals            POST /v1/admin/signatures
GET /v1/admin/statements/{tenant}   GET /v1/admin/statements/{tenant}/status
GET /checkpoint      GET /tile/...       (C2SP tlog-tiles)
GET /health          GET /metrics
"""

from __future__ import annotations

import asyncio
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Route

from regalia.broker.administration import BODY_LIMIT
from regalia.broker.challenges import ChallengeRefused
from regalia.broker.codes import BrokerCode
from regalia.broker.denials import TOLD_AFTER
from regalia.broker.metrics import CONTENT_TYPE
from regalia.broker.refusal import refusal_of
from regalia.broker.request import CHALLENGE_REQUEST_LIMIT, RETURN_LIMIT
from regalia.control.codes import StatementCode
from regalia.core.codec import MIB, canonical_json, decimal
from regalia.core.errors import (
    CoreCode,
    ParseError,
    PolicyDenied,
    RegaliaError,
    UnavailableError,
    UsageError,
)
from regalia.host.events import ServiceEvent, emit
from regalia.host.peers import peer_of
from regalia.tlog.codes import TlogCode
from regalia.tlog.tiles import parse_tile_path
from regalia.wire.release import REQUEST_LIMIT
from regalia.wire.statement import SEQUENCE_MAX, check_tenant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from starlette.requests import Request

    from regalia.broker.config import LimitsSection
    from regalia.broker.metrics import Metrics
    from regalia.broker.service import Broker

T = TypeVar("T")

_JSON = "application/json"
_NO_STORE = {"cache-control": "no-store"}
# Log entries never change, so a partial tile can be cached as long as a full one.
_FOREVER = {"cache-control": "public, max-age=31536000, immutable"}

BAD_REQUEST = 400
FORBIDDEN = 403
MISSING = 404
CONFLICT = 409
BODY_TOO_LARGE = 413
SERVER_ERROR = 500
UNAVAILABLE = 503

_STATUS = {
    CoreCode.TOO_LARGE: BODY_TOO_LARGE,
    BrokerCode.REQUEST_TIMEOUT: 408,
    BrokerCode.PEER_LIMITED: 429,
    BrokerCode.MODEL_UNKNOWN: MISSING,
    BrokerCode.NOT_FOUND: MISSING,
    BrokerCode.TENANT_UNKNOWN: MISSING,
    BrokerCode.PROPOSAL_UNKNOWN: MISSING,
    StatementCode.STATEMENT_STALE: CONFLICT,
    StatementCode.STATEMENT_GAP: CONFLICT,
    TlogCode.NO_SUCH_ENTRY: MISSING,
    BrokerCode.METHOD_NOT_ALLOWED: 405,
    BrokerCode.CHALLENGE_REUSED: CONFLICT,
    BrokerCode.CHALLENGE_EXPIRED: CONFLICT,
    BrokerCode.LEASE_UNKNOWN: CONFLICT,
}

# Of the errors with status 503, those whose explanation is sent to the client. They report the
# broker's limits; all others describe its internals.
_SAID_OUTSIDE = frozenset(
    {BrokerCode.BROKER_BUSY, BrokerCode.CLOCK_WENT_BACK, TlogCode.STATEMENT_INTERVENED}
)


def status_of(error: RegaliaError) -> int:
    """HTTP status of a refusal. Spec: docs/spec/release-exchange.md, "Statuses"."""
    if isinstance(error, PolicyDenied):
        return CONFLICT if _STATUS.get(error.code) == CONFLICT else FORBIDDEN
    if error.code in _STATUS:
        return _STATUS[error.code]
    if isinstance(error, ChallengeRefused):
        return CONFLICT
    if isinstance(error, ParseError | UsageError):
        return BAD_REQUEST
    return UNAVAILABLE


def create_app(broker: Broker, metrics: Metrics, limits: LimitsSection) -> Starlette:
    """Build the ASGI application.

    Args:
        broker: decides about releases.
        metrics: counters to increment, and to render at ``/metrics``.
        limits: bounds on concurrent and waiting requests, and on the time that a body may take.
    """
    edge = _Edge(broker, metrics, limits, gate=_Gate(limits), reads=_Gate(limits))
    app = Starlette(
        routes=[
            Route("/v1/challenge", edge.challenge, methods=["POST"]),
            Route("/v1/release", edge.release, methods=["POST"]),
            Route("/v1/lease/return", edge.take_back, methods=["POST"]),
            Route("/v1/admin/proposals", edge.propose, methods=["POST"]),
            Route("/v1/admin/signatures", edge.sign, methods=["POST"]),
            Route("/v1/admin/statements/{tenant}", edge.statements, methods=["GET"]),
            Route("/v1/admin/statements/{tenant}/status", edge.status, methods=["GET"]),
            Route("/checkpoint", edge.checkpoint, methods=["GET"]),
            Route("/tile/{rest:path}", edge.tile, methods=["GET"]),
            Route("/health", edge.health, methods=["GET"]),
            Route("/metrics", edge.metrics_text, methods=["GET"]),
        ],
        exception_handlers={
            RegaliaError: _refuse,
            HTTPException: _refuse_http,
            Exception: _refuse_bug,
        },
    )
    # A redirect would repeat the Host field, which is untrusted.
    app.router.redirect_slashes = False
    return app


class _Gate:
    """Bounds the requests in progress, their bodies, and the threads that work on them.

    A request counts once its body is there, so that slow senders take no place from others. What
    they cost before is bounded by the listener: see ``regalia.host.connections``. One peer has at
    most three quarters of places and bytes, and an eighth of both is for peers that hold a lease.
    """

    def __init__(self, limits: LimitsSection) -> None:
        self._places = limits.concurrent + limits.waiting
        self._bytes = limits.body_mib * MIB
        self._inside: Counter[str] = Counter()  # requests by peer
        self._sizes: Counter[str] = Counter()  # bytes by peer
        self._threads = ThreadPoolExecutor(limits.concurrent, thread_name_prefix="broker")

    @contextmanager
    def place(self, peer: str, size: int, *, holds: bool) -> Iterator[None]:
        """Keep a place for a request.

        Args:
            peer: address that it came from.
            size: bytes of its body.
            holds: whether the peer holds a lease.

        Raises:
            UnavailableError: BROKER_BUSY.
        """
        for most, used, adds in (
            (self._places, self._inside, 1),
            (self._bytes, self._sizes, size),
        ):
            free = most if holds else most - most // 8
            if used.total() + adds > free or used[peer] + adds > most - most // 4:
                raise UnavailableError(
                    BrokerCode.BROKER_BUSY, f"{self._inside.total()} requests are in progress"
                )
        self._inside[peer] += 1
        self._sizes[peer] += size
        try:
            yield
        finally:
            self._inside[peer] -= 1
            self._sizes[peer] -= size
            if not self._inside[peer]:
                del self._inside[peer], self._sizes[peer]

    async def run(self, call: Callable[[], T]) -> T:
        """Run a blocking call in a thread. It is completed even if the client disconnects."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)


@dataclass(frozen=True, slots=True)
class _Edge:
    """Route handlers. Blocking calls run in threads; the exception handlers render refusals.

    Whoever reads the log or the metrics takes no place from those who ask for keys.
    """

    broker: Broker
    metrics: Metrics
    limits: LimitsSection
    gate: _Gate
    reads: _Gate

    async def challenge(self, request: Request) -> Response:
        return await self._post(request, CHALLENGE_REQUEST_LIMIT, self.broker.challenge)

    async def release(self, request: Request) -> Response:
        return await self._charged(request, REQUEST_LIMIT, self.broker.release)

    async def take_back(self, request: Request) -> Response:
        return await self._charged(request, RETURN_LIMIT, self.broker.take_back)

    async def propose(self, request: Request) -> Response:
        return await self._charged(request, BODY_LIMIT, self.broker.administration.propose)

    async def sign(self, request: Request) -> Response:
        return await self._charged(request, BODY_LIMIT, self.broker.administration.sign)

    async def statements(self, request: Request) -> Response:
        tenant, first = _tenant(request), _first(request)
        call = partial(self.broker.administration.statements, tenant, first)
        body = canonical_json(await self._read(request, call))
        return Response(body, media_type=_JSON, headers=_NO_STORE)

    async def status(self, request: Request) -> Response:
        call = partial(self.broker.administration.status, _tenant(request))
        body = canonical_json(await self._read(request, call))
        return Response(body, media_type=_JSON, headers=_NO_STORE)

    async def checkpoint(self, request: Request) -> Response:
        note = await self._read(request, self.broker.log.reader.checkpoint)
        return Response(note, media_type="text/plain; charset=utf-8", headers=_NO_STORE)

    async def tile(self, request: Request) -> Response:
        try:
            tile = parse_tile_path(f"tile/{request.path_params['rest']}")
        except ParseError as exc:
            raise UnavailableError(BrokerCode.NOT_FOUND, exc.what) from exc
        data = await self._read(request, partial(self.broker.log.reader.tile, tile))
        return Response(data, media_type="application/octet-stream", headers=_FOREVER)

    async def health(self, request: Request) -> Response:
        size = await self._read(request, self._size)
        body = canonical_json({"status": "ok", "log_size": size})
        return Response(body, media_type=_JSON, headers=_NO_STORE)

    async def metrics_text(self, request: Request) -> Response:
        text = self.metrics.rendered()
        if text is None:
            text = self.metrics.render(await self._read(request, self._size))
        return Response(text, headers={"content-type": CONTENT_TYPE})

    async def _charged(
        self, request: Request, limit: int, handle: Callable[[bytes, str], object]
    ) -> Response:
        """As ``_post``, for requests whose refusals a peer is charged for."""
        peer = _peer(request)
        try:
            # Before the body is read: what is refused anyway must not take memory.
            self.broker.peers.require(peer, self.broker.clock())
        except UnavailableError as exc:
            self.metrics.answer(request.scope["path"], status_of(exc))
            raise
        return await self._post(request, limit, lambda body: handle(body, peer))

    async def _post(
        self, request: Request, limit: int, handle: Callable[[bytes], object]
    ) -> Response:
        # From the scope, because request.url contains the Host field, which is untrusted and
        # would become a metric label.
        path: str = request.scope["path"]
        try:
            body = await self._body(request, limit)
            with self._place(self.gate, request, len(body)):
                answer = await self.gate.run(partial(handle, body))
        except RegaliaError as exc:
            self.metrics.answer(path, status_of(exc))
            raise
        self.metrics.answer(path, 200)
        return Response(canonical_json(answer), media_type=_JSON, headers=_NO_STORE)

    async def _body(self, request: Request, limit: int) -> bytes:
        """Read the whole body, or raise before more than ``limit`` bytes are buffered."""
        # An honest Content-Length allows refusal before reading; the loop below does not rely on
        # it. The slice bounds the cost of int() on an untrusted string.
        declared = request.headers.get("content-length", "")
        if declared.isdecimal() and int(declared[:20]) > limit:
            raise _too_large(limit)
        body = bytearray()
        try:
            async with asyncio.timeout(self.limits.body_timeout_s):
                async for part in request.stream():
                    body += part
                    if len(body) > limit:
                        raise _too_large(limit)
        except TimeoutError as exc:
            raise ParseError(
                BrokerCode.REQUEST_TIMEOUT, f"no whole request in {self.limits.body_timeout_s} s"
            ) from exc
        except ClientDisconnect as exc:
            raise ParseError(CoreCode.MALFORMED, "the request ends before its end") from exc
        return bytes(body)

    async def _read(self, request: Request, call: Callable[[], T]) -> T:
        with self._place(self.reads, request, 0):
            return await self.reads.run(call)

    def _size(self) -> int:
        """Size of the log, which first learns of denials that were only counted."""
        self.broker.tell(self.broker.clock(), after=TOLD_AFTER)
        return self.broker.log.reader.size()

    def _place(self, gate: _Gate, request: Request, size: int) -> AbstractContextManager[None]:
        peer = _peer(request)
        holds = self.broker.peers.holds(peer, self.broker.clock())
        return gate.place(peer, size, holds=holds)


def _tenant(request: Request) -> str:
    tenant: str = request.path_params["tenant"]
    check_tenant(tenant)
    return tenant


def _first(request: Request) -> int:
    """Lowest sequence that is asked for: ``?first=N``, 1 if it is left out. Raises ParseError."""
    text = request.query_params.get("first", "1")
    return decimal(text, what="first", maximum=SEQUENCE_MAX)


def _peer(request: Request) -> str:
    return peer_of(request.client.host if request.client else "")


def _too_large(limit: int) -> ParseError:
    return ParseError(CoreCode.TOO_LARGE, f"request body: at most {limit} bytes")


def _answer(error: RegaliaError, status: int) -> Response:
    body = canonical_json(refusal_of(error))
    return Response(body, status_code=status, media_type=_JSON, headers=_NO_STORE)


async def _refuse(_: Request, exc: Exception) -> Response:
    if not isinstance(exc, RegaliaError):
        raise exc
    status = status_of(exc)
    if status != UNAVAILABLE:
        return _answer(exc, status)
    emit(ServiceEvent.RELEASE_FAILED, code=exc.code.name, what=exc.what)
    if exc.code not in _SAID_OUTSIDE:
        # The explanation may contain paths, key names and database addresses, which must not be
        # disclosed to the network.
        exc = UnavailableError(exc.code, "the broker has failed; its own log says how")
    return _answer(exc, status)


async def _refuse_http(_: Request, exc: Exception) -> Response:
    """Render Starlette's own 404 and 405 in the form of our refusals."""
    status = exc.status_code if isinstance(exc, HTTPException) else MISSING
    code = BrokerCode.NOT_FOUND if status == MISSING else BrokerCode.METHOD_NOT_ALLOWED
    return _answer(UsageError(code, "no such address or method"), status)


async def _refuse_bug(_: Request, exc: Exception) -> Response:
    """Render a bug. The log gets its place and type, but not its text, which may hold secrets."""
    trace = exc.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = "" if trace is None else f"{trace.tb_frame.f_code.co_qualname}:{trace.tb_lineno}"
    emit(
        ServiceEvent.RELEASE_FAILED,
        code=BrokerCode.INTERNAL_ERROR.name,
        what=type(exc).__name__,
        at=where,
    )
    error = UnavailableError(BrokerCode.INTERNAL_ERROR, "an error inside the broker")
    return _answer(error, SERVER_ERROR)
