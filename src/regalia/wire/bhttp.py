"""Binary HTTP (RFC 9292): requests and responses of known and of indeterminate length.

Messages are parsed as they arrive, and content is passed on without buffering the whole message.
The rules for fields and the limits are in docs/spec/sealed-channel.md, section 7. It holds that
``parse(encode(m)) == m``. For known-length messages also ``encode(parse(b)) == b``, unless they
have padding or omit empty parts at the end (RFC 9292, section 3.8, allows both).
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Generator
from dataclasses import dataclass

from regalia.core.codec import MIB
from regalia.core.errors import Code, ParseError
from regalia.core.varint import encode_varint, read_varint

# Framing indicators, RFC 9292, section 3.3.
KNOWN_REQUEST, KNOWN_RESPONSE, STREAMED_REQUEST, STREAMED_RESPONSE = range(4)

Fields = tuple[tuple[bytes, bytes], ...]

# Token, field value and so on of RFC 9110, sections 5.5 and 5.6.2. Field names are lower-case.
_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_VALUE = re.compile(rb"(?:[!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?)?")
_SCHEME = re.compile(rb"[a-z][a-z0-9+.\-]*")
_AUTHORITY = re.compile(rb"[!-~]*")
_PATH = re.compile(rb"\*|/[!-~]*")


class BhttpCode(Code):
    """Refusals of binary HTTP messages."""

    BHTTP_FRAMING_UNKNOWN = (
        "A request must not be taken for a response, nor an unknown form for a known one.",
        "Use a peer that speaks RFC 9292.",
    )
    BHTTP_CONTROL_MALFORMED = (
        "A method, path or status that readers understand differently routes a request wrongly.",
        "Correct the request line or the status in the sender.",
    )
    BHTTP_FIELD_MALFORMED = (
        "A header field with control characters or capitals has more than one reading.",
        "Correct the named header field in the sender.",
    )
    BHTTP_TOO_LARGE = (
        "Limits are checked before memory is used, so that nobody can exhaust this process.",
        "Send a smaller message; the limit is in the text.",
    )
    BHTTP_TRUNCATED = (
        "The message ended inside a part of it.",
        "Send it again, and do not act on the part that arrived.",
    )
    BHTTP_PADDING_NOT_ZERO = (
        "Bytes behind the message are padding, and padding is zero.",
        "Use a peer that speaks RFC 9292.",
    )


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of a parser, in bytes unless noted otherwise."""

    head_max: int = 64 * 1024  # control data and all field sections together
    fields_max: int = 256  # field lines in all sections together
    content_max: int = 64 * MIB
    padding_max: int = 16 * MIB  # padding is checked and discarded, never stored
    informational_max: int = 8  # responses with status 1xx
    pieces_free: int = 4096  # pieces of content in the indeterminate-length form, beyond …
    piece_average_min: int = 64  # … one for each of this many bytes


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class RequestHead:
    """A request's control data and header fields. Construction raises ParseError if malformed."""

    method: bytes
    scheme: bytes
    authority: bytes  # may be empty if there is a host field instead
    path: bytes
    fields: Fields

    def __post_init__(self) -> None:
        for what, rule, value in (
            ("method", _TOKEN, self.method),
            ("scheme", _SCHEME, self.scheme),
            ("authority", _AUTHORITY, self.authority),
            ("path", _PATH, self.path),
        ):
            if not rule.fullmatch(value):
                raise ParseError(BhttpCode.BHTTP_CONTROL_MALFORMED, f"{what} {value[:80]!r}")
        _check_fields(self.fields)


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """A response's status and header fields. Construction raises ParseError if malformed."""

    status: int
    fields: Fields

    def __post_init__(self) -> None:
        if not 100 <= self.status <= 599:  # noqa: PLR2004 - RFC 9110 section 15
            raise ParseError(BhttpCode.BHTTP_CONTROL_MALFORMED, f"status {self.status}")
        _check_fields(self.fields)

    @property
    def informational(self) -> bool:
        """Whether it is a 1xx response, which precedes the final one."""
        return self.status < 200  # noqa: PLR2004 - RFC 9110 section 15.2


@dataclass(frozen=True, slots=True)
class Content:
    """A non-empty piece of the content. The division into pieces has no meaning."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Trailers:
    """The trailer fields, possibly none. This is the last event of a message."""

    fields: Fields


Event = RequestHead | ResponseHead | Content | Trailers


def _check_fields(fields: Fields) -> None:
    for name, value in fields:
        if not _NAME.fullmatch(name):
            raise ParseError(BhttpCode.BHTTP_FIELD_MALFORMED, f"field name {name[:80]!r}")
        if not _VALUE.fullmatch(value):
            # The value may be a credential, so report only the name of the field.
            raise ParseError(BhttpCode.BHTTP_FIELD_MALFORMED, f"value of field {name[:80]!r}")


def _vector(data: bytes) -> bytes:
    return encode_varint(len(data)) + data


def _lines(fields: Fields) -> bytes:
    _check_fields(fields)
    return b"".join(_vector(name) + _vector(value) for name, value in fields)


def _control(head: RequestHead | ResponseHead) -> bytes:
    if isinstance(head, ResponseHead):
        return encode_varint(head.status)
    return b"".join(map(_vector, (head.method, head.scheme, head.authority, head.path)))


def encode_known(
    head: RequestHead | ResponseHead,
    content: bytes,
    *,
    trailers: Fields = (),
    padding: int = 0,
    informational: tuple[ResponseHead, ...] = (),
) -> bytes:
    """Encode a whole message in the known-length form.

    Args:
        head: control data and header fields.
        content: may be empty.
        trailers: fields after the content.
        padding: number of zero bytes to append, which hide the length of the message.
        informational: 1xx responses before the final one.
    """
    kind = KNOWN_REQUEST if isinstance(head, RequestHead) else KNOWN_RESPONSE
    heads = (*informational, head)
    return b"".join(
        (
            encode_varint(kind),
            *(_control(item) + _vector(_lines(item.fields)) for item in heads),
            _vector(content),
            _vector(_lines(trailers)),
            bytes(padding),
        )
    )


def encode_streamed_head(
    head: RequestHead | ResponseHead, *, informational: tuple[ResponseHead, ...] = ()
) -> bytes:
    """Encode the start of a message of indeterminate length.

    Args:
        head: control data and header fields.
        informational: 1xx responses before the final one.
    """
    kind = STREAMED_REQUEST if isinstance(head, RequestHead) else STREAMED_RESPONSE
    heads = (*informational, head)
    return encode_varint(kind) + b"".join(
        _control(item) + _lines(item.fields) + b"\x00" for item in heads
    )


def encode_streamed_content(data: bytes) -> bytes:
    """Encode a piece of content of a message of indeterminate length.

    Raises:
        ValueError: the piece is empty, which would end the content; a bug of the caller.
    """
    if not data:
        raise ValueError("an empty piece would end the content")
    return _vector(data)


def encode_streamed_end(*, trailers: Fields = (), padding: int = 0) -> bytes:
    """Encode the end of a message of indeterminate length.

    Args:
        trailers: fields after the content.
        padding: number of zero bytes to append, which hide the length of the message.
    """
    return b"\x00" + _lines(trailers) + b"\x00" + bytes(padding)


_Steps = Generator[None, None, None]
_Reading = Generator[None, None, int]


class _Parser(ABC):
    """Parses one message incrementally.

    The grammar is a generator that follows the structure of the RFC. It pauses if bytes are
    missing, and ``feed`` resumes it.
    """

    __slots__ = (
        "_buffer",
        "_content_left",
        "_ended",
        "_events",
        "_fields_left",
        "_head_left",
        "_limits",
        "_padding_left",
        "_pieces",
        "_steps",
        "_told",
    )

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._head_left = limits.head_max
        self._fields_left = limits.fields_max
        self._content_left = limits.content_max
        self._padding_left = limits.padding_max
        self._pieces = 0  # of content that were announced
        self._buffer = bytearray()
        self._events: list[Event] = []
        self._ended = False  # no more bytes will arrive
        self._told = False  # the Trailers event was returned
        self._steps = self._message()

    def feed(self, data: bytes) -> list[Event]:
        """Process the next bytes of the message, and return the events that they complete.

        Raises:
            ParseError: the message is refused; do not use this object again.
        """
        if self._ended:
            raise RuntimeError("the message has ended")
        self._buffer += data
        return self._run()

    def finish(self) -> list[Event]:
        """Process the end of the message, and return the events that it completes.

        Raises:
            ParseError: BHTTP_TRUNCATED, or the rest of the message is malformed.
        """
        if self._ended:
            raise RuntimeError("the message has ended")
        self._ended = True
        return self._run()

    @property
    def complete(self) -> bool:
        """Whether the last event was returned. Only padding may follow."""
        return self._told

    def _run(self) -> list[Event]:
        try:
            next(self._steps)
        except StopIteration:
            if not self._ended:
                raise RuntimeError("the parser stops only where the message does") from None
        except ParseError:
            self._ended = True
            raise
        events, self._events = self._events, []
        return events

    # Reading ---------------------------------------------------------------------------------

    def _take(self, size: int) -> bytes:
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    def _wait(self, what: str) -> None:
        """Refuse a message that has ended although bytes are missing. Call it before a pause."""
        if self._ended:
            raise ParseError(BhttpCode.BHTTP_TRUNCATED, f"the message ends inside its {what}")

    def _integer(self, what: str) -> _Reading:
        while True:
            found = read_varint(self._buffer, what=what)
            if found is not None:
                self._take(found[1])
                return found[0]
            self._wait(what)
            yield

    def _length(self, what: str) -> _Reading:
        """Read the length of a part, which is 0 if the message ends before it (section 3.8)."""
        while not self._buffer:
            if self._ended:
                return 0
            yield
        return (yield from self._integer(what))

    def _head_bytes(self, what: str, size: int | None = None) -> Generator[None, None, bytes]:
        """Read a byte string of the head, after its length unless that is given."""
        if size is None:
            size = yield from self._integer(what)
        self._spend_head(size, what)
        while len(self._buffer) < size:
            self._wait(what)
            yield
        return self._take(size)

    def _spend_head(self, size: int, what: str) -> None:
        self._head_left -= size
        if self._head_left < 0:
            raise ParseError(
                BhttpCode.BHTTP_TOO_LARGE,
                f"{what}: the head has more than {self._limits.head_max} bytes",
            )

    def _spend_field(self) -> None:
        self._fields_left -= 1
        if self._fields_left < 0:
            raise ParseError(
                BhttpCode.BHTTP_TOO_LARGE, f"more than {self._limits.fields_max} header fields"
            )

    def _spend_piece(self) -> None:
        self._pieces += 1
        seen = self._limits.content_max - self._content_left
        most = self._limits.pieces_free + seen // self._limits.piece_average_min
        if self._pieces > most:
            raise ParseError(
                BhttpCode.BHTTP_TOO_LARGE, f"{self._pieces} pieces for {seen} bytes of content"
            )

    # The grammar -----------------------------------------------------------------------------

    def _message(self) -> _Steps:
        known = yield from self._start()
        yield from self._content(known=known)
        trailers = yield from self._fields(known=known)
        self._events.append(Trailers(trailers))
        self._told = True
        while True:
            if self._buffer.strip(b"\x00"):
                raise ParseError(BhttpCode.BHTTP_PADDING_NOT_ZERO, "non-zero bytes at the end")
            self._padding_left -= len(self._buffer)
            if self._padding_left < 0:
                raise ParseError(
                    BhttpCode.BHTTP_TOO_LARGE,
                    f"padding of more than {self._limits.padding_max} bytes",
                )
            self._buffer.clear()
            if self._ended:
                return
            yield

    @abstractmethod
    def _start(self) -> Generator[None, None, bool]:
        """Read framing indicator, control data and header section.

        Returns True for the known-length form.
        """

    def _framing(self, known: int, streamed: int) -> Generator[None, None, bool]:
        kind = yield from self._integer("framing indicator")
        if kind not in (known, streamed):
            raise ParseError(
                BhttpCode.BHTTP_FRAMING_UNKNOWN, f"indicator {kind}, want {known} or {streamed}"
            )
        return kind == known

    def _fields(self, *, known: bool) -> Generator[None, None, Fields]:
        if known:
            size = yield from self._length("field section")
            return self._parse_lines((yield from self._head_bytes("field section", size)))
        fields: list[tuple[bytes, bytes]] = []
        size = yield from self._length("field section")
        while size:
            self._spend_field()
            name = yield from self._head_bytes("field name", size)
            fields.append((name, (yield from self._head_bytes("field value"))))
            size = yield from self._integer("field section")
        _check_fields(tuple(fields))
        return tuple(fields)

    def _parse_lines(self, section: bytes) -> Fields:
        fields: list[tuple[bytes, bytes]] = []
        offset = 0
        while offset < len(section):
            self._spend_field()
            name, offset = _read_vector(section, offset, "field name")
            value, offset = _read_vector(section, offset, "field value")
            fields.append((name, value))
        _check_fields(tuple(fields))
        return tuple(fields)

    def _content(self, *, known: bool) -> _Steps:
        size = yield from self._length("content")
        while size:
            self._spend_piece()
            self._content_left -= size
            if self._content_left < 0:
                raise ParseError(
                    BhttpCode.BHTTP_TOO_LARGE,
                    f"content of more than {self._limits.content_max} bytes",
                )
            while size:
                piece = self._take(min(size, len(self._buffer)))
                if piece:
                    self._events.append(Content(piece))
                    size -= len(piece)
                else:
                    self._wait("content")
                    yield
            if known:
                return
            size = yield from self._integer("content")


def _read_vector(data: bytes, offset: int, what: str) -> tuple[bytes, int]:
    length = read_varint(data, offset, what=what)
    if length is None or len(data) - length[1] < length[0]:
        raise ParseError(BhttpCode.BHTTP_FIELD_MALFORMED, f"{what} crosses its section's end")
    end = length[1] + length[0]
    return data[length[1] : end], end


class RequestParser(_Parser):
    """Parses a request. Events: RequestHead, any number of Content, Trailers."""

    __slots__ = ()

    def __init__(self, limits: Limits = DEFAULT_LIMITS) -> None:
        super().__init__(limits)

    def _start(self) -> Generator[None, None, bool]:
        known = yield from self._framing(KNOWN_REQUEST, STREAMED_REQUEST)
        method = yield from self._head_bytes("method")
        scheme = yield from self._head_bytes("scheme")
        authority = yield from self._head_bytes("authority")
        path = yield from self._head_bytes("path")
        fields = yield from self._fields(known=known)
        self._events.append(RequestHead(method, scheme, authority, path, fields))
        return known


class ResponseParser(_Parser):
    """Parses a response. Events: ResponseHead (1xx ones first), any number of Content, Trailers."""

    __slots__ = ()

    def __init__(self, limits: Limits = DEFAULT_LIMITS) -> None:
        super().__init__(limits)

    def _start(self) -> Generator[None, None, bool]:
        known = yield from self._framing(KNOWN_RESPONSE, STREAMED_RESPONSE)
        for _ in range(self._limits.informational_max + 1):
            status = yield from self._integer("status")
            head = ResponseHead(status, (yield from self._fields(known=known)))
            self._events.append(head)
            if not head.informational:
                return known
        raise ParseError(
            BhttpCode.BHTTP_TOO_LARGE,
            f"more than {self._limits.informational_max} informational responses",
        )
