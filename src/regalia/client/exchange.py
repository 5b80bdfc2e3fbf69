"""One sealed request and its answer, without I/O. Spec: docs/spec/sealed-channel.md."""

from __future__ import annotations

from email.utils import format_datetime
from typing import TYPE_CHECKING

from regalia.core.errors import CoreCode, ParseError
from regalia.crypto.ohttp import REQUEST_MEDIA_TYPE, RESPONSE_MEDIA_TYPE, ClientRequest
from regalia.wire import bhttp
from regalia.wire.bhttp import Content, RequestHead, ResponseHead, ResponseParser

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    import httpx

    from regalia.crypto.ohttp import KeyConfig
    from regalia.wire.bhttp import Event

CONTENT_MAX = bhttp.DEFAULT_LIMITS.content_max
_PAD_FROM = 1024  # bytes; shorter requests are all padded to this
OUTER_HEADERS = {
    "content-type": REQUEST_MEDIA_TYPE,
    "accept": RESPONSE_MEDIA_TYPE,
    "accept-encoding": "identity",
    "incremental": "?1",
}

# Fields about one connection, which the sealed message does not have, and fields that are set
# here: compression would make the length depend on secrets, and the date is our clock's.
_NOT_COPIED = frozenset(
    {
        b"accept-encoding",
        b"connection",
        b"content-length",
        b"date",
        b"expect",
        b"host",
        b"keep-alive",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
_NOT_RETURNED = frozenset({b"connection", b"keep-alive", b"transfer-encoding", b"upgrade"})


def padded_size(size: int) -> int:
    """Size to which a message of ``size`` bytes is padded.

    Padmé (Nikitin et al., PETS 2019): only the highest bits of the length are kept, so that at
    most 12 % is added and O(log log n) bits of the length show.
    """
    size = max(size, _PAD_FROM)
    exponent = size.bit_length() - 1
    dropped = exponent - exponent.bit_length()
    return -(-size >> dropped) << dropped


def seal_request(
    config: KeyConfig, request: httpx.Request, body: bytes, *, path: bytes, now: datetime
) -> tuple[bytes, Answer]:
    """Seal one request, freshly encapsulated: never send the result twice.

    Args:
        config: of a verified runtime.
        request: method, address and header fields; all of them are sealed.
        body: its content.
        path: path and query inside the runtime.
        now: goes into the sealed ``date``, by which the runtime refuses replays.

    Returns:
        The body of the outer request, and what opens the answer to it.

    Raises:
        ParseError: BHTTP_CONTROL_MALFORMED, BHTTP_FIELD_MALFORMED or TOO_LARGE.
    """
    if len(body) > CONTENT_MAX:
        raise ParseError(CoreCode.TOO_LARGE, f"request of {len(body)} bytes, at most {CONTENT_MAX}")
    head = RequestHead(
        method=request.method.encode("ascii"),
        scheme=request.url.scheme.encode("ascii"),
        authority=request.url.netloc,
        path=path,
        fields=_fields(request.headers.raw, body, now),
    )
    message = bhttp.encode_known(head, body)
    message += bytes(padded_size(len(message)) - len(message))
    sealer = ClientRequest.to(config)
    return b"".join(sealer.seal_all(message)), Answer(sealer)


def _fields(raw: Sequence[tuple[bytes, bytes]], body: bytes, now: datetime) -> bhttp.Fields:
    mark_grace = [(name.lower(), value.strip()) for name, value in raw]
    named = {name for name, _ in mark_grace}
    fields = [(name, value) for name, value in mark_grace if name not in _NOT_COPIED]
    if body or b"content-length" in named:
        fields.append((b"content-length", str(len(body)).encode()))
    fields.append((b"accept-encoding", b"identity"))
    fields.append((b"date", format_datetime(now, usegmt=True).encode()))
    return tuple(fields)


class Answer:
    """Opens the one answer to one request, as it arrives."""

    __slots__ = ("_opener", "_parser", "head")

    def __init__(self, sealer: ClientRequest) -> None:
        self._opener = sealer.response()
        self._parser = ResponseParser()
        #: Status and header fields, once they have arrived.
        self.head: ResponseHead | None = None

    def feed(self, data: bytes) -> bytes:
        """Take bytes of the outer body; return the content that they complete.

        Raises:
            ParseError, IntegrityError: the answer was altered, or is not one.
        """
        return b"".join(self._content(self._parser.feed(c)) for c in self._opener.feed(data))

    def finish(self) -> bytes:
        """Say that the outer body has ended; return the rest of the content.

        Raises:
            ParseError, IntegrityError: the answer was cut or altered.
        """
        rest = self._content(self._parser.feed(self._opener.finish()))
        return rest + self._content(self._parser.finish())

    def _content(self, events: list[Event]) -> bytes:
        for event in events:
            if isinstance(event, ResponseHead) and not event.informational:
                self.head = event
        return b"".join(event.data for event in events if isinstance(event, Content))

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Header fields for the caller's HTTP library.

        Raises:
            RuntimeError: the head of the answer was not read yet (the caller's bug).
        """
        if self.head is None:
            raise RuntimeError("the head has not arrived")
        return [field for field in self.head.fields if field[0] not in _NOT_RETURNED]
