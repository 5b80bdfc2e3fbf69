"""Ciphertext over HTTP: a server that has nothing else to give, a client that believes nothing."""

from __future__ import annotations

import asyncio
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regalia.core.errors import CoreCode, IntegrityError, LocalError, UnavailableError, UsageError
from regalia.host.listen import address_of, bind, serve
from regalia.store.http import HttpBlobs
from regalia.store.local import LocalBlobs
from regalia.store.locate import open_store
from regalia.store.names import StoreCode
from regalia.store.ranges import ATTEMPTS
from regalia.store.server import build_app, parse_range

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SHARD = bytes(range(256)) * 9000  # 2.3 MB, more than one piece
NAME = "shard-00000.seal"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    sealed = tmp_path / "sealed"
    sealed.mkdir()
    (sealed / "manifest.json").write_bytes(b'{"a":1}')
    (sealed / NAME).write_bytes(SHARD)
    (sealed / "empty.seal").write_bytes(b"")
    (sealed / "notes.txt").write_bytes(b"private")
    (tmp_path / "secret.seal").write_bytes(b"private")
    (sealed / "link.seal").symlink_to(tmp_path / "secret.seal")
    (sealed / "folder.seal").mkdir()
    os.mkfifo(sealed / "pipe.seal")
    return sealed


def get(folder: Path, path: str, method: str = "GET", **headers: str) -> httpx.Response:
    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(build_app(folder))
        async with httpx.AsyncClient(transport=transport, base_url="http://store") as client:
            return await client.request(method, path, headers=headers)

    return asyncio.run(ask())


def test_serves_what_is_sealed(folder: Path) -> None:
    answer = get(folder, f"/{NAME}")
    assert (answer.status_code, answer.content) == (200, SHARD)
    assert answer.headers["accept-ranges"] == "bytes"
    assert get(folder, "/manifest.json").content == b'{"a":1}'
    assert get(folder, "/empty.seal").content == b""
    head = get(folder, f"/{NAME}", "HEAD")
    assert (head.headers["content-length"], head.content) == (str(len(SHARD)), b"")


@pytest.mark.parametrize(
    "path",
    ["/", "/notes.txt", "/link.seal", "/folder.seal", "/pipe.seal", "/absent.seal", "/..",
     "/../secret.seal", "/%2e%2e/secret.seal", "/%2e%2e%2fsecret.seal", "/..%2fsecret.seal",
     "//etc/passwd", "/./manifest.json/", "/manifest.json/", "/MANIFEST.JSON", "/manifest.json%00",
     "/a.seal%00.txt", "/.hidden.seal", "/x/../manifest.json.bak", "/*.seal"],
)  # fmt: skip
def test_serves_nothing_else(path: str, folder: Path) -> None:
    answer = get(folder, path)
    assert answer.status_code == 404
    assert answer.json()["code"] == "BLOB_MISSING"
    assert b"private" not in answer.content


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_writes_nothing(method: str, folder: Path) -> None:
    assert get(folder, f"/{NAME}", method).status_code == 404
    assert (folder / NAME).read_bytes() == SHARD


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 40), st.integers(0, 40))
def test_ranges(first: int, last: int) -> None:
    size = 20
    span = parse_range(f"bytes={first}-{last}", size)
    if first < size and first <= last:
        assert span == (first, min(last + 1, size))
    else:
        assert span is None
    assert parse_range(f"bytes={first}-", size) == ((first, size) if first < size else None)
    suffix = parse_range(f"bytes=-{last}", size)
    assert suffix == ((max(0, size - last), size) if last else None)


@pytest.mark.parametrize(
    "text", ["", "bytes=", "bytes=-", "bytes=1-0", "bytes=0-1,3-4", "items=0-1", "bytes=a-b",
             "bytes=+1-2", "bytes=1-2-3", "bytes=99999999999999999999999-"]
)  # fmt: skip
def test_ranges_that_are_none(text: str) -> None:
    assert parse_range(text, 100) is None


def test_ranges_over_http(folder: Path) -> None:
    answer = get(folder, f"/{NAME}", Range="bytes=10-19")
    assert (answer.status_code, answer.content) == (206, SHARD[10:20])
    assert answer.headers["content-range"] == f"bytes 10-19/{len(SHARD)}"
    answer = get(folder, f"/{NAME}", Range=f"bytes={len(SHARD)}-")
    assert (answer.status_code, answer.headers["content-range"]) == (416, f"bytes */{len(SHARD)}")
    assert answer.json()["code"] == "RANGE_REFUSED"


def test_needs_a_sealed_model(tmp_path: Path) -> None:
    with pytest.raises(LocalError) as caught:
        build_app(tmp_path / "absent")
    assert caught.value.code is CoreCode.NOT_A_DIRECTORY
    with pytest.raises(LocalError) as caught:
        build_app(tmp_path)
    assert caught.value.code is CoreCode.FILE_MISSING


@pytest.fixture
def url(folder: Path) -> Iterator[str]:
    """The real server on a loopback port."""
    sock = bind("127.0.0.1:0")
    ready = threading.Event()
    stops: list[Callable[[], None]] = []

    def on_ready(stop: Callable[[], None]) -> None:
        stops.append(stop)
        ready.set()

    thread = threading.Thread(
        target=serve, args=(build_app(folder), sock), kwargs={"drain_s": 1, "on_ready": on_ready}
    )
    thread.start()
    assert ready.wait(10)
    yield f"http://{address_of(sock)}"
    stops[0]()
    thread.join(10)
    assert not thread.is_alive()


def test_reads_from_the_real_server(url: str, folder: Path) -> None:
    with HttpBlobs(url) as remote, LocalBlobs(folder) as local:
        assert remote.size(NAME) == local.size(NAME)
        assert remote.describe() == url + "/"

        def read(number: int) -> bytes:
            buffer = bytearray(70_000)
            remote.read_into(NAME, number * 70_000, memoryview(buffer))
            return bytes(buffer)

        with ThreadPoolExecutor(4) as pool:
            parts = list(pool.map(read, range(len(SHARD) // 70_000)))
        assert b"".join(parts) == SHARD[: len(parts) * 70_000]
        with pytest.raises(IntegrityError):
            remote.read_into(NAME, len(SHARD) - 1, memoryview(bytearray(2)))
        for name in ("absent.seal", "notes.txt", "../secret.seal", "", "a/b.seal"):
            with pytest.raises(UnavailableError) as caught:
                remote.size(name)
            assert caught.value.code is StoreCode.BLOB_MISSING


def test_a_port_in_use(url: str) -> None:
    with pytest.raises(UnavailableError) as caught:
        bind(url.removeprefix("http://"))
    assert (caught.value.code, caught.value.exit_status) == (CoreCode.PORT_IN_USE, 8)


@pytest.mark.parametrize(
    "text", ["", "80", ":80", "host:", "host:x", "host:65536", "::1:80", "h:-1", "h:\uff18\uff10"]
)
def test_addresses_that_are_none(text: str) -> None:
    with pytest.raises(UsageError):
        bind(text)


class Hostile:
    """A server that answers what it likes. Counts the questions."""

    def __init__(self, *answers: Any) -> None:  # noqa: ANN401
        self.answers = list(answers)
        self.asked = 0
        self.pauses: list[float] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        response = answer(request) if callable(answer) else answer
        assert isinstance(response, httpx.Response)
        return response

    def blobs(self) -> HttpBlobs:
        return HttpBlobs(
            "http://store/m", transport=httpx.MockTransport(self), pause=self.pauses.append
        )


def span(request: httpx.Request) -> tuple[int, int]:
    first, last = request.headers["range"].removeprefix("bytes=").split("-")
    return int(first), int(last)


def honest(request: httpx.Request) -> httpx.Response:
    first, last = span(request)
    assert str(request.url) == f"http://store/m/{NAME}"
    assert request.headers["accept-encoding"] == "identity"
    return partial(SHARD[first : last + 1], f"bytes {first}-{last}/{len(SHARD)}")


def partial(body: bytes, content_range: str, status: int = 206, **headers: str) -> httpx.Response:
    return httpx.Response(
        status,
        headers={"content-range": content_range} | headers,
        stream=httpx.ByteStream(body),
    )


def read(server: Hostile, size: int = 100) -> bytes:
    buffer = bytearray(size)
    with server.blobs() as blobs:
        blobs.read_into(NAME, 50, memoryview(buffer))
    return bytes(buffer)


def test_an_honest_server() -> None:
    server = Hostile(honest)
    assert read(server) == SHARD[50:150]
    assert server.asked == 2


WRONG: dict[str, Callable[[httpx.Request], httpx.Response]] = {
    "whole in place of a part": lambda _: httpx.Response(200, stream=httpx.ByteStream(SHARD)),
    "redirect": lambda _: httpx.Response(302, headers={"location": "http://elsewhere/"}),
    "no content": lambda _: httpx.Response(204),
    "no content-range": lambda _: httpx.Response(206, stream=httpx.ByteStream(b"x" * 100)),
    "odd content-range": lambda _: partial(b"x" * 100, "bytes 50-149/*"),
    "another range": lambda _: partial(b"x" * 100, f"bytes 51-150/{len(SHARD)}"),
    "another size": lambda _: partial(b"x" * 100, f"bytes 50-149/{len(SHARD) + 1}"),
    "too much": lambda _: partial(b"x" * 101, f"bytes 50-149/{len(SHARD)}"),
    "compressed": lambda _: partial(
        b"x" * 100, f"bytes 50-149/{len(SHARD)}", **{"content-encoding": "gzip"}
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_answers_are_refused_at_once(name: str) -> None:
    server = Hostile(honest, WRONG[name])
    with pytest.raises(IntegrityError) as caught:
        read(server)
    assert caught.value.code is StoreCode.STORE_ANSWER_WRONG
    assert server.asked == 2, "a lie is not asked for again"


@pytest.mark.parametrize("total", ["0", "99999999999999999999"])
def test_sizes_that_are_not_believed(total: str) -> None:
    with pytest.raises(IntegrityError):
        read(Hostile(lambda _: partial(b"x", f"bytes 0-0/{total}")))


class Broken(httpx.SyncByteStream):
    def __iter__(self) -> Iterator[bytes]:
        yield b"x" * 10
        raise httpx.ReadError("cut")


AGAIN: dict[str, tuple[Any, object]] = {
    "server error": (lambda _: httpx.Response(503), StoreCode.STORE_FAILED),
    "a storm of 429": (
        lambda _: httpx.Response(429, headers={"retry-after": "1000000"}),
        StoreCode.STORE_FAILED,
    ),
    "too little": (
        lambda _: partial(b"x" * 99, f"bytes 50-149/{len(SHARD)}"),
        StoreCode.STORE_FAILED,
    ),
    "cut": (
        lambda _: httpx.Response(
            206, headers={"content-range": f"bytes 50-149/{len(SHARD)}"}, stream=Broken()
        ),
        StoreCode.STORE_FAILED,
    ),
    "nobody there": (httpx.ConnectError("refused"), CoreCode.PEER_UNREACHABLE),
    "silence": (httpx.ReadTimeout("slow"), CoreCode.PEER_UNREACHABLE),
}


@pytest.mark.parametrize("name", AGAIN)
def test_failures_are_tried_again_a_few_times(name: str) -> None:
    answer, code = AGAIN[name]
    server = Hostile(honest, answer)
    with pytest.raises(UnavailableError) as caught:
        read(server)
    assert caught.value.code is code
    assert caught.value.exit_status == 8
    assert server.asked == 1 + ATTEMPTS
    assert server.pauses == [0.2, 0.8, 2.0]
    recovering = Hostile(honest, answer, answer, honest)
    assert read(recovering) == SHARD[50:150]


def test_a_missing_blob_is_not_tried_again() -> None:
    server = Hostile(lambda _: httpx.Response(404))
    with pytest.raises(UnavailableError) as caught:
        read(server)
    assert caught.value.code is StoreCode.BLOB_MISSING
    assert server.asked == 1


def test_large_reads_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("regalia.store.ranges.RANGE_MAX", 1000)
    server = Hostile(honest)
    assert read(server, 2500) == SHARD[50:2550]
    assert server.asked == 1 + 3


@pytest.mark.parametrize("text", ["ftp://x/y", "s3://bucket", "", "http://", "http://h/p?q=1"])
def test_stores_that_are_none(text: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        open_store(text, tmp_path)


@pytest.mark.parametrize(
    "text",
    ["http://ann:hunter2@h/p", "https://hunter2@h/", "http://h/p?key=hunter2", "http://h#hunter2"],
)
def test_credentials_in_an_address_are_refused_and_not_shown(text: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        open_store(text, tmp_path)
    assert caught.value.code is CoreCode.BAD_CONFIG
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("status", [401, 403])
def test_a_server_that_refuses(status: int) -> None:
    server = Hostile(httpx.Response(status, headers={"www-authenticate": "Basic"}))
    with pytest.raises(UnavailableError) as caught:
        read(server)
    assert caught.value.code is StoreCode.STORE_ACCESS_REFUSED
    assert server.asked == 1


def test_the_first_answer_is_about_the_first_byte() -> None:
    with pytest.raises(IntegrityError):
        read(Hostile(lambda _: partial(b"x", f"bytes 5-5/{len(SHARD)}"), honest))


def test_stores_by_their_text(folder: Path) -> None:
    with open_store("sealed", folder.parent) as local:
        assert isinstance(local, LocalBlobs)
        assert local.size(NAME) == len(SHARD)
    with open_store(str(folder), folder) as absolute:
        assert absolute.size("manifest.json") == 7
    with open_store("http://127.0.0.1:9/x", folder) as remote:
        assert isinstance(remote, HttpBlobs)
