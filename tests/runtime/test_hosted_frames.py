"""Frames between a runtime and its engine's workers: as they were sent, or refused."""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regalia.core.errors import CoreCode, ParseError, RegaliaError, UnavailableError
from regalia.runtime.hosted.frames import FRAME_MAX, Failed, Grant, Hello, Hold, receive, send
from tests.runtime.hosted_frames import GRANT, KEY, LOADED, framed

FRAMES = [Hello(0, 1), GRANT, Hold(1.5), LOADED, Failed("CODE", "what")]


def reads(data: bytes, *, open_end: bool = False) -> Any:  # noqa: ANN401
    """What ``receive`` makes of these bytes."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.settimeout(0.2)
        ours.sendall(data)
        if not open_end:
            ours.shutdown(socket.SHUT_WR)
        return receive(theirs)


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: type(frame).__name__)
def test_a_frame_arrives_as_it_was_sent(frame: Any) -> None:  # noqa: ANN401
    ours, theirs = socket.socketpair()
    with ours, theirs:
        send(ours, frame)
        send(ours, Hold(2.0))
        assert receive(theirs) == frame
        assert receive(theirs) == Hold(2.0)
        ours.close()
        assert receive(theirs) is None


@pytest.mark.parametrize("cut", [1, 3, 4, 5, 20])
def test_frames_that_end_too_early(cut: int) -> None:
    whole = framed(msgspec.json.encode(Hello(0, 1)))
    assert cut < len(whole)
    with pytest.raises(UnavailableError):
        reads(whole[:cut])
    with pytest.raises(TimeoutError):
        reads(whole[:cut], open_end=True)


def test_frames_that_are_too_long_are_refused_before_memory_is_taken() -> None:
    for size in (FRAME_MAX + 1, 1 << 31, (1 << 32) - 1):
        with pytest.raises(ParseError) as caught:
            reads(size.to_bytes(4, "big"), open_end=True)
        assert caught.value.code is CoreCode.TOO_LARGE


BAD = {
    "empty": b"",
    "no JSON": b"hello",
    "no UTF-8": b'{"type":"hello","rank":"\xff","workers":1}',
    "a list": b'["hello",0,1]',
    "no tag": b'{"rank":0,"workers":1}',
    "unknown tag": b'{"type":"key","rank":0,"workers":1}',
    "a tag that is no text": b'{"type":5}',
    "a missing member": b'{"type":"hello","rank":0}',
    "another member": b'{"type":"hello","rank":0,"workers":1,"key":"x"}',
    "a number as text": b'{"type":"hello","rank":"0","workers":1}',
    "a number that is true": b'{"type":"hello","rank":true,"workers":1}',
    "no whole number": b'{"type":"hello","rank":0.5,"workers":1}',
    "no number": b'{"type":"hold","left_s":NaN}',
    "no finite number": b'{"type":"hold","left_s":1e999}',
    "two objects": b'{"type":"hold","left_s":1}{"type":"hold","left_s":1}',
    "nested deeply": b'{"type":"hello","rank":' + b"[" * 60_000,
    "nested deeply, in another member": b'{"a":' * 10_000,
}


@pytest.mark.parametrize("name", BAD)
def test_malformed_frames(name: str) -> None:
    with pytest.raises(ParseError) as caught:
        reads(framed(BAD[name]))
    assert caught.value.code is CoreCode.MALFORMED


@given(st.binary(max_size=300), st.booleans())
def test_any_bytes_are_a_frame_or_an_error(data: bytes, frame: bool) -> None:  # noqa: FBT001
    with suppress(RegaliaError, TimeoutError):
        found = reads(framed(data) if frame else data)
        assert found is None or isinstance(found, tuple(map(type, FRAMES)))


def test_the_key_is_in_no_frame() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        send(ours, GRANT, memoryview(KEY))
        ours.close()
        data = b"".join(iter(lambda: theirs.recv(1 << 16), b""))
    size = int.from_bytes(data[:4], "big")
    assert data[4 + size :] == KEY
    assert KEY not in data[: 4 + size]
    assert KEY.hex().encode() not in data
    assert "key" not in {name for name in Grant.__struct_fields__ if name != "owner_key"}
