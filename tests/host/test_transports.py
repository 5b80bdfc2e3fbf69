"""A server that sends interim answers for ever ends at the client's timeout, and others do not."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import httpx
import pytest

from regalia.host.transports import AsyncHeadTransport, HeadTransport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SOON = 20.0  # seconds until a test gives up; nothing is measured with it
PAUSE_S = 0.05
TIMEOUT_S = 0.2  # for each step, so that 0.8 s are allowed for the head
INTERIM = b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"
FINAL = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n"


def interim_for_ever() -> Iterator[bytes]:
    while True:
        yield INTERIM


def interim_then_final() -> Iterator[bytes]:
    yield INTERIM * 3
    yield INTERIM
    yield FINAL % 2 + b"ok"


def long_body() -> Iterator[bytes]:
    """It lasts for longer than a head may, and no piece of it is late."""
    count = int(8 * TIMEOUT_S / PAUSE_S)
    yield FINAL % count
    for _ in range(count):
        yield b"x"


def silence() -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\n"
    time.sleep(5 * TIMEOUT_S)


@contextmanager
def answering(pieces: Callable[[], Iterator[bytes]]) -> Iterator[str]:
    """The URL of a server that answers each connection with these pieces, one after the other."""
    ended = threading.Event()

    def answer(sock: socket.socket) -> None:
        with sock, suppress(OSError):
            sock.recv(65536)
            for piece in pieces():
                if ended.wait(PAUSE_S):
                    return
                sock.sendall(piece)

    def accept(listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                sock, _ = listener.accept()
                threading.Thread(target=answer, args=(sock,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, args=(listener,), daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        ended.set()
        listener.shutdown(socket.SHUT_RDWR)


def get(url: str, timeout: float | None = TIMEOUT_S) -> str:
    with httpx.Client(transport=HeadTransport(), timeout=timeout) as client:
        return client.get(url).text


def get_async(url: str, timeout: float | None = TIMEOUT_S) -> str:
    async def run() -> str:
        async with httpx.AsyncClient(transport=AsyncHeadTransport(), timeout=timeout) as client:
            return (await client.get(url)).text

    return asyncio.run(run())


EITHER = pytest.mark.parametrize("ask", [get, get_async])


@EITHER
def test_interim_answers_for_ever_end_at_the_timeout(ask: Callable[[str], str]) -> None:
    with answering(interim_for_ever) as url:
        began = time.monotonic()
        with pytest.raises(httpx.ReadTimeout):
            ask(url)
        assert 4 * TIMEOUT_S <= time.monotonic() - began < SOON


@EITHER
def test_some_interim_answers_are_skipped(ask: Callable[[str], str]) -> None:
    with answering(interim_then_final) as url:
        assert ask(url) == "ok"


@EITHER
def test_a_body_may_last(ask: Callable[[str], str]) -> None:
    with answering(long_body) as url:
        assert set(ask(url)) == {"x"}


@EITHER
def test_silence_ends_at_the_timeout_of_one_read(ask: Callable[[str], str]) -> None:
    with answering(silence) as url, pytest.raises(httpx.ReadTimeout):
        ask(url)


@EITHER
def test_without_a_timeout_nothing_is_bounded(ask: Callable[[str, float | None], str]) -> None:
    with answering(interim_then_final) as url:
        assert ask(url, None) == "ok"
