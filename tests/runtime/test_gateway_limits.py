"""What one client can cost the sealed path: pieces, bytes, time, and words said in clear."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

import httpx
import openai
import pytest

from regalia.client.transport import RegaliaTransport
from regalia.core.types import Digest
from regalia.crypto import ohttp
from regalia.runtime.config import CallerSection
from regalia.wire import bhttp
from tests.runtime.harness import call
from tests.runtime.test_sealed_gateway import (
    CHAT,
    KEY,
    MEDIA,
    NOW,
    Gate,
    Opened,
    http_date,
    message,
    seal,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.runtime.harness import RuntimeTestbed
    from tests.runtime.live_deployment import LiveDeployment

HEAD = bhttp.RequestHead(b"POST", b"https", b"r", b"/v1/completions", ((b"date", http_date(NOW)),))
SCOPE = {"type": "http", "headers": [(b"content-type", MEDIA["content-type"].encode())]}


def in_chunks_of(size: int, data: bytes) -> tuple[ohttp.ClientRequest, bytes]:
    request = ohttp.ClientRequest.to(ohttp.serving_key_config(KEY.public_key))
    pieces = [request.seal(data[at : at + size]) for at in range(0, len(data), size)]
    return request, b"".join([request.start, *pieces, request.seal_final()])


@pytest.fixture
def gate(testbed: RuntimeTestbed) -> Gate:
    return Gate(testbed, limit=4 << 20)


# -- pieces ----------------------------------------------------------------------------------


def test_chunks_of_one_byte_are_refused_early(gate: Gate) -> None:
    _, data = in_chunks_of(1, message({"model": "words", "prompt": "x" * 100_000}))
    began = time.thread_time()
    answer = gate.send(data)
    assert (answer.status, answer.json()["title"]) == (400, "OHTTP_TOO_MANY_CHUNKS")
    assert time.thread_time() - began < 1, "nothing is opened after the thousandth"


def test_a_small_request_may_come_in_chunks_of_one_byte(gate: Gate) -> None:
    request, data = in_chunks_of(1, message(CHAT))
    assert Opened(gate.send(data), request).head.status == 200


def test_large_requests_may_come_in_chunks_of_a_few_hundred_bytes(gate: Gate) -> None:
    body = {"model": "words", "prompt": "x" * 1_000_000}
    request, data = in_chunks_of(300, message(body, path=b"/v1/completions"))
    assert Opened(gate.send(data), request).head.status == 200


def test_content_in_pieces_of_one_byte_is_refused_early(gate: Gate) -> None:
    body = bhttp.encode_streamed_head(HEAD) + b"\x01x" * 100_000 + bhttp.encode_streamed_end()
    opened = gate.ask(body)
    assert (opened.head.status, opened.code) == (400, "BHTTP_TOO_LARGE")
    content = b"".join(
        bhttp.encode_streamed_content(piece.encode())
        for piece in json.dumps({"model": "words", "prompt": "one two"})
    )
    body = bhttp.encode_streamed_head(HEAD) + content + bhttp.encode_streamed_end()
    assert gate.ask(body).head.status == 200, "a small one may"


def test_a_body_of_many_values_is_refused_before_it_is_decoded(gate: Gate) -> None:
    for values in ("[]," * 70_000, '"a",' * 70_000, '"\\"",' * 70_000):
        body = b'{"model":"words","prompt":[' + values[:-1].encode() + b"]}"
        opened = gate.ask(message(body, path=b"/v1/completions"))
        assert (opened.head.status, opened.code) == (400, "invalid_request")
        assert b"values" in opened.body
    text = '[1, 2, {"a": "b\\\\"}], ' * 20_000
    opened = gate.ask(message({"model": "words", "prompt": text}, path=b"/v1/completions"))
    assert b"values" not in opened.body, "what stands inside a text is no value"


def test_a_large_piece_does_not_hold_the_loop(gate: Gate) -> None:
    """A request of 4 MiB that has arrived whole is read in slices, between which others run."""
    _, data = seal(message({"model": "words", "prompt": "x" * 4_000_000}, path=b"/v1/completions"))
    turns = 0

    async def scenario() -> None:
        nonlocal turns
        task = asyncio.create_task(call(gate.app, "POST", "/ohttp", data, headers=MEDIA))
        while not task.done():
            turns += 1
            await asyncio.sleep(0)

    asyncio.run(scenario())
    assert turns > len(data) // (1 << 16)


# -- bytes of all requests together ----------------------------------------------------------


def test_the_largest_unfinished_request_makes_room(testbed: RuntimeTestbed) -> None:
    gate = Gate(testbed, limit=300_000, inflight_bytes=400_000)
    _, large = seal(message({"model": "words", "prompt": "x" * 280_000}, path=b"/v1/completions"))
    sent: list[Any] = []

    async def stuck(pieces: Iterator[bytes]) -> None:
        """A request that does not end; what it is answered with goes into ``sent``."""

        async def receive() -> dict[str, Any]:
            if (piece := next(pieces, None)) is None:
                await asyncio.Event().wait()
            return {"type": "http.request", "body": piece, "more_body": True}

        async def send(item: Any) -> None:  # noqa: ANN401
            sent.append(item)

        await gate.app(SCOPE, receive, send)

    async def scenario() -> int:
        attacker = asyncio.create_task(stuck(iter([large[:200_000]])))
        smaller = asyncio.create_task(stuck(iter([large[:150_000]])))
        await asyncio.sleep(0.05)
        request, data = seal(message({"model": "words", "prompt": "y " * 50_000}))
        answer = await call(gate.app, "POST", "/ohttp", data, headers=MEDIA)
        Opened(answer, request)
        await attacker
        assert not smaller.done(), "one of them is enough"
        smaller.cancel()
        await asyncio.gather(smaller, return_exceptions=True)
        return len(gate.app._inflight._requests)

    assert asyncio.run(scenario()) == 0, "every request has given its bytes back"
    assert sent[0]["status"] == 503
    assert json.loads(sent[1]["body"])["title"] == "REQUEST_MEMORY_FULL"


# -- words in clear --------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/v1/gehe\u00efm".encode(), b"/v1/secret words", b"no-slash"])
def test_what_was_sealed_is_answered_sealed(path: bytes, gate: Gate) -> None:
    parts = (b"POST", b"https", b"r", path)
    data = b"\x00" + b"".join(bytes([len(part)]) + part for part in parts) + b"\x00\x00\x00"
    request, sealed = seal(data)
    answer = gate.send(sealed)
    opened = Opened(answer, request)
    assert (opened.head.status, opened.code) == (400, "BHTTP_CONTROL_MALFORMED")
    for word in (path, path[-6:]):
        assert word not in answer.body


def test_a_problem_in_clear_is_a_code(gate: Gate) -> None:
    _, data = seal(message())
    small = Gate(gate.testbed, limit=1000)
    wrong = asyncio.run(call(gate.app, "POST", "/ohttp", data, headers={"content-type": "x/y"}))
    cut, unknown, large = gate.send(data[:-1]), gate.send(b"\x07" + data[1:]), small.send(data)
    for answer in (wrong, cut, unknown, large):
        problem = answer.json()
        assert set(problem) == {"type", "title", "status"}
        assert problem["title"].isupper()
        assert problem["type"].startswith(("about:blank", "https://iana.org/"))


# -- time, and clients that do not read ------------------------------------------------------


def test_an_answer_that_is_not_taken_is_cut(
    testbed: RuntimeTestbed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("regalia.runtime.sealed._GRACE_S", 0.0)
    gate = Gate(testbed, answer_s=0.2)
    _, data = seal(message(CHAT | {"stream": True}))
    asked = iter([{"type": "http.request", "body": data, "more_body": False}])

    async def receive() -> dict[str, Any]:
        if (item := next(asked, None)) is None:
            await asyncio.Event().wait()
        return item or {}

    async def send(_: object) -> None:
        await asyncio.Event().wait()

    async def scenario() -> None:
        async with asyncio.timeout(5):
            await gate.app(SCOPE, receive, send)

    asyncio.run(scenario())
    counted = testbed.metrics.abandoned.labels(code="ANSWER_NOT_READ")._value.get()
    assert counted == 1.0


def test_a_client_that_does_not_read_freezes_nobody(live: LiveDeployment) -> None:
    """Eight connections ask for long streams and never read; somebody else is served at once."""
    running = live.start(text="[limits]\nunread = 16\n")
    host, port = running.url.removeprefix("http://").split(":")
    with closing(RegaliaTransport(running.url, live.deployment.trust())) as transport:
        config = transport.verify().key_config
    body = {"model": "tiny", "prompt": "x", "max_tokens": 500, "temperature": 1.5, "stream": True}
    silent = []
    for _ in range(8):
        request = ohttp.ClientRequest.to(config)
        fields = ((b"date", time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime()).encode()),)
        head = bhttp.RequestHead(b"POST", b"https", b"r", b"/v1/completions", fields)
        sealed = b"".join(request.seal_all(bhttp.encode_known(head, json.dumps(body).encode())))
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        sock.connect((host, int(port)))
        sock.sendall(
            b"POST /ohttp HTTP/1.1\r\nhost: r\r\ncontent-type: message/ohttp-chunked-req\r\n"
            b"content-length: %d\r\n\r\n" % len(sealed) + sealed
        )
        silent.append(sock)
    time.sleep(0.5)
    began = time.monotonic()
    # Another address on the same machine: places are shared among peers.
    inner = httpx.HTTPTransport(local_address="127.0.0.2", trust_env=False)
    honest = RegaliaTransport(running.url, live.deployment.trust(), inner=inner)
    with httpx.Client(transport=honest) as http:
        chat = openai.OpenAI(
            base_url=f"{running.url}/v1", api_key="none", http_client=http, max_retries=0
        )
        answer = chat.completions.create(model="tiny", prompt="hello", max_tokens=3)
    assert answer.choices
    assert time.monotonic() - began < 10
    for sock in silent:
        sock.close()
    running.stop()


# -- callers ---------------------------------------------------------------------------------


@pytest.fixture
def listed(make_testbed: Callable[..., RuntimeTestbed]) -> Gate:
    digest = str(Digest.of(b"a key")).removeprefix("sha256:")
    callers = (CallerSection(name="team", key_sha256=digest),)
    return Gate(make_testbed(callers=callers, queue=5, per_caller=1))


def with_key(*values: bytes) -> bytes:
    fields = ((b"date", http_date(NOW)), *((b"authorization", value) for value in values))
    head = bhttp.RequestHead(b"POST", b"https", b"r", b"/v1/chat/completions", fields)
    return bhttp.encode_known(head, json.dumps(CHAT).encode())


def test_listed_callers_are_answered_and_others_are_not(listed: Gate) -> None:
    assert listed.ask(with_key(b"Bearer a key")).head.status == 200
    for values in ((), (b"Bearer other",), (b"a key",), (b"Bearer a key", b"Bearer a key")):
        opened = listed.ask(with_key(*values))
        assert (opened.head.status, opened.code) == (401, "invalid_api_key")


def test_a_caller_has_a_share(listed: Gate) -> None:
    testbed = listed.testbed

    async def scenario() -> tuple[int, str]:
        testbed.engine.go.clear()
        _, first = seal(with_key(b"Bearer a key"))
        task = asyncio.create_task(call(listed.app, "POST", "/ohttp", first, headers=MEDIA))
        assert await asyncio.to_thread(testbed.engine.begun.wait, 10)
        request, data = seal(with_key(b"Bearer a key"))
        opened = Opened(await call(listed.app, "POST", "/ohttp", data, headers=MEDIA), request)
        testbed.engine.go.set()
        await task
        return opened.head.status, opened.code

    assert asyncio.run(scenario()) == (429, "CALLER_BUSY")


def test_threads_that_read_prompts_end_with_the_process(testbed: RuntimeTestbed) -> None:
    testbed.complete(prompt="x" * 100_000)
    assert any(thread.name.startswith("prompts") for thread in threading.enumerate())
