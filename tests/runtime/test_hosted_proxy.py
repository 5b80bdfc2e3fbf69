"""The proxy before an engine of its own: what is passed on, and what comes back of engines."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from regalia.engines.vllm import surface
from regalia.runtime.config import CallerSection, LimitsSection
from regalia.runtime.hosted import proxy as hosted_proxy
from regalia.runtime.hosted.proxy import ROUTES, _Splitter
from tests.runtime.fake_engine import CHAT, FakeEngine, proxied, response, stream_head
from tests.runtime.harness import call

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable

    from tests.runtime.fake_engine import Asked
    from tests.runtime.harness import Answer

BODY = json.dumps({"model": "tiny", "messages": []}).encode()
STREAM = json.dumps({"model": "tiny", "messages": [], "stream": True}).encode()


def ask(engine: FakeEngine, body: bytes = BODY, **more: Any) -> Answer:  # noqa: ANN401
    """One request through a proxy."""

    async def run() -> Answer:
        async with proxied(engine, **more) as (app, _):
            return await call(app, "POST", CHAT, body)

    return asyncio.run(run())


def says(*pieces: bytes, pause_s: float = 0.0) -> FakeEngine:
    """An engine that answers with these bytes."""

    async def behave(_: Asked, writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause_s)

    return FakeEngine(behave)


def code(answer: Answer) -> str:
    found: str = answer.json()["error"]["code"]
    return found


# What is passed on


def test_routes_are_those_of_the_list() -> None:
    assert set(ROUTES) == set(surface.ROUTES)


HOSTILE_PATHS = [
    "/",
    "",
    "*",
    "//v1/chat/completions",
    "/v1//chat/completions",
    "/v1/chat/completions/",
    "/v1/chat/completions/../../../collective_rpc",
    "/v1/chat/completions%00",
    "/v1/chat/completions\x00",
    "/v1/chat/completions;x",
    "/v1/chat/completions#x",
    "/V1/chat/completions",
    "/v1/chat/completions/batch",
    "/../collective_rpc",
    "/%2e%2e/collective_rpc",
    "/..%2fcollective_rpc",
    "/v1/models/../../collective_rpc",
    "http://engine/collective_rpc",
    "http://engine/v1/chat/completions",
    "engine:80",
    "/v1/chat/completions\r\nx: /collective_rpc",
    "/metrics",
    "/health",
]


@pytest.mark.parametrize("path", HOSTILE_PATHS)
@pytest.mark.parametrize("method", ["POST", "GET"])
def test_nothing_else_is_passed_on(method: str, path: str) -> None:
    engine = FakeEngine()

    async def run() -> Answer:
        async with proxied(engine) as (app, _):
            return await call(app, method, path, BODY)

    answer = asyncio.run(run())
    assert answer.status == 404
    assert engine.asked == []


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "post", ""])
@pytest.mark.parametrize("path", ROUTES)
def test_other_methods_are_not_passed_on(method: str, path: str) -> None:
    engine = FakeEngine()

    async def run() -> Answer:
        async with proxied(engine) as (app, _):
            return await call(app, method, path, BODY)

    assert asyncio.run(run()).status == 404
    assert engine.asked == []


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "engine/collective_rpc?"},
        {"host": "engine/collective_rpc#"},
        {"host": "x@engine/collective_rpc?", "x-forwarded-prefix": "/sleep"},
        {"x-original-url": "/collective_rpc", "x-http-method-override": "GET"},
        {"transfer-encoding": "chunked", "content-encoding": "gzip", "x-request-id": "other"},
        {"authorization": "Bearer secret-of-the-client", "cookie": "a=b"},
    ],
)
def test_fields_of_a_request_do_not_reach_the_engine(headers: dict[str, str]) -> None:
    engine = FakeEngine()

    async def run() -> Answer:
        async with proxied(engine) as (app, _):
            return await call(app, "POST", f"{CHAT}?a=/collective_rpc", BODY, headers=headers)

    assert asyncio.run(run()).status == 200
    (asked,) = engine.asked
    assert (asked.method, asked.target) == ("POST", CHAT)
    assert asked.headers.keys() == {
        "host",
        "accept",
        "accept-encoding",
        "connection",
        "user-agent",
        "content-type",
        "content-length",
    }
    assert "secret" not in str(asked.headers)


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"5", b'"a"', b"{", b"\xff", b"{}" * 2, b"[" * 100_000, b'{"a":' * 50_000],
)
def test_bodies_that_are_no_objects(body: bytes) -> None:
    engine = FakeEngine()
    answer = ask(engine, body)
    assert (answer.status, code(answer)) == (400, "invalid_request")
    assert engine.asked == []


@pytest.mark.parametrize("model", ["other", None, 5, ["tiny"], "x" * 5000, {}])
def test_another_model_is_not_asked_for(model: object) -> None:
    engine = FakeEngine()
    answer = ask(engine, json.dumps({"model": model, "messages": []}).encode())
    assert (answer.status, code(answer)) == (404, "model_not_found")
    assert len(answer.body) < 1000
    assert engine.asked == []


def test_the_engine_gets_what_was_screened_and_not_what_was_sent() -> None:
    # Whoever reads the first of two members of one name reads another request than was screened.
    engine = FakeEngine()
    ask(engine, b'{"model": "tiny", "n": 900, "n": 1, "messages": []}')
    assert engine.asked[0].body["n"] == 1


# What comes back


@pytest.mark.parametrize(
    "engine",
    [
        says(response(b"<html>Internal path /srv/x</html>", status=502, kind="text/html")),
        says(response(b"<html>Internal path /srv/x</html>", kind="text/html")),
        says(response(b'{"error": "Traceback /srv/x"}', status=500)),
        says(response(b"", status=302)),
        says(response(b'{"a": 1}', status=204)),
        says(response(b"{}", kind="application/jsonx")),
        says(response(b"{}", kind="")),
        says(stream_head() + b"data: {}\n\n"),
        says(b"\x00" * 100),
        says(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\ncontent-type: application/json\r\n\r\n{}"),
        says(b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 100_000),
        says(),
    ],
    ids=[
        "a page with status 502",
        "a page",
        "a failure of its own",
        "a redirection",
        "no content",
        "another kind",
        "no kind",
        "a stream that nobody asked for",
        "no HTTP",
        "an answer that is cut short",
        "a head without end",
        "nothing",
    ],
)
@pytest.mark.parametrize("body", [BODY, STREAM], ids=["whole", "streamed"])
def test_engines_that_fail(engine: FakeEngine, body: bytes) -> None:
    answer = ask(engine, body)
    if body is BODY:
        assert (answer.status, code(answer)) == (500, "GENERATION_FAILED")
    elif answer.events() != [{}]:  # a stream was asked for
        (event,) = answer.events()
        assert event["error"]["code"] == "GENERATION_FAILED"
    assert b"/srv/x" not in answer.body


def test_an_engine_that_is_gone_while_the_model_is() -> None:
    async def run() -> Answer:
        async with proxied(FakeEngine(), serving=False) as (app, proxy):
            proxy._api += "-nowhere"
            return await call(app, "POST", CHAT, BODY)

    assert code(asyncio.run(run())) == "NOT_SERVING"


def test_what_the_engine_says_of_a_request_that_it_refuses_is_for_the_client() -> None:
    error = b'{"error": {"message": "too long",\n\n"code": 400}}'
    whole = ask(says(response(error, status=400)))
    assert (whole.status, whole.body) == (400, error)
    streamed = ask(says(response(error, status=400)), STREAM)
    assert streamed.events() == [json.loads(error)], "one event, on one line"
    odd = ask(says(response(b"not\n\ndata: JSON", status=400)), STREAM)
    assert odd.events()[0]["error"]["code"] == "GENERATION_FAILED"


@pytest.mark.parametrize("body", [BODY, STREAM], ids=["whole", "streamed"])
def test_engines_that_hang(body: bytes) -> None:
    began = time.monotonic()
    answer = ask(says(pause_s=0.1), body)  # a warm-up: closes at once
    limits = LimitsSection(stream_padding=0, answer_s=1)

    async def hang(_: Asked, __: asyncio.StreamWriter) -> None:
        await asyncio.sleep(30)

    answer = ask(FakeEngine(hang), body, limits=limits)
    found = answer.events()[0] if body is STREAM else answer.json()
    assert found["error"]["code"] == "ANSWER_TIMEOUT"
    assert time.monotonic() - began < 10


def test_engines_that_drip() -> None:
    """Each byte comes in time, and the answer never ends."""
    pieces = [stream_head(), *[b": \n\n"] * 1000]
    began = time.monotonic()
    answer = ask(
        says(*pieces, pause_s=0.05), STREAM, limits=LimitsSection(stream_padding=0, answer_s=1)
    )
    assert b"ANSWER_TIMEOUT" in answer.body
    assert time.monotonic() - began < 5


def test_a_stream_that_breaks_ends_with_an_error() -> None:
    whole, half = b'data: {"a": 1}\n\n', b'data: {"a"'
    for tail, words in ((half, "within an event"), (b"", "")):
        answer = ask(says(stream_head(), whole + tail), STREAM)
        events = answer.events()
        assert events[0] == {"a": 1}
        assert len(events) == 1 + bool(words)
        assert not words or words in events[1]["error"]["message"]
    chunked = stream_head().replace(b"connection: close", b"transfer-encoding: chunked")
    answer = ask(says(chunked, b"10\r\n" + whole + b"\r\n"), STREAM)
    assert answer.events()[1]["error"]["code"] == "GENERATION_FAILED"


EVENTS = [
    b'data: {"a": 1}\n\n',
    b": comment\n\n",
    b'data: {"b": "\\n\\n"}\n\n',
    b"data: [DONE]\n\n",
]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_events_come_whole_however_they_are_cut(size: int) -> None:
    data = b"".join(EVENTS)
    splitter = _Splitter()
    found = [
        event for at in range(0, len(data), size) for event in splitter.events(data[at : at + size])
    ]
    assert found == EVENTS
    assert splitter.rest == b""


def test_an_event_in_many_pieces_takes_linear_time() -> None:
    splitter = _Splitter()
    began = time.process_time()
    for _ in range(1 << 14):
        assert list(splitter.events(b"x" * 512)) == []
    assert time.process_time() - began < 1.0


@pytest.mark.parametrize("body", [BODY, STREAM], ids=["whole", "streamed"])
def test_answers_that_are_too_large(body: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosted_proxy, "EVENT_MAX", 1000)
    head = stream_head("text/event-stream" if body is STREAM else "application/json")
    answer = ask(says(head, b"x" * 1001), body)
    found = answer.events()[0] if body is STREAM else answer.json()
    assert found["error"]["code"] == "GENERATION_FAILED"
    assert "too large" in found["error"]["message"]


def test_padding_covers_each_event() -> None:
    answer = ask(says(stream_head(), b"".join(EVENTS)), STREAM, limits=LimitsSection())
    assert [len(piece) % 256 for piece in answer.pieces] == [0] * len(EVENTS)


# How many


async def _many(count: int, limits: LimitsSection, **more: Any) -> tuple[list[Answer], FakeEngine]:  # noqa: ANN401
    """So many requests at once, of which the engine answers none before all were sent."""
    go = asyncio.Event()

    async def wait(asked: Asked, writer: asyncio.StreamWriter) -> None:
        await go.wait()
        if asked.body.get("stream"):
            writer.write(stream_head() + b"data: {}\n\n")
        else:
            writer.write(response(b"{}"))

    engine = FakeEngine(wait)
    bodies: Callable[[int], bytes] = more.pop("bodies", lambda _: BODY)
    headers: Callable[[int], dict[str, str]] = more.pop("headers", lambda _: {})
    async with proxied(engine, limits=limits, **more) as (app, proxy):
        waiting: Iterable[Coroutine[Any, Any, Answer]] = (
            call(app, "POST", CHAT, bodies(at), headers=headers(at)) for at in range(count)
        )
        tasks = [asyncio.create_task(item) for item in waiting]
        await asyncio.sleep(0.5)
        assert proxy.waiting == max(0, sum(not task.done() for task in tasks) - limits.parallel)
        go.set()
        answers = await asyncio.gather(*tasks)
        assert proxy.waiting == 0
        assert not proxy._admission._by_caller, "nobody is remembered"
        again = await call(app, "POST", CHAT, BODY, headers=headers(0))
        assert again.status == 200
    return answers, engine


@pytest.mark.parametrize("body", [BODY, STREAM], ids=["whole", "streamed"])
def test_the_queue_is_bounded(body: bytes) -> None:
    limits = LimitsSection(parallel=2, queue=3, stream_padding=0)
    answers, engine = asyncio.run(_many(9, limits, bodies=lambda _: body))
    assert sorted(answer.status for answer in answers) == [200] * 5 + [429] * 4
    assert len(engine.asked) == 6
    assert {code(answer) for answer in answers if answer.status == 429} == {"rate_limit_exceeded"}


def test_a_listed_caller_leaves_room_for_others() -> None:
    keys = [hashlib.sha256(key).hexdigest() for key in (b"one", b"two")]
    callers = tuple(
        CallerSection(name=name, key_sha256=key) for name, key in zip("ab", keys, strict=True)
    )
    limits = LimitsSection(parallel=2, queue=10, per_caller=3, stream_padding=0)
    answers, _ = asyncio.run(
        _many(
            8,
            limits,
            callers=callers,
            headers=lambda at: {"authorization": f"Bearer {'one' if at < 6 else 'two'}"},
        )
    )
    assert [answer.status for answer in answers] == [200] * 3 + [429] * 3 + [200] * 2
    assert code(answers[3]) == "CALLER_BUSY"


def test_a_caller_that_nobody_knows_is_not_passed_on() -> None:
    engine = FakeEngine()
    callers = (CallerSection(name="a", key_sha256="0" * 64),)
    assert code(ask(engine, callers=callers)) == "invalid_api_key"
    assert engine.asked == []


def test_listed_callers_keep_their_salt_and_others_share_none() -> None:
    key = hashlib.sha256(b"one").hexdigest()

    async def salts(callers: tuple[CallerSection, ...]) -> list[str]:
        engine = FakeEngine()
        async with proxied(engine, callers=callers) as (app, _):
            for _ in range(3):
                await call(app, "POST", CHAT, BODY, headers={"authorization": "Bearer one"})
        return [asked.body["salt"] for asked in engine.asked]

    listed = asyncio.run(salts((CallerSection(name="a", key_sha256=key),)))
    again = asyncio.run(salts((CallerSection(name="a", key_sha256=key),)))
    unlisted = asyncio.run(salts(()))
    assert len(set(listed)) == 1
    assert set(listed) != set(again), "another secret in each runtime"
    assert len(set(unlisted)) == 3


def test_a_client_that_leaves_ends_its_request() -> None:
    async def run() -> bool:
        noticed = asyncio.Event()

        async def endless(_: Asked, writer: asyncio.StreamWriter) -> None:
            writer.write(stream_head())
            try:
                while True:
                    writer.write(b"data: {}\n\n" * 100)
                    await writer.drain()
                    await asyncio.sleep(0.01)
            finally:
                noticed.set()

        async with proxied(FakeEngine(endless)) as (app, proxy):
            task = asyncio.create_task(call(app, "POST", CHAT, STREAM))
            await asyncio.sleep(0.3)
            assert proxy._admission._by_caller.total() == 1
            task.cancel()
            await asyncio.wait([task])
            assert proxy._admission._by_caller.total() == 0
            await asyncio.wait_for(noticed.wait(), 5)
        return True

    assert asyncio.run(run())


def test_the_list_of_models_is_the_proxys_own() -> None:
    engine = FakeEngine()

    async def run() -> list[Answer]:
        async with proxied(engine) as (app, _):
            return [
                await call(app, "GET", path)
                for path in ("/v1/models", "/v1/models/tiny", "/v1/models/other")
            ]

    listed, one, other = asyncio.run(run())
    assert [item["id"] for item in listed.json()["data"]] == ["tiny"]
    assert one.json()["id"] == "tiny"
    assert other.status == 404
    assert engine.asked == []
