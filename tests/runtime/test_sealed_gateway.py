"""The sealed path from the outside: one answer for each request, sealed piece by piece."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from regalia.core.errors import IntegrityError
from regalia.crypto import ohttp
from regalia.crypto.hpke import Kem, generate_keypair
from regalia.crypto.ohttp import ClientRequest, serving_key_config
from regalia.crypto.ohttp_codes import OhttpCode
from regalia.runtime.openai.errors import ApiError
from regalia.runtime.replay import ReplayMemory
from regalia.runtime.sealed import GatewayLimits, SealedGateway
from regalia.wire import bhttp, serving
from tests.runtime.harness import call

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.runtime.harness import Answer, RuntimeTestbed

NOW = datetime(2026, 11, 22, 10, 0, 0, tzinfo=UTC)
KEY = generate_keypair(Kem.X_WING)
MEDIA = {"content-type": ohttp.REQUEST_MEDIA_TYPE}
CHAT = {"model": "words", "messages": [{"role": "user", "content": "one two three"}]}


def http_date(moment: datetime) -> bytes:
    return moment.strftime("%a, %d %b %Y %H:%M:%S GMT").encode()


class Opened:
    """An answer, opened with the client's side of the exchange."""

    def __init__(self, answer: Answer, request: ClientRequest) -> None:
        assert answer.status == 200, answer.body
        assert answer.headers["content-type"] == ohttp.RESPONSE_MEDIA_TYPE
        opener, parser = request.response(), bhttp.ResponseParser()
        self.arrivals: list[list[bytes]] = []
        events: list[bhttp.Event] = []
        for piece in answer.pieces:
            new = [event for chunk in opener.feed(piece) for event in parser.feed(chunk)]
            self.arrivals.append([e.data for e in new if isinstance(e, bhttp.Content)])
            events += new
        last = opener.finish()
        self.sizes = len(last)
        events += parser.feed(last) if last else []
        events += parser.finish()
        (self.head,) = [event for event in events if isinstance(event, bhttp.ResponseHead)]
        self.body = b"".join(event.data for event in events if isinstance(event, bhttp.Content))
        self.fields = dict(self.head.fields)

    @property
    def code(self) -> str:
        return str(json.loads(self.body)["error"]["code"])


class Gate:
    """A gateway before a testbed."""

    def __init__(
        self,
        testbed: RuntimeTestbed,
        *,
        capacity: int = 100,
        limit: int = 1 << 16,
        padding: int = 0,
        **limits: Any,  # noqa: ANN401
    ) -> None:
        self.testbed = testbed
        self.now = NOW
        self.alive = True
        self.app = SealedGateway(
            KEY,
            testbed.app,
            ReplayMemory(
                lambda: self.now,
                since_boot=lambda: self.now.timestamp(),  # noqa: PLW0108 - it moves
                capacity=capacity,
            ),
            testbed.metrics,
            GatewayLimits(request_bytes=limit, padding=padding, **limits),
            serving=lambda: self.alive,
        )

    def send(self, data: bytes, **options: Any) -> Answer:  # noqa: ANN401
        return asyncio.run(call(self.app, "POST", "/ohttp", data, headers=MEDIA, **options))

    def ask(self, message: bytes) -> Opened:
        request, data = seal(message)
        return Opened(self.send(data), request)


def message(
    body: object = CHAT,
    *,
    path: bytes = b"/v1/chat/completions",
    method: bytes = b"POST",
    dates: tuple[bytes, ...] = (http_date(NOW),),
) -> bytes:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    fields = tuple((b"date", date) for date in dates)
    head = bhttp.RequestHead(method, b"https", b"runtime", path, fields)
    return bhttp.encode_known(head, data)


def seal(data: bytes, public_key: bytes = KEY.public_key) -> tuple[ClientRequest, bytes]:
    request = ClientRequest.to(serving_key_config(public_key))
    return request, b"".join(request.seal_all(data))


@pytest.fixture
def gate(testbed: RuntimeTestbed) -> Gate:
    return Gate(testbed)


def test_an_answer(gate: Gate) -> None:
    opened = gate.ask(message())
    assert opened.head.status == 200
    assert opened.fields[b"content-type"] == b"application/json"
    content = json.loads(opened.body)["choices"][0]["message"]["content"]
    assert content == "user: one two three "


def test_other_methods_and_paths(gate: Gate) -> None:
    opened = gate.ask(message(b"", path=b"/v1/models?x=1", method=b"GET"))
    assert json.loads(opened.body)["data"][0]["id"] == "words"
    assert gate.ask(message(b"", path=b"/health", method=b"GET")).head.status == 404
    assert gate.ask(message(b"", path=b"/v1/models/%2e%2e/x", method=b"GET")).head.status == 404


def test_the_answer_to_head_has_no_content(gate: Gate) -> None:
    for path, status in ((b"/v1/models", 200), (b"/none", 404)):
        asked = gate.ask(message(path=path, method=b"GET", body=b""))
        head = gate.ask(message(path=path, method=b"HEAD", body=b""))
        assert asked.body
        assert (head.head.status, head.body) == (status, b"")
        assert head.fields[b"content-type"] == asked.fields[b"content-type"]
    refused = gate.ask(message(method=b"HEAD", dates=()))
    assert (refused.head.status >= 400, refused.body) == (True, b"")


def test_a_stream_stays_a_stream(gate: Gate) -> None:
    opened = gate.ask(message(CHAT | {"stream": True}))
    assert b"transfer-encoding" not in opened.fields
    with_data = [item for item in opened.arrivals if item]
    assert len(with_data) == 7, "an opening, four words, an end, and DONE: each by itself"
    assert b"".join(b"".join(item) for item in with_data) == opened.body
    assert opened.body.endswith(b"data: [DONE]\n\n")


def test_large_answers_are_cut_into_chunks(gate: Gate) -> None:
    many = {"model": "words", "prompt": "x" * 50_000}
    opened = gate.ask(message(many, path=b"/v1/completions"))
    assert len(json.loads(opened.body)["choices"][0]["text"]) == 50_001


def test_answers_are_padded(testbed: RuntimeTestbed) -> None:
    gate = Gate(testbed, padding=1024)
    sizes = set()
    for prompt in ("a", "bb", "c" * 100):
        request, data = seal(message({"model": "words", "prompt": prompt}, path=b"/v1/completions"))
        answer = gate.send(data)
        assert json.loads(Opened(answer, request).body)["choices"][0]["text"] == prompt + " "
        sizes.add(len(answer.body))
    assert len(sizes) == 1


def test_a_cut_request_is_refused(gate: Gate) -> None:
    _, data = seal(message())
    for size in (0, 1, 100, len(data) - 1):
        answer = gate.send(data[:size])
        assert answer.status == 400
        assert answer.headers["content-type"] == "application/problem+json"
    assert gate.testbed.engine.requests == []


def test_every_flipped_byte_is_refused(gate: Gate) -> None:
    _, data = seal(message())
    for at in [*range(0, len(data), 97), len(data) - 1]:
        damaged = bytearray(data)
        damaged[at] ^= 1
        assert gate.send(bytes(damaged)).status == 400
    assert gate.testbed.engine.requests == []


def test_another_key_is_named(gate: Gate) -> None:
    _, data = seal(message(), generate_keypair(Kem.X_WING).public_key)
    assert gate.send(data).json()["title"] == "OHTTP_FINAL_ALTERED"
    other_id = b"\x02" + data[1:]
    problem = gate.send(other_id).json()
    assert (problem["type"], problem["title"]) == (serving.KEY_PROBLEM_TYPE, "OHTTP_KEY_UNKNOWN")


def test_what_is_inside_must_be_http(gate: Gate) -> None:
    for inside in (b"", b"GET / HTTP/1.1\r\n\r\n", message()[:-20], message() + b"\x01"):
        opened = gate.ask(inside)
        assert opened.head.status == 400
        assert opened.code.startswith("BHTTP_")


def test_media_type_and_size(gate: Gate) -> None:
    _, data = seal(message())
    wrong = asyncio.run(call(gate.app, "POST", "/ohttp", data, headers={"content-type": "x/y"}))
    assert wrong.status == 415
    assert asyncio.run(call(gate.app, "POST", "/ohttp", data)).status == 415
    small = Gate(gate.testbed, limit=1000)
    assert small.send(data).status == 413


def test_a_request_that_does_not_arrive(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("regalia.runtime.sealed.READ_SECONDS", 0.05)
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(0.02)
        return {"type": "http.request", "body": b"\x01", "more_body": True}

    async def send(item: Any) -> None:  # noqa: ANN401
        sent.append(item)

    scope = {"type": "http", "headers": [(b"content-type", MEDIA["content-type"].encode())]}
    asyncio.run(gate.app(scope, receive, send))
    assert sent[0]["status"] == 408


def test_nothing_is_opened_without_a_model(gate: Gate) -> None:
    gate.alive = False
    _, data = seal(message())
    answer = gate.send(data)
    assert (answer.status, answer.json()["title"]) == (503, "NOT_SERVING")


def test_a_replay_is_refused_inside_the_seal(gate: Gate) -> None:
    request, data = seal(message())
    assert Opened(gate.send(data), request).head.status == 200
    again = Opened(gate.send(data), request)
    assert (again.head.status, again.code) == (400, "REQUEST_REPLAYED")
    gate.now += timedelta(seconds=115)
    assert Opened(gate.send(data), request).code == "REQUEST_REPLAYED"
    gate.now += timedelta(seconds=600)
    assert Opened(gate.send(data), request).code == "REQUEST_DATE_REFUSED"
    assert len(gate.testbed.engine.requests) == 1


@pytest.mark.parametrize(
    "dates",
    [
        (),
        (b"yesterday",),
        (b"2026-11-22T10:00:00Z",),
        (http_date(NOW), http_date(NOW)),
        (http_date(NOW - timedelta(seconds=121)),),
        (http_date(NOW + timedelta(seconds=121)),),
    ],
)
def test_dates(dates: tuple[bytes, ...], gate: Gate) -> None:
    assert gate.ask(message(dates=dates)).code == "REQUEST_DATE_REFUSED"
    assert gate.testbed.engine.requests == []


def test_dates_at_the_edge(gate: Gate) -> None:
    for seconds in (-120, 120):
        moment = http_date(NOW + timedelta(seconds=seconds))
        assert gate.ask(message(dates=(moment,))).head.status == 200


def test_the_clock_does_not_go_back_for_replays() -> None:
    now = NOW
    memory = ReplayMemory(lambda: now, since_boot=lambda: 7.0, capacity=10)
    memory.require_admissible(b"a", http_date(NOW).decode(), "")
    now = NOW + timedelta(seconds=1000)
    memory.require_admissible(b"b", http_date(now).decode(), "")
    assert len(memory) == 2, "the first one may become fresh again"
    now = NOW  # the host turns the clock back and plays the first one again
    with pytest.raises(ApiError, match="REQUEST_REPLAYED"):
        memory.require_admissible(b"a", http_date(NOW).decode(), "")
    memory.require_admissible(
        b"c", http_date(NOW).decode(), ""
    )  # and honest ones are answered again
    now = NOW - timedelta(seconds=1000)  # before its start the runtime has accepted nothing
    with pytest.raises(ApiError, match="REQUEST_DATE_REFUSED"):
        memory.require_admissible(b"old", http_date(now).decode(), "")
    memory.require_admissible(b"d", http_date(NOW).decode(), "")


def test_one_peer_cannot_fill_the_memory_of_replays() -> None:
    memory = ReplayMemory(lambda: NOW, since_boot=lambda: 7.0, capacity=8)
    date = http_date(NOW).decode()
    for number in range(6):
        memory.require_admissible(bytes([number]), date, "10.0.0.1")
    with pytest.raises(ApiError, match="REPLAY_MEMORY_FULL"):
        memory.require_admissible(b"one more", date, "10.0.0.1")
    memory.require_admissible(b"a", date, "10.0.0.2")
    memory.require_admissible(b"b", date, "10.0.0.3")
    with pytest.raises(ApiError, match="REPLAY_MEMORY_FULL"):
        memory.require_admissible(b"c", date, "10.0.0.4")


def test_what_a_peer_asked_long_ago_is_not_counted() -> None:
    now = NOW
    memory = ReplayMemory(lambda: now, since_boot=lambda: now.timestamp(), capacity=4)  # noqa: PLW0108 - it moves
    for number in range(9):
        now = NOW + timedelta(seconds=130 * number)
        memory.require_admissible(bytes([number]), http_date(now).decode(), "10.0.0.1")


def test_a_future_date_is_remembered_as_long_as_it_lasts() -> None:
    now = NOW
    memory = ReplayMemory(lambda: now, since_boot=lambda: now.timestamp())  # noqa: PLW0108 - it moves
    late = http_date(NOW + timedelta(seconds=120)).decode()
    memory.require_admissible(b"a", late, "")
    for seconds in (0, 120, 239, 240):
        now = NOW + timedelta(seconds=seconds)
        with pytest.raises(ApiError, match="REQUEST_REPLAYED"):
            memory.require_admissible(b"a", late, "")
    now = NOW + timedelta(seconds=241)
    with pytest.raises(ApiError, match="REQUEST_DATE_REFUSED"):
        memory.require_admissible(b"a", late, "")


def test_a_full_memory_refuses(testbed: RuntimeTestbed) -> None:
    gate = Gate(testbed, capacity=2)
    assert [gate.ask(message()).head.status for _ in range(3)] == [200, 200, 503]
    gate.now += timedelta(seconds=241)
    assert gate.ask(message(dates=(http_date(gate.now),))).head.status == 200


def test_a_client_that_leaves(gate: Gate) -> None:
    testbed = gate.testbed

    async def scenario() -> None:
        testbed.engine.go.clear()
        leave = asyncio.Event()
        _, data = seal(message(CHAT | {"stream": True}))
        task = asyncio.create_task(
            call(gate.app, "POST", "/ohttp", data, headers=MEDIA, leave=leave)
        )
        await asyncio.sleep(0.1)
        leave.set()
        answer = await task
        assert not answer.complete, "no final chunk: nobody takes it for whole"
        testbed.engine.go.set()
        await asyncio.sleep(0.1)

    asyncio.run(scenario())
    assert testbed.engine.closed == 1
    assert testbed.engine.steps == 1


def test_a_client_that_leaves_before_its_request_is_whole(gate: Gate) -> None:
    sent: list[object] = []

    async def receive() -> dict[str, str]:
        return {"type": "http.disconnect"}

    async def send(item: Any) -> None:  # noqa: ANN401
        sent.append(item)

    scope = {"type": "http", "headers": [(b"content-type", MEDIA["content-type"].encode())]}
    asyncio.run(gate.app(scope, receive, send))
    assert sent == []


def test_a_failure_is_told_without_its_words(gate: Gate, capfd: pytest.CaptureFixture[str]) -> None:
    gate.testbed.engine.error = RuntimeError("one two three")
    opened = gate.ask(message())
    assert (opened.head.status, opened.code) == (500, "GENERATION_FAILED")
    request, data = seal(message(CHAT | {"stream": True}))
    answer = gate.send(data)
    assert not answer.complete
    with pytest.raises(IntegrityError) as caught:
        Opened(answer, request)
    assert caught.value.code is OhttpCode.OHTTP_TRUNCATED
    shown = capfd.readouterr()
    assert '"code": "RuntimeError"' in shown.err
    assert "two" not in shown.err + shown.out


def test_no_log_line_has_a_prompt(gate: Gate, capfd: pytest.CaptureFixture[str]) -> None:
    secret = CHAT | {"messages": [{"role": "user", "content": "xylophone"}]}
    gate.ask(message(secret))
    gate.ask(message(secret | {"stream": True}))
    gate.ask(message(secret | {"n": 2}))
    gate.ask(message(secret, dates=()))
    shown = capfd.readouterr()
    assert "xylophone" not in shown.out + shown.err


def test_concurrent_replays_give_one_answer(
    make_testbed: Callable[..., RuntimeTestbed],
) -> None:
    gate = Gate(make_testbed(queue=50))
    request, data = seal(message())

    async def scenario() -> list[Answer]:
        return await asyncio.gather(
            *(call(gate.app, "POST", "/ohttp", data, headers=MEDIA) for _ in range(8))
        )

    statuses = [Opened(answer, request).head.status for answer in asyncio.run(scenario())]
    assert sorted(statuses) == [200] + [400] * 7
