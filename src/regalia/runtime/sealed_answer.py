"""Seals the answer to one request, piece by piece, as the inner application sends it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regalia.crypto.ohttp import RESPONSE_MEDIA_TYPE
from regalia.crypto.ohttp_codes import CHUNK_MAX
from regalia.wire import bhttp

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.types import Message, Send

    from regalia.crypto.ohttp import ResponseSealer
    from regalia.runtime.openai.errors import ApiError

# Connection-specific fields, which Binary HTTP does not carry (RFC 9110, section 7.6.1).
_DROPPED = {b"connection", b"transfer-encoding", b"keep-alive", b"upgrade"}


class SealedAnswer:
    """Receives ASGI messages of the inner application, seals them and sends them on.

    Args:
        sealer: of this exchange.
        send: of the outer application.
        padding: of sealed answers, as in ``GatewayLimits``.
        head_only: the request was a HEAD, whose answer has no content (RFC 9110, 9.3.2). Servers
            drop it, and here the gateway is the server.
    """

    def __init__(
        self, sealer: ResponseSealer, send: Send, padding: int, *, head_only: bool = False
    ) -> None:
        self._sealer = sealer
        self._send = send
        self._padding = padding
        self._head_only = head_only
        self._size = 0  # bytes of Binary HTTP that were sealed so far
        self._started = False

    async def send(self, message: Message) -> None:
        """Seal one message; this is the ASGI ``send`` of the inner application."""
        if message["type"] == "http.response.start":
            fields = tuple(
                (name.lower(), value)
                for name, value in message.get("headers", ())
                if name.lower() not in _DROPPED
            )
            await self._seal(
                bhttp.encode_streamed_head(bhttp.ResponseHead(message["status"], fields))
            )
            return
        body = b"" if self._head_only else message.get("body", b"")
        piece = bhttp.encode_streamed_content(body) if body else b""
        if message.get("more_body", False):
            if piece:
                await self._seal(piece)
            return
        await self._seal(piece + self._end(len(piece)), final=True)

    def _end(self, coming: int) -> bytes:
        # Binary HTTP allows zero bytes after a message as padding (RFC 9292, section 3.8).
        end = bhttp.encode_streamed_end()
        if not self._padding:
            return end
        room = -(self._size + coming + len(end)) % self._padding
        return bhttp.encode_streamed_end(padding=room)

    async def send_whole(self, error: ApiError) -> None:
        """Send an error in place of the inner application's answer."""
        await error.response()({"type": "http"}, _never, self.send)

    async def _seal(self, data: bytes, *, final: bool = False) -> None:
        self._size += len(data)
        pieces = [*_split(data)]
        sealed = b"" if self._started else self._sealer.start
        if final:
            # The final chunk is marked as such in its AAD, so it must be sealed differently. It
            # may be empty, but it must exist.
            *pieces, last = pieces or [b""]
        sealed += b"".join(self._sealer.seal(piece) for piece in pieces)
        if final:
            sealed += self._sealer.seal_final(last)
        if not self._started:
            self._started = True
            await self._send(
                {
                    "type": "http.response.start",
                    "status": 200,
                    "headers": [
                        (b"content-type", RESPONSE_MEDIA_TYPE.encode()),
                        (b"cache-control", b"no-store"),
                    ],
                }
            )
        await self._send({"type": "http.response.body", "body": sealed, "more_body": not final})


def _split(data: bytes) -> Iterator[bytes]:
    for start in range(0, len(data), CHUNK_MAX):
        yield data[start : start + CHUNK_MAX]


async def _never() -> Message:
    raise RuntimeError("a finished answer reads nothing")
