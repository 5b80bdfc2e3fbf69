"""Transports for httpx that send requests to one verified runtime through the sealed channel.

The runtime is verified before a request is sent. The request is then sent as ``POST /ohttp``,
with its method, path, header fields and body sealed inside. Every attempt uses a new
encapsulation, so the retries of an HTTP library are not refused as replays.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import httpx
import msgspec

from regalia.client.errors import ClientCode, RuntimeNotVerifiedError, SealedChannelError
from regalia.client.exchange import OUTER_HEADERS, seal_request
from regalia.client.fetch import runtime_url, under
from regalia.client.streams import pieces, pieces_async, read_start, read_start_async
from regalia.client.verify import verify_runtime, verify_runtime_async
from regalia.core.errors import (
    IntegrityError,
    ParseError,
    RegaliaError,
    UnavailableError,
    UsageError,
)
from regalia.crypto.ohttp import RESPONSE_MEDIA_TYPE
from regalia.crypto.ohttp_codes import OhttpCode
from regalia.host.deadlines import answer_within
from regalia.host.transports import (
    AsyncHeadTransport,
    HeadTransport,
    answer_within_async,
)
from regalia.wire.serving import KEY_PROBLEM_TYPE, PROBLEM_MEDIA_TYPE, SEALED_PATH

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from regalia.client.exchange import Answer
    from regalia.client.trust import ClientTrust
    from regalia.client.verify import VerifiedRuntime

_OK = 200
_MAYBE_ANOTHER_KEY = (400, 422)  # statuses of a runtime that cannot open a request
_PROBLEM_MAX = 4096  # bytes of an error page that are read
_PROBLEM_S = 30.0  # seconds for them; a sealed answer may last


class _Problem(msgspec.Struct):
    """The part of an RFC 9457 problem document that is used."""

    type: str = ""


class _Sealing:
    """The part that both transports share. It does no I/O."""

    def __init__(
        self,
        base_url: str,
        trust: ClientTrust,
        on_verified: Callable[[VerifiedRuntime], None] | None,
    ) -> None:
        self.base_url = runtime_url(base_url)
        self.trust = trust
        self._on_verified = on_verified
        self._verified: VerifiedRuntime | None = None

    @property
    def verified(self) -> VerifiedRuntime | None:
        """The verified runtime, or None if its verification is missing or has expired."""
        runtime = self._verified
        return runtime if runtime is not None and runtime.fresh(self.trust.clock()) else None

    def _accept(self, runtime: VerifiedRuntime) -> VerifiedRuntime:
        self._verified = runtime
        if self._on_verified is not None:
            self._on_verified(runtime)
        return runtime

    def _inner_path(self, request: httpx.Request) -> bytes:
        """Path and query on the runtime. A request to another origin is refused."""
        prefix = self.base_url.raw_path.rstrip(b"/")
        url, base = request.url, self.base_url
        same = (url.scheme, url.host, url.port) == (base.scheme, base.host, base.port)
        if not same or not url.raw_path.startswith(prefix + b"/"):
            raise SealedChannelError(
                UsageError(
                    ClientCode.REQUEST_OUTSIDE_RUNTIME,
                    f"{url.copy_with(query=None)} is not under {self.base_url}",
                ),
                request,
            )
        return url.raw_path[len(prefix) :]

    def _seal(
        self, runtime: VerifiedRuntime, request: httpx.Request, body: bytes
    ) -> tuple[httpx.Request, Answer]:
        path = self._inner_path(request)
        try:
            sealed, answer = seal_request(
                runtime.key_config, request, body, path=path, now=self.trust.clock()
            )
        except RegaliaError as exc:
            raise SealedChannelError(exc, request) from exc
        timeout = request.extensions.get("timeout")
        outer = httpx.Request(
            "POST",
            under(self.base_url, SEALED_PATH),
            headers=OUTER_HEADERS,
            content=sealed,
            # Copy only the timeouts: other extensions may contain the caller's data, or hooks
            # such as "trace", which would report on the outer connection.
            extensions={} if timeout is None else {"timeout": timeout},
        )
        return outer, answer


def _is_sealed(response: httpx.Response) -> bool:
    return response.status_code == _OK and _media_type(response) == RESPONSE_MEDIA_TYPE


def _media_type(response: httpx.Response) -> str:
    kind: str = response.headers.get("content-type", "")
    return kind.partition(";")[0].strip().lower()


def _refusal(response: httpx.Response, page: bytes) -> RegaliaError:
    """The error for an unsealed answer. Its text is unauthenticated, so it is only quoted."""
    said = "".join(c if c.isprintable() else " " for c in page[:200].decode("utf-8", "replace"))
    if response.status_code == _OK:
        return IntegrityError(
            ClientCode.ANSWER_NOT_SEALED,
            f"status 200 with {_media_type(response)[:80]!r} instead of {RESPONSE_MEDIA_TYPE}",
        )
    if _says_unknown_key(response, page):
        return IntegrityError(
            ClientCode.SERVING_KEY_REFUSED,
            "the key that the runtime's evidence names is said to be unknown",
        )
    return UnavailableError(
        ClientCode.SEALED_REQUEST_REFUSED,
        f"status {response.status_code}; unsealed, so not to be trusted: {said!r}",
    )


def _says_unknown_key(response: httpx.Response, page: bytes) -> bool:
    if _media_type(response) != PROBLEM_MEDIA_TYPE:
        return False
    try:
        return msgspec.json.decode(page, type=_Problem).type == KEY_PROBLEM_TYPE
    except msgspec.MsgspecError:
        return False


def _cut(exc: httpx.HTTPError) -> RegaliaError:
    return IntegrityError(
        OhttpCode.OHTTP_TRUNCATED, f"the connection broke off: {type(exc).__name__}"
    )


def _response(
    request: httpx.Request,
    runtime: VerifiedRuntime,
    answer: Answer,
    stream: httpx.SyncByteStream | httpx.AsyncByteStream,
) -> httpx.Response:
    if answer.head is None:
        raise RuntimeError("the head has not arrived")
    return httpx.Response(
        answer.head.status,
        headers=answer.headers(),
        stream=stream,
        request=request,
        extensions={"regalia": runtime},
    )


class RegaliaTransport(_Sealing, httpx.BaseTransport):
    """Synchronous transport: ``httpx.Client(transport=RegaliaTransport(url, trust))``.

    It may be used from several threads.

    Args:
        base_url: address of the runtime or of a relay, without ``/v1``.
        trust: policy, trust anchors and collateral that the runtime is verified with.
        inner: transport for the sealed bytes; by default one that ignores proxy variables.
        on_verified: called after every verification, before a request is sent.

    Raises:
        ParseError: the address is malformed.
    """

    def __init__(
        self,
        base_url: str,
        trust: ClientTrust,
        *,
        inner: httpx.BaseTransport | None = None,
        on_verified: Callable[[VerifiedRuntime], None] | None = None,
    ) -> None:
        super().__init__(base_url, trust, on_verified)
        self._inner = inner if inner is not None else HeadTransport()
        self._lock = threading.RLock()  # on_verified may use this transport

    def verify(self) -> VerifiedRuntime:
        """Verify the runtime now, with a new challenge. Raises as ``verify_runtime``."""
        with self._lock:
            return self._accept(verify_runtime(self._inner, self.base_url, self.trust))

    def _runtime(
        self, request: httpx.Request, *, unless: VerifiedRuntime | None
    ) -> VerifiedRuntime:
        """Return a fresh verification other than ``unless``, whose key the runtime refused.

        If another thread has verified the runtime again meanwhile, its result is used.
        """
        with self._lock:
            runtime = self.verified
            if runtime is not None and runtime is not unless:
                return runtime
            try:
                return self._accept(verify_runtime(self._inner, self.base_url, self.trust))
            except RegaliaError as exc:
                self._verified = None
                raise RuntimeNotVerifiedError(exc, request) from exc

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Verify the runtime if necessary, seal and send the request, and open the answer.

        Raises:
            RuntimeNotVerifiedError: the runtime could not be verified; nothing was sent.
            SealedChannelError: the request was not accepted, or the answer cannot be trusted.
            httpx.TransportError: the connection failed.
        """
        self._inner_path(request)
        body = request.read()
        runtime = self._runtime(request, unless=None)
        for last in (False, True):
            outer, answer = self._seal(runtime, request, body)
            response = self._inner.handle_request(outer)
            if _is_sealed(response):
                return self._open(request, runtime, answer, response)
            try:
                with answer_within(_PROBLEM_S):
                    page = read_start(response, _PROBLEM_MAX)
            finally:
                response.close()
            # A runtime that was restarted has a new key. The refusal is unauthenticated, so it
            # only causes a new verification; the request is repeated only if the verified
            # evidence names another key.
            if last or response.status_code not in _MAYBE_ANOTHER_KEY:
                break
            used, runtime = runtime, self._runtime(request, unless=runtime)
            if runtime.key_config == used.key_config:
                break
        raise SealedChannelError(_refusal(response, page), request)

    def _open(
        self,
        request: httpx.Request,
        runtime: VerifiedRuntime,
        answer: Answer,
        response: httpx.Response,
    ) -> httpx.Response:
        stream = _SealedStream(response, answer, request)
        try:
            stream.read_head()
        except BaseException:
            response.close()
            raise
        return _response(request, runtime, answer, stream)

    def close(self) -> None:
        """Close the connections."""
        self._inner.close()


class _SealedStream(httpx.SyncByteStream):
    """The answer's content, yielded as soon as the chunks are opened."""

    def __init__(self, outer: httpx.Response, answer: Answer, request: httpx.Request) -> None:
        self._outer = outer
        self._answer = answer
        self._request = request
        self._opened = self._contents()
        self._first = b""

    def read_head(self) -> None:
        """Read until the head has arrived, and keep content that arrived with it."""
        while self._answer.head is None:
            self._first += next(self._opened)

    def _contents(self) -> Iterator[bytes]:
        """Yield content, possibly empty, for every piece of the outer body and for its end.

        Empty items let ``read_head`` notice that the head has arrived without content.
        """
        try:
            for piece in pieces(self._outer):
                yield self._answer.feed(piece)
            yield self._answer.finish()
        except (ParseError, IntegrityError) as exc:
            raise SealedChannelError(exc, self._request) from exc
        # A timeout remains a timeout for the caller; any other broken connection is a truncation.
        except httpx.TimeoutException:
            raise
        except httpx.HTTPError as exc:
            raise SealedChannelError(_cut(exc), self._request) from exc

    def __iter__(self) -> Iterator[bytes]:
        if self._first:
            yield self._first
        for content in self._opened:
            if content:
                yield content

    def close(self) -> None:
        self._outer.close()


class AsyncRegaliaTransport(_Sealing, httpx.AsyncBaseTransport):
    """Asynchronous transport: ``httpx.AsyncClient(transport=AsyncRegaliaTransport(url, trust))``.

    The arguments are those of ``RegaliaTransport``, with an asynchronous ``inner``. There is no
    lock, so requests that start at the same time may verify the runtime several times; this only
    costs additional challenges.
    """

    def __init__(
        self,
        base_url: str,
        trust: ClientTrust,
        *,
        inner: httpx.AsyncBaseTransport | None = None,
        on_verified: Callable[[VerifiedRuntime], None] | None = None,
    ) -> None:
        super().__init__(base_url, trust, on_verified)
        self._inner = inner if inner is not None else AsyncHeadTransport()

    async def verify(self) -> VerifiedRuntime:
        """Verify the runtime now, with a new challenge. Raises as ``verify_runtime``."""
        return self._accept(await verify_runtime_async(self._inner, self.base_url, self.trust))

    async def _runtime(
        self, request: httpx.Request, *, unless: VerifiedRuntime | None
    ) -> VerifiedRuntime:
        runtime = self.verified
        if runtime is not None and runtime is not unless:
            return runtime
        try:
            return await self.verify()
        except RegaliaError as exc:
            self._verified = None
            raise RuntimeNotVerifiedError(exc, request) from exc

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """As ``RegaliaTransport.handle_request``."""
        self._inner_path(request)
        body = await request.aread()
        runtime = await self._runtime(request, unless=None)
        for last in (False, True):
            outer, answer = self._seal(runtime, request, body)
            response = await self._inner.handle_async_request(outer)
            if _is_sealed(response):
                return await self._open(request, runtime, answer, response)
            try:
                async with answer_within_async(_PROBLEM_S):
                    page = await read_start_async(response, _PROBLEM_MAX)
            finally:
                await response.aclose()
            # As in RegaliaTransport.handle_request.
            if last or response.status_code not in _MAYBE_ANOTHER_KEY:
                break
            used, runtime = runtime, await self._runtime(request, unless=runtime)
            if runtime.key_config == used.key_config:
                break
        raise SealedChannelError(_refusal(response, page), request)

    async def _open(
        self,
        request: httpx.Request,
        runtime: VerifiedRuntime,
        answer: Answer,
        response: httpx.Response,
    ) -> httpx.Response:
        stream = _AsyncSealedStream(response, answer, request)
        try:
            await stream.read_head()
        except BaseException:
            await response.aclose()
            raise
        return _response(request, runtime, answer, stream)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._inner.aclose()


class _AsyncSealedStream(httpx.AsyncByteStream):
    """``_SealedStream`` for asynchronous transports."""

    def __init__(self, outer: httpx.Response, answer: Answer, request: httpx.Request) -> None:
        self._outer = outer
        self._answer = answer
        self._request = request
        self._opened = self._contents()
        self._first = b""

    async def read_head(self) -> None:
        """Read until the head has arrived, and keep content that arrived with it."""
        while self._answer.head is None:
            self._first += await anext(self._opened)

    async def _contents(self) -> AsyncIterator[bytes]:
        try:
            async for piece in pieces_async(self._outer):
                yield self._answer.feed(piece)
            yield self._answer.finish()
        except (ParseError, IntegrityError) as exc:
            raise SealedChannelError(exc, self._request) from exc
        except httpx.TimeoutException:
            raise
        except httpx.HTTPError as exc:
            raise SealedChannelError(_cut(exc), self._request) from exc

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._first:
            yield self._first
        async for content in self._opened:
            if content:
                yield content

    async def aclose(self) -> None:
        await self._outer.aclose()
