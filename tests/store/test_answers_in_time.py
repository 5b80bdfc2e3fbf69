"""Stores that hang, trickle and break off: every request ends in bounded time."""

from __future__ import annotations

import socket
import threading
import time
from typing import TYPE_CHECKING

import httpx
import pytest

from regalia.core.errors import CoreCode, IntegrityError, UnavailableError
from regalia.store.attempts import AgainError
from regalia.store.exchange import Call, Exchange
from regalia.store.names import StoreCode
from regalia.store.oci import OciRepository
from regalia.store.oci_address import OciAddress
from regalia.store.peers import Peers
from tests.host.test_transports import answering

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.timeout(60)
HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n"
FOREVER = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


def nothing() -> Iterator[bytes]:
    while True:
        yield b""


def head_that_trickles() -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\n"
    while True:
        yield b"x-field: x\r\n"


def body_that_trickles() -> Iterator[bytes]:
    yield HEAD
    while True:
        yield b"x"


def chunks_without_end() -> Iterator[bytes]:
    yield FOREVER
    while True:
        yield b"1\r\nx\r\n"


def breaks_off() -> Iterator[bytes]:
    yield HEAD + b"some"


SLOW = [nothing, head_that_trickles, body_that_trickles, chunks_without_end]


@pytest.mark.parametrize("pieces", [*SLOW, breaks_off])
def test_an_exchange_ends(pieces: Callable[[], Iterator[bytes]]) -> None:
    began = time.monotonic()
    with answering(pieces) as url:
        exchange = Exchange(url, pause=lambda _: None, step_s=0.2, answer_s=0.5)
        with pytest.raises((UnavailableError, IntegrityError)) as caught:
            exchange.attempt(lambda: exchange.send(Call("GET", url), {}))
        exchange.close()
    assert time.monotonic() - began < 10
    assert caught.value.code in {
        CoreCode.PEER_UNREACHABLE,
        StoreCode.STORE_FAILED,
        StoreCode.STORE_ANSWER_WRONG,
    }


def test_a_server_that_hardly_reads() -> None:
    """A part is taken in small pieces, each of them in time, and never to its end."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        ended = threading.Event()
        reader = threading.Thread(target=read_slowly, args=(listener, ended))
        reader.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        exchange = Exchange(url, pause=lambda _: None, step_s=0.3, answer_s=1.0)
        began = time.monotonic()
        with pytest.raises(AgainError):
            exchange.send(Call("PUT", url, body=bytes(64 << 20)), {})
        assert time.monotonic() - began < 5
        exchange.close()
        ended.set()
        reader.join()


def read_slowly(listener: socket.socket, ended: threading.Event) -> None:
    sock, _ = listener.accept()
    with sock:
        while not ended.wait(0.05):
            sock.recv(65536)


def test_cookies_are_not_kept() -> None:
    seen: list[httpx.Headers] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers)
        cookie = {"set-cookie": "who=you; Domain=.x.example; Path=/"}
        return httpx.Response(200, headers=cookie, stream=httpx.ByteStream(b""))

    exchange = Exchange("here", transport=httpx.MockTransport(answer))
    for host in ("a.x.example", "a.x.example", "b.x.example"):
        exchange.send(Call("GET", f"https://{host}/"), {})
    assert len(seen) == 3
    assert not any("cookie" in headers for headers in seen)


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_long_page_about_a_failure_is_a_failure(status: int) -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(status, content=bytes(1 << 17)))
    exchange = Exchange("here", transport=transport)
    with pytest.raises(AgainError):
        exchange.send(Call("GET", "https://a.example/"), {})


@pytest.mark.parametrize("pieces", SLOW)
def test_a_registry_that_is_slow(
    pieces: Callable[[], Iterator[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(Exchange.__init__.__kwdefaults__, "step_s", 0.2)
    monkeypatch.setitem(Exchange.__init__.__kwdefaults__, "answer_s", 0.5)
    began = time.monotonic()
    with answering(pieces) as url:
        host = url.removeprefix("http://").rstrip("/")
        address = OciAddress(host, "acme/model", "v1")
        with (
            OciRepository(address, write=False, helpers=False, pause=lambda _: None) as repository,
            pytest.raises((UnavailableError, IntegrityError)),
        ):
            repository.open("v1")
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("pieces", [*SLOW, breaks_off])
def test_a_peer_that_is_slow_is_asked_once(
    pieces: Callable[[], Iterator[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("regalia.store.peers._STEP_S", 0.2)
    monkeypatch.setattr("regalia.store.peers._ANSWER_S", 0.5)
    with answering(pieces) as url:
        peers = Peers([url])
        began = time.monotonic()
        assert not peers.read("ab" * 32, 0, memoryview(bytearray(1 << 20)))
        assert time.monotonic() - began < 5
        began = time.monotonic()
        assert not peers.read("ab" * 32, 1, memoryview(bytearray(1 << 20)))
        assert time.monotonic() - began < 0.1
        peers.close()
