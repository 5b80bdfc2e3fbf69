"""A server that sends a byte now and then holds no command: whole answers have a deadline."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import httpx
import pytest

from regalia.client import fetch as evidence_fetch
from regalia.client.fetch import fetch_evidence, fetch_evidence_async
from regalia.core.errors import CoreCode, UnavailableError
from regalia.core.types import ModelId
from regalia.host import fetch
from regalia.host.deadlines import answer_within
from regalia.host.fetch import VendorService, open_client, post_json
from regalia.host.fetch_codes import FetchCode
from regalia.host.transports import (
    AsyncHeadTransport,
    HeadTransport,
    answer_within_async,
)
from regalia.runtime.broker import BrokerClient, open_http
from regalia.store.http import HttpBlobs
from regalia.tlog.source import HttpSource
from regalia.wire.serving import MEDIA_TYPE
from tests.host.test_transports import answering

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ANSWER_S = 0.6
SOON = 20.0  # seconds until a test gives up; nothing is measured with it
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: " + MEDIA_TYPE.encode() + b"\r\n"
URL = httpx.URL


def drip() -> Iterator[bytes]:
    yield HEAD + b"content-length: 60000\r\n\r\n"
    while True:
        yield b"x"


def drip_between_chunks() -> Iterator[bytes]:
    """No piece of a body ever comes of these bytes."""
    yield HEAD + b"transfer-encoding: chunked\r\n\r\n1;a="
    while True:
        yield b"x"


def drip_compressed() -> Iterator[bytes]:
    """Of these bytes neither: they are a name in the head of a compressed file."""
    yield HEAD + b"content-encoding: gzip\r\ncontent-length: 60000\r\n\r\n"
    yield b"\x1f\x8b\x08\x08\0\0\0\0\0\0"
    while True:
        yield b"x"


SERVERS = pytest.mark.parametrize("pieces", [drip, drip_between_chunks, drip_compressed])


def log(url: str) -> None:
    source = HttpSource(url, open_client())
    try:
        source.checkpoint()
    finally:
        source.close()


def vendor(url: str) -> None:
    with open_client() as client:
        VendorService(url, client).get("/crl")


def question(url: str) -> None:
    post_json(url, {}, FetchCode.COLLATERAL_SERVICE_FAILED, "a quote")


def broker(url: str) -> None:
    with open_http(ANSWER_S / 4) as http:
        BrokerClient(url, http).challenge(ModelId(bytes(32)))


def evidence(url: str) -> None:
    fetch_evidence(HeadTransport(), URL(url), bytes(32))


def evidence_async(url: str) -> None:
    asyncio.run(fetch_evidence_async(AsyncHeadTransport(), URL(url), bytes(32)))


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "ANSWER_S", ANSWER_S)
    monkeypatch.setattr(evidence_fetch, "ANSWER_S", ANSWER_S)


@SERVERS
@pytest.mark.timeout(60)
@pytest.mark.parametrize("ask", [log, vendor, question, broker, evidence, evidence_async])
def test_an_answer_that_trickles_in_is_given_up(
    ask: Callable[[str], None], pieces: Callable[[], Iterator[bytes]]
) -> None:
    with answering(pieces) as url:
        began = time.monotonic()
        with pytest.raises(UnavailableError) as refusal:
            ask(url.rstrip("/"))
        assert ANSWER_S <= time.monotonic() - began < SOON
    assert refusal.value.code is CoreCode.PEER_UNREACHABLE


@pytest.mark.timeout(60)
def test_a_range_of_a_blob_that_is_never_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    def ranges() -> Iterator[bytes]:
        head = b"HTTP/1.1 206 Partial Content\r\ncontent-range: bytes 0-0/1\r\n"
        yield head + b"transfer-encoding: chunked\r\n\r\n1;a="
        while True:
            yield b"x"

    monkeypatch.setattr("regalia.store.ranges.RANGE_SECONDS", ANSWER_S)
    with (
        answering(ranges) as url,
        HttpBlobs(url, pause=lambda _: None) as blobs,
        pytest.raises(UnavailableError, match="4 attempts"),
    ):
        blobs.read_into("shard-00000.seal", 0, memoryview(bytearray(1)))


def test_what_comes_in_time_is_whole() -> None:
    def slowly() -> Iterator[bytes]:
        yield HEAD + b"content-length: 3\r\n\r\n"
        yield from (b"a", b"b", b"c")

    with answering(slowly) as url:
        with httpx.Client(transport=HeadTransport(SOON)) as client:
            assert client.get(url).text == "abc"
        with answer_within(SOON), httpx.Client(transport=HeadTransport()) as client:
            assert client.get(url).text == "abc"

        async def ask() -> str:
            async with (
                answer_within_async(SOON),
                httpx.AsyncClient(transport=AsyncHeadTransport()) as client,
            ):
                return (await client.get(url)).text

        assert asyncio.run(ask()) == "abc"


def test_the_soonest_of_two_bounds_holds() -> None:
    with answering(drip) as url:
        began = time.monotonic()
        for outer, inner in ((ANSWER_S, SOON), (SOON, ANSWER_S)):
            with (
                answer_within(outer),
                httpx.Client(transport=HeadTransport(inner)) as client,
                pytest.raises(httpx.ReadTimeout),
            ):
                client.get(url)
        assert time.monotonic() - began < SOON
