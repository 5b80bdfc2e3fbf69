"""Tells refusals to libraries that take every exception of a transport for a failed connection.

The ``openai`` client repeats a request whose transport raised, and then says "Connection error.".
A runtime that the policy refuses would be asked three times, and the reason would be lost. These
transports answer in its place: status 403 with the refusal's code, which is not repeated. Where a
runtime cannot be reached, they raise as before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import msgspec

from regalia.client.errors import RuntimeNotVerifiedError, SealedChannelError
from regalia.core.errors import UnavailableError

if TYPE_CHECKING:
    from regalia.client.transport import AsyncRegaliaTransport, RegaliaTransport
    from regalia.core.errors import RegaliaError

REFUSAL_TYPE = "regalia_refusal"  # the error's type; no runtime answers with it
EXTENSION = "regalia_refusal"  # of the response; holds the ``RegaliaError``


class RefusalTransport(httpx.BaseTransport):
    """``httpx.Client(transport=RefusalTransport(RegaliaTransport(url, trust)))``.

    An answer that is no stream of events is read whole here, so that a damaged end is told like
    any other refusal. In a stream of events it is raised where the events are read.
    """

    def __init__(self, inner: RegaliaTransport) -> None:
        self._inner = inner

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """As the inner transport, with refusals as responses.

        Raises:
            httpx.TransportError: the runtime cannot be reached.
        """
        try:
            response = self._inner.handle_request(request)
            if not _is_event_stream(response):
                response.read()
        except (RuntimeNotVerifiedError, SealedChannelError) as exc:
            if isinstance(exc.error, UnavailableError):
                raise
            return _told(request, exc.error)
        return response

    def close(self) -> None:
        """Close the connections."""
        self._inner.close()


class AsyncRefusalTransport(httpx.AsyncBaseTransport):
    """``RefusalTransport`` for asynchronous clients."""

    def __init__(self, inner: AsyncRegaliaTransport) -> None:
        self._inner = inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """As ``RefusalTransport.handle_request``."""
        try:
            response = await self._inner.handle_async_request(request)
            if not _is_event_stream(response):
                await response.aread()
        except (RuntimeNotVerifiedError, SealedChannelError) as exc:
            if isinstance(exc.error, UnavailableError):
                raise
            return _told(request, exc.error)
        return response

    async def aclose(self) -> None:
        """Close the connections."""
        await self._inner.aclose()


def _is_event_stream(response: httpx.Response) -> bool:
    kind: str = response.headers.get("content-type", "")
    return kind.partition(";")[0].strip().lower() == "text/event-stream"


def _told(request: httpx.Request, error: RegaliaError) -> httpx.Response:
    body = {
        "message": f"refused by this client: {error.explain()}",
        "type": REFUSAL_TYPE,
        "param": None,
        "code": error.code.name,
    }
    return httpx.Response(
        httpx.codes.FORBIDDEN,
        headers={"content-type": "application/json", "x-should-retry": "false"},
        content=msgspec.json.encode({"error": body}),
        request=request,
        extensions={EXTENSION: error},
    )
