"""Ciphertext from S3: a reader that believes nothing of a server, and gives it no secret."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import httpx
import pytest

from regalia.core.errors import CoreCode, IntegrityError, UnavailableError
from regalia.crypto.sign import SigningKey
from regalia.seal.load import load_model
from regalia.seal.progress import no_progress
from regalia.store.names import StoreCode
from regalia.store.ranges import ATTEMPTS
from regalia.store.s3 import S3Blobs
from regalia_testing.sealed import KeptMemory, pattern, seal_testbed, write_model
from tests.host.test_transports import answering
from tests.store.s3_double import (
    ADDRESS,
    KEY,
    NAME,
    SHARD,
    TOKEN,
    S3Double,
    etag,
    partial,
    problem,
    read,
    refused,
    span,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


pytestmark = pytest.mark.usefixtures("credentials")
OTHER = SHARD[::-1]  # as long, and something else
ASKED = f"bytes 50-149/{len(SHARD)}"


def test_an_honest_server(server: S3Double) -> None:
    assert read(server) == SHARD[50:150]
    first, second = server.requests
    assert str(second.url) == f"http://127.0.0.1:9/models/{KEY}"
    assert "if-match" not in first.headers
    assert second.headers["if-match"] == etag(SHARD)


@pytest.mark.parametrize("tag", ["", '"\xff"', 'W/"1"', '"a", "b"', '"' + "e" * 300 + '"'])
def test_tags_that_are_compared_and_not_sent_back(tag: str, server: S3Double) -> None:
    def tagged(request: httpx.Request) -> httpx.Response:
        response = server.honest(request)
        del response.headers["etag"]
        return httpx.Response(
            206,
            headers=[*response.headers.raw, (b"etag", tag.encode("latin-1"))],
            stream=response.stream,
        )

    server.answers = [tagged]
    assert read(server) == SHARD[50:150]
    assert "if-match" not in server.requests[1].headers


def test_several_threads(server: S3Double) -> None:
    with server.blobs() as blobs, ThreadPoolExecutor(8) as pool:

        def part(number: int) -> bytes:
            buffer = bytearray(1024)
            blobs.read_into(NAME, number * 1024, memoryview(buffer))
            return bytes(buffer)

        assert b"".join(pool.map(part, range(10))) == SHARD


def test_large_reads_are_cut(server: S3Double, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("regalia.store.ranges.RANGE_MAX", 1000)
    assert read(server, 2500) == SHARD[50:2550]
    assert [span(each) for each in server.requests] == [
        (0, 0), (50, 1049), (1050, 2049), (2050, 2549)
    ]  # fmt: skip


# What a server is refused for at once ---------------------------------------------------------

WRONG: dict[str, Callable[[httpx.Request], httpx.Response]] = {
    "another object": lambda _: partial(OTHER[50:150], ASKED, etag=etag(OTHER)),
    "no etag any more": lambda _: partial(SHARD[50:150], ASKED),
    "another version": lambda _: partial(
        SHARD[50:150], ASKED, etag=etag(SHARD), x_amz_version_id="2"
    ),
    "changed": lambda _: problem(412, "PreconditionFailed"),
    "another range": lambda _: partial(
        SHARD[51:151], f"bytes 51-150/{len(SHARD)}", etag=etag(SHARD)
    ),
    "another size": lambda _: partial(
        SHARD[50:150], f"bytes 50-149/{len(SHARD) + 1}", etag=etag(SHARD)
    ),
    "no content-range": lambda _: httpx.Response(206, headers={"etag": etag(SHARD)}),
    "too much": lambda _: partial(SHARD[50:151], ASKED, etag=etag(SHARD)),
    "all of it": lambda _: httpx.Response(200, stream=httpx.ByteStream(SHARD)),
    "compressed": lambda _: partial(
        SHARD[50:150], ASKED, etag=etag(SHARD), content_encoding="gzip"
    ),
    "another host": lambda _: httpx.Response(307, headers={"location": "https://elsewhere/"}),
    "another region": lambda _: problem(301, "PermanentRedirect", x_amz_bucket_region="eu-west-9"),
    "malformed": lambda _: problem(
        400, "AuthorizationHeaderMalformed", x_amz_bucket_region="eu-west-9"
    ),
    "out of range": lambda _: problem(416, "InvalidRange"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_answers_are_refused_at_once(name: str, server: S3Double) -> None:
    error = refused(server, WRONG[name])
    assert error.code is StoreCode.STORE_ANSWER_WRONG
    assert f"s3://models/{KEY}" in error.what
    assert len(server.requests) == 2, "a lie is not asked for again"


def test_a_region_to_correct_is_named_if_it_looks_like_one(server: S3Double) -> None:
    assert "bucket is in eu-west-9" in refused(server, WRONG["another region"]).what
    assert "bucket is in eu-west-9" in refused(server, WRONG["malformed"]).what
    odd = problem(301, "PermanentRedirect", x_amz_bucket_region="<script>")
    assert "script" not in refused(server, odd).what


@pytest.mark.parametrize("total", ["0", "99999999999999999999"])
def test_sizes_that_are_not_believed(total: str, server: S3Double) -> None:
    server.answers = [lambda _: partial(b"x", f"bytes 0-0/{total}", etag=etag(SHARD))]
    with pytest.raises(IntegrityError, match="a size of"):
        read(server)
    assert len(server.requests) == 1


def test_a_change_is_named(server: S3Double) -> None:
    assert "has changed since" in refused(server, WRONG["changed"]).what


def test_beyond_the_end(server: S3Double) -> None:
    with pytest.raises(IntegrityError):
        read(server, len(SHARD))
    assert len(server.requests) == 1


# What is asked for again ----------------------------------------------------------------------


class Cut(httpx.SyncByteStream):
    def __iter__(self) -> Iterator[bytes]:
        yield SHARD[50:60]
        raise httpx.ReadError("cut")


AGAIN: dict[str, tuple[object, object]] = {
    "storm": (lambda _: problem(500, "InternalError"), StoreCode.STORE_FAILED),
    "slow down": (lambda _: problem(503, "SlowDown"), StoreCode.STORE_FAILED),
    "too many": (lambda _: problem(429, "TooManyRequests"), StoreCode.STORE_FAILED),
    "timeout there": (lambda _: problem(400, "RequestTimeout"), StoreCode.STORE_FAILED),
    "too little": (
        lambda _: partial(SHARD[50:149], ASKED, etag=etag(SHARD)), StoreCode.STORE_FAILED
    ),
    "cut": (
        lambda _: httpx.Response(
            206, headers={"content-range": ASKED, "etag": etag(SHARD)}, stream=Cut()
        ),
        StoreCode.STORE_FAILED,
    ),
    "reset": (httpx.ReadError("reset"), CoreCode.PEER_UNREACHABLE),
    "nobody there": (httpx.ConnectError("refused"), CoreCode.PEER_UNREACHABLE),
    "silence": (httpx.ReadTimeout("slow"), CoreCode.PEER_UNREACHABLE),
}  # fmt: skip


@pytest.mark.parametrize("name", AGAIN)
def test_failures_are_tried_again_a_few_times(name: str, server: S3Double) -> None:
    answer, code = AGAIN[name]
    error = refused(server, answer)
    assert error.code is code
    assert "s3://models/m/ at 127.0.0.1:9" in error.what
    assert len(server.requests) == 1 + ATTEMPTS
    assert server.pauses == [0.2, 0.8, 2.0]
    recovering = S3Double({KEY: SHARD})
    recovering.answers = [recovering.honest, answer, answer, recovering.honest]
    assert read(recovering) == SHARD[50:150]


CHUNKS = b"\r\ntransfer-encoding: chunked\r\n\r\n1;a="
TRICKLES = {
    "head": b"HTTP/1.1 206 Partial",
    "body": b"HTTP/1.1 206 Partial Content\r\ncontent-range: bytes 0-0/1" + CHUNKS,
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", TRICKLES)
def test_an_answer_that_trickles_in_is_given_up(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def pieces() -> Iterator[bytes]:
        yield TRICKLES[name]
        while True:
            yield b"x"

    monkeypatch.setattr("regalia.store.ranges.RANGE_SECONDS", 0.4)
    began = time.monotonic()
    with (
        answering(pieces) as url,
        S3Blobs(replace(ADDRESS, endpoint=url.rstrip("/")), pause=lambda _: None) as blobs,
        pytest.raises(UnavailableError) as caught,
    ):
        blobs.read_into(NAME, 0, memoryview(bytearray(1)))
    assert time.monotonic() - began < 20
    assert caught.value.code in (CoreCode.PEER_UNREACHABLE, StoreCode.STORE_FAILED)


@pytest.mark.timeout(60)
def test_a_problem_that_trickles_in_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"HTTP/1.1 403 Forbidden" + CHUNKS
        while True:
            yield b"x"

    monkeypatch.setattr("regalia.store.s3.TIMEOUT_S", 0.4)
    with (
        answering(pieces) as url,
        S3Blobs(replace(ADDRESS, endpoint=url.rstrip("/"))) as blobs,
        pytest.raises(UnavailableError) as caught,
    ):
        blobs.size(NAME)
    assert caught.value.code is StoreCode.STORE_ACCESS_REFUSED


# What is not there, and what may not be read --------------------------------------------------


def test_a_missing_blob_is_named_with_its_bucket(server: S3Double) -> None:
    server.objects = {}
    with pytest.raises(UnavailableError) as caught:
        read(server)
    assert caught.value.code is StoreCode.BLOB_MISSING
    assert f"bucket models, key {KEY}" in caught.value.what
    assert "NoSuchKey" in caught.value.what
    assert len(server.requests) == 1
    server.answers = [problem(404, "NoSuchBucket")]
    with pytest.raises(UnavailableError, match="NoSuchBucket"):
        read(server)


@pytest.mark.parametrize("name", ["notes.txt", "../m/manifest.json", "", "a/b.seal"])
def test_other_names_are_not_asked_for(name: str, server: S3Double) -> None:
    with server.blobs() as blobs, pytest.raises(UnavailableError) as caught:
        blobs.size(name)
    assert caught.value.code is StoreCode.BLOB_MISSING
    assert not server.requests


@pytest.mark.parametrize(
    ("status", "code"),
    [(403, "AccessDenied"), (403, "InvalidAccessKeyId"), (403, "SignatureDoesNotMatch"),
     (403, "RequestTimeTooSkewed"), (401, ""), (400, "ExpiredToken"), (400, "InvalidToken")],
)  # fmt: skip
def test_refused_credentials_are_not_tried_again(
    status: int, code: str, server: S3Double, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", TOKEN)
    error = refused(server, lambda _: problem(status, code))
    assert error.code is StoreCode.STORE_ACCESS_REFUSED
    assert code in error.what
    assert "credentials from env" in error.what
    assert len(server.requests) == 2
    assert server.requests[1].headers["x-amz-security-token"] == TOKEN


def test_a_long_problem_is_not_read_to_its_end(server: S3Double) -> None:
    taken: list[int] = []

    class Endless(httpx.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            while True:
                taken.append(1024)
                yield b" " * 1024

    error = refused(server, httpx.Response(403, stream=Endless()))
    assert error.code is StoreCode.STORE_ACCESS_REFUSED
    assert sum(taken) <= 8192


# Around it ------------------------------------------------------------------------------------


def test_a_sealed_model_whose_shards_were_swapped(tmp_path: Path) -> None:
    """Ranges, sizes and etags are right from the first answer on: encryption notices."""
    model = write_model(tmp_path / "model", {"a.bin": pattern(400_000)})
    owned = seal_testbed(model, tmp_path / "sealed", SigningKey.generate_ed25519())
    files = {f"m/{path.name}": path.read_bytes() for path in owned.folder.iterdir()}

    def load(files: dict[str, bytes]) -> bytes:
        with S3Double(files).blobs() as blobs:
            loaded = load_model(
                blobs, owned.verified(), owned.key, KeptMemory(), threads=2, progress=no_progress
            )
        return bytes(loaded.view("a.bin"))

    assert load(files) == pattern(400_000)
    swapped = dict(files)
    first, second = "m/shard-00000.seal", "m/shard-00001.seal"
    swapped[first], swapped[second] = files[second], files[first]
    with pytest.raises(IntegrityError):
        load(swapped)


def test_memory_is_bounded_by_the_callers_buffer(server: S3Double) -> None:
    """A body arrives in pieces that go into the buffer; no copy of the range is made."""
    import tracemalloc  # noqa: PLC0415

    size = 8 << 20
    piece = b"x" * 65536
    head = {"content-range": f"bytes 0-{size - 1}/{size}", "etag": '"1"'}

    class Pieces(httpx.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            yield from [piece] * (size // len(piece))

    server.answers = [
        partial(b"x", f"bytes 0-0/{size}", etag='"1"'),
        httpx.Response(206, headers=head, stream=Pieces()),
    ]
    buffer = bytearray(size)
    with server.blobs() as blobs:
        blobs.size(NAME)
        gc.collect()
        tracemalloc.start()
        try:
            blobs.read_into(NAME, 0, memoryview(buffer))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert buffer == b"x" * size
    assert peak < 1 << 20


def test_the_first_answer_counts_for_all_threads(server: S3Double) -> None:
    """Two answers to the question for the size, of different objects: one of them counts."""
    gate = threading.Barrier(2, timeout=20)

    def late(data: bytes) -> Callable[[httpx.Request], httpx.Response]:
        def answer(_: httpx.Request) -> httpx.Response:
            gate.wait()
            return partial(data[:1], f"bytes 0-0/{len(data)}", etag=etag(data))

        return answer

    server.answers = [late(SHARD), late(OTHER[:-1]), server.honest]
    with server.blobs() as blobs, ThreadPoolExecutor(2) as pool:
        sizes = set(pool.map(blobs.size, [NAME, NAME]))
    assert len(sizes) == 1


def test_the_extra_that_is_missing() -> None:
    program = (
        "import sys; sys.modules['botocore'] = None\n"
        "from pathlib import Path\n"
        "from regalia.core.errors import UsageError\n"
        "from regalia.store.locate import open_store\n"
        "try: open_store('s3://models/m', Path())\n"
        "except UsageError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert "EXTRA_MISSING" in done.stdout
    assert "regalia[s3]" in done.stdout
