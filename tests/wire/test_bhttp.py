"""Binary HTTP: the RFC's examples, round trips in every chunking, one file for each defect."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regalia.core.errors import ParseError
from regalia.wire import bhttp
from regalia.wire.bhttp import (
    BhttpCode,
    Content,
    Limits,
    RequestHead,
    RequestParser,
    ResponseHead,
    ResponseParser,
    Trailers,
)

if TYPE_CHECKING:
    from regalia.wire.bhttp import Event

VECTORS = Path(__file__).parents[1] / "vectors" / "bhttp"
RFC = {
    name: bytes.fromhex(value)
    for name, value in json.loads((VECTORS / "rfc9292.json").read_text()).items()
    if name != "source"
}
DEFECTS = json.loads((VECTORS / "defects.json").read_text())
CURL = (
    (b"user-agent", b"curl/7.16.3 libcurl/7.16.3 OpenSSL/0.9.7l zlib/1.2.3"),
    (b"host", b"www.example.com"),
    (b"accept-language", b"en, mi"),
)
GET = RequestHead(b"GET", b"https", b"", b"/hello.txt", CURL)


def read(parser: RequestParser | ResponseParser, data: bytes, size: int = 1 << 20) -> list[Event]:
    """Parse in pieces of ``size`` bytes; pieces of content are joined."""
    events: list[Event] = []
    for offset in range(0, len(data), size):
        events += parser.feed(data[offset : offset + size])
    events += parser.finish()
    content = b"".join(event.data for event in events if isinstance(event, Content))
    others = [event for event in events if not isinstance(event, Content)]
    return [*others[:-1], Content(content), others[-1]] if content else others


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_rfc_requests(size: int) -> None:
    want = [GET, Trailers(())]
    assert read(RequestParser(), RFC["known_length_request"], size) == want
    assert read(RequestParser(), RFC["indeterminate_length_request"], size) == want
    assert bhttp.encode_known(GET, b"") == RFC["known_length_request"]
    ours = bhttp.encode_streamed_head(GET) + bhttp.encode_streamed_end(padding=10)
    assert ours == RFC["indeterminate_length_request"]


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_rfc_responses(size: int) -> None:
    events = read(ResponseParser(), RFC["indeterminate_length_response"], size)
    first, second, head, content, trailers = events
    assert (first.status, second.status, head.status) == (102, 103, 200)
    assert first.fields == ((b"running", b'"sleep 15"'),)
    assert len(second.fields) == 2
    assert head.fields[-1] == (b"content-type", b"text/plain")
    assert content == Content(b"Hello World! My content includes a trailing CRLF.\r\n")
    assert trailers == Trailers(())
    ours = bhttp.encode_streamed_head(head, informational=(first, second))
    ours += bhttp.encode_streamed_content(content.data) + bhttp.encode_streamed_end()
    assert ours == RFC["indeterminate_length_response"]

    head, content, trailers = read(ResponseParser(), RFC["known_length_response"], size)
    assert head == ResponseHead(200, ())
    assert content == Content(b"This content contains CRLF.\r\n")
    assert trailers == Trailers(((b"trailer", b"text"),))
    again = bhttp.encode_known(head, content.data, trailers=trailers.fields)
    assert again == RFC["known_length_response"]


def test_empty_parts_may_be_left_out() -> None:
    head = RequestHead(b"GET", b"https", b"example.com", b"/", ())
    assert read(RequestParser(), RFC["truncated_request"]) == [head, Trailers(())]
    answer = [ResponseHead(200, ()), Trailers(())]
    assert read(ResponseParser(), RFC["truncated_response"]) == answer
    whole = bhttp.encode_known(ResponseHead(200, ()), b"")
    for end in range(3, len(whole) + 1):
        assert read(ResponseParser(), whole[:end]) == answer


@pytest.mark.parametrize("size", [1, 1 << 20], ids=["bytewise", "at_once"])
@pytest.mark.parametrize("name", sorted(DEFECTS))
def test_defect_is_refused(name: str, size: int) -> None:
    parser = RequestParser() if name.startswith("request") else ResponseParser()
    with pytest.raises(ParseError) as caught:
        read(parser, (VECTORS / f"{name}.bin").read_bytes(), size)
    assert caught.value.code.name == DEFECTS[name]
    with pytest.raises(RuntimeError):
        parser.feed(b"")


def test_every_code_has_a_vector() -> None:
    assert {code.name for code in BhttpCode} <= set(DEFECTS.values())


NAMES = st.from_regex(rb"[!#$%&'*+\-.^_`|~0-9a-z]{1,20}", fullmatch=True)
VALUES = st.from_regex(
    rb"[!-~\x80-\xff]?|[!-~\x80-\xff][\t -~\x80-\xff]{0,80}[!-~]", fullmatch=True
)
FIELDS = st.lists(st.tuples(NAMES, VALUES), max_size=6).map(tuple)
REQUESTS = st.builds(
    RequestHead,
    st.sampled_from([b"GET", b"POST", b"M-SEARCH"]),
    st.sampled_from([b"http", b"https"]),
    st.from_regex(rb"[a-z0-9.:\[\]]{0,20}", fullmatch=True),
    st.from_regex(rb"\*|/[!-~]{0,40}", fullmatch=True),
    FIELDS,
)
RESPONSES = st.builds(ResponseHead, st.integers(200, 599), FIELDS)
INFORMATIONAL = st.lists(st.builds(ResponseHead, st.integers(100, 199), FIELDS), max_size=3)


def expected(heads: list[Event], content: bytes, trailers: bhttp.Fields) -> list[Event]:
    return [*heads, *([Content(content)] if content else []), Trailers(trailers)]


@settings(max_examples=60, deadline=None)
@given(REQUESTS, st.binary(max_size=200), FIELDS, st.integers(0, 50), st.integers(1, 60))
def test_requests_round_trip(
    head: RequestHead, content: bytes, trailers: bhttp.Fields, padding: int, size: int
) -> None:
    want = expected([head], content, trailers)
    known = bhttp.encode_known(head, content, trailers=trailers, padding=padding)
    assert read(RequestParser(), known, size) == want
    streamed = bhttp.encode_streamed_head(head)
    streamed += bhttp.encode_streamed_content(content) if content else b""
    streamed += bhttp.encode_streamed_end(trailers=trailers, padding=padding)
    assert read(RequestParser(), streamed, size) == want


@settings(max_examples=60, deadline=None)
@given(
    INFORMATIONAL,
    RESPONSES,
    st.lists(st.binary(min_size=1, max_size=90)),
    FIELDS,
    st.integers(1, 60),
)
def test_responses_round_trip(
    early: list[ResponseHead],
    head: ResponseHead,
    pieces: list[bytes],
    trailers: bhttp.Fields,
    size: int,
) -> None:
    want = expected([*early, head], b"".join(pieces), trailers)
    known = bhttp.encode_known(
        head, b"".join(pieces), trailers=trailers, informational=tuple(early)
    )
    assert read(ResponseParser(), known, size) == want
    streamed = bhttp.encode_streamed_head(head, informational=tuple(early))
    streamed += b"".join(map(bhttp.encode_streamed_content, pieces))
    streamed += bhttp.encode_streamed_end(trailers=trailers)
    assert read(ResponseParser(), streamed, size) == want


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_what_parses_is_canonical(data: st.DataObject) -> None:
    """Mutated known-length messages: refused, or re-encoded to the same bytes."""
    message = bytearray(bhttp.encode_known(data.draw(REQUESTS), data.draw(st.binary(max_size=30))))
    for _ in range(data.draw(st.integers(1, 3))):
        message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    try:
        events = read(RequestParser(), bytes(message))
    except ParseError:
        return
    if message[0] != bhttp.KNOWN_REQUEST:
        return
    content = b"".join(event.data for event in events if isinstance(event, Content))
    again = bhttp.encode_known(events[0], content, trailers=events[-1].fields)
    assert message.rstrip(b"\0") == again.rstrip(b"\0")  # padding and omitted parts are zeros


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([0, 1, 2, 3]), st.binary(max_size=120), st.integers(1, 40))
def test_noise_never_raises_anything_else(kind: int, noise: bytes, size: int) -> None:
    for parser in (RequestParser(), ResponseParser()):
        try:
            read(parser, bytes([kind]) + noise, size)
        except ParseError:
            continue


def test_limits_count_over_the_whole_message() -> None:
    head = ResponseHead(200, ((b"a", b"x" * 20),))
    message = bhttp.encode_known(head, b"y" * 20, trailers=((b"b", b"x" * 20),), padding=20)
    exact = Limits(head_max=46, fields_max=2, content_max=20, padding_max=20, informational_max=0)
    assert len(read(ResponseParser(exact), message)) == 3
    for name in ("head_max", "fields_max", "content_max", "padding_max"):
        values = {item: getattr(exact, item) for item in exact.__slots__}
        values[name] -= 1
        with pytest.raises(ParseError) as caught:
            read(ResponseParser(Limits(**values)), message)
        assert caught.value.code is BhttpCode.BHTTP_TOO_LARGE


def test_content_is_handed_on_as_it_arrives() -> None:
    parser = ResponseParser()
    (head,) = parser.feed(bhttp.encode_streamed_head(ResponseHead(200, ())))
    assert head.status == 200
    piece = bhttp.encode_streamed_content(b"token")
    assert parser.feed(piece[:3]) == [Content(b"to")]
    assert parser.feed(piece[3:]) == [Content(b"ken")]
    assert not parser.complete
    assert parser.feed(bhttp.encode_streamed_end()) == [Trailers(())]
    assert parser.complete
    assert parser.feed(bytes(100)) == []
    assert parser.finish() == []


def test_a_refused_value_is_not_printed() -> None:
    with pytest.raises(ParseError) as caught:
        ResponseHead(200, ((b"authorization", b"Bearer secret\n"),))
    assert "authorization" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_an_empty_piece_is_the_callers_mistake() -> None:
    with pytest.raises(ValueError, match="end the content"):
        bhttp.encode_streamed_content(b"")
