"""Seals one request and opens its answer, without I/O. Spec: docs/spec/sealed-channel.md."""

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
_PAD_FROM = 1024  # bytes; all shorter requests are padded to this size
OUTER_HEADERS = {
    "content-type": REQUEST_MEDIA_TYPE,
    "accept": RESPONSE_MEDIA_TYPE,
    "accept-encoding": "identity",
    "incremental": "?1",
}

# Connection-specific fields, which Binary HTTP does not carry, and fields that this module sets
# itself: the runtime's answer must not be compressed, because its length would then depend on
# secrets, and the runtime refuses replays by our date.
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

    This is Padmé (Nikitin et al., PETS 2019): the size is rounded up so that only its highest
    bits can be nonzero. Padding adds at most 12 %, and the length leaks O(log log n) bits.
    """
    size = max(size, _PAD_FROM)
    exponent = size.bit_length() - 1
    dropped = exponent - exponent.bit_length()
    return -(-size >> dropped) << dropped


def seal_request(
    config: KeyConfig, request: httpx.Request, body: bytes, *, path: bytes, now: datetime
) -> tuple[bytes, Answer]:
    """Seal one request with a fresh encapsulation. The result must not be sent twice.

    Args:
        config: key configuration of a verified runtime.
        request: request whose method, address and header fields are sealed.
        body: content of the request.
        path: path and query on the runtime.
        now: current time, for the sealed ``date`` field, by which the runtime refuses replays.

    Returns:
        The body of the outer request, and the object that opens the answer to it.

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
    # Zero bytes after the message are padding (RFC 9292, section 3.8).
    message += bytes(padded_size(len(message)) - len(message))
    sealer = ClientRequest.to(config)
    return b"".join(sealer.seal_all(message)), Answer(sealer)


def _fields(raw: Sequence[tuple[bytes, bytes]], body: bytes, now: datetime) -> bhttp.Fields:
    lower = [(name.lower(), value.strip()) for name, value in raw]
    named = {name for name, _ in lower}
    fields = [(name, value) for name, value in lower if name not in _NOT_COPIED]
    if body or b"content-length" in named:
        fields.append((b"content-length", str(len(body)).encode()))
    fields.append((b"accept-encoding", b"identity"))
    fields.append((b"date", format_datetime(now, usegmt=True).encode()))
    return tuple(fields)


class Answer:
    """Opens the answer to one request incrementally, as it arrives."""

    __slots__ = ("_opener", "_parser", "head")

    def __init__(self, sealer: ClientRequest) -> None:
        self._opener = sealer.response()
        self._parser = ResponseParser()
        #: Status and header fields, once they have arrived.
        self.head: ResponseHead | None = None

    def feed(self, data: bytes) -> bytes:
        """Process the next bytes of the outer body, and return the content that they complete.

        Raises:
            ParseError, IntegrityError: the answer was altered, or is malformed.
        """
        return b"".join(self._content(self._parser.feed(c)) for c in self._opener.feed(data))

    def finish(self) -> bytes:
        """Process the end of the outer body, and return the rest of the content.

        Raises:
            ParseError, IntegrityError: the answer was truncated or altered.
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
            RuntimeError: the head of the answer has not arrived, which is a bug of the caller.
        """
        if self.head is None:
            raise RuntimeError("the head has not arrived")
        return [field for field in self.head.fields if field[0] not in _NOT_RETURNED]
