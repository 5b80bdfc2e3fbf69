"""The broker's edge: limits, malformed bodies, addresses, the public log, and bugs."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from regalia.broker.app import create_app
from regalia.broker.config import LimitsSection
from regalia.core.codec import canonical_json
from regalia.tlog.audit import audit_log
from regalia.tlog.note import parse_log_key
from regalia.tlog.source import HttpSource

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.broker.harness import Deployment


def code(deployment: Deployment, answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/json"
    return answer.status_code, deployment.refused(answer).code


def test_other_addresses_and_methods(deployment: Deployment) -> None:
    assert code(deployment, deployment.http("GET", "/")) == (404, "NOT_FOUND")
    assert code(deployment, deployment.http("GET", "/v1/release")) == (405, "METHOD_NOT_ALLOWED")
    assert code(deployment, deployment.http("POST", "/checkpoint")) == (405, "METHOD_NOT_ALLOWED")
    assert code(deployment, deployment.http("GET", "/tile/../../etc/passwd")) == (404, "NOT_FOUND")
    assert code(deployment, deployment.http("GET", "/tile/0/x")) == (404, "NOT_FOUND")
    assert code(deployment, deployment.http("GET", "/tile/0/000")) == (404, "NO_SUCH_ENTRY")


def test_health(deployment: Deployment) -> None:
    answer = deployment.http("GET", "/health")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok", "log_size": 0})


def test_the_log_can_be_audited_over_http(deployment: Deployment) -> None:
    deployment.ask()
    deployment.ask()

    def relay(request: httpx.Request) -> httpx.Response:
        answer = deployment.http("GET", request.url.path)
        return httpx.Response(answer.status_code, content=answer.content)

    client = httpx.Client(transport=httpx.MockTransport(relay))
    audit = audit_log(
        HttpSource("http://broker", client),
        parse_log_key(deployment.shared.log_key),
        remembered=None,
        visit=lambda *_: None,
    )
    assert audit.releases == 2
    checkpoint = deployment.http("GET", "/checkpoint")
    assert checkpoint.headers["content-type"] == "text/plain; charset=utf-8"
    tile = deployment.http("GET", "/tile/entries/000.p/2")
    assert "immutable" in tile.headers["cache-control"]


@pytest.mark.parametrize("path", ["/v1/challenge", "/v1/release"])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"\xff",
        b"{" * 3000,
        b'{"model_id":1}',
        b'{"model_id":"model:x"}',
        b'{"model_id": "model:00"}',
        b'{"model_id":"a","model_id":"b"}',
        b'{"model_id":"\\ud800"}',
    ],
)
def test_malformed_bodies(deployment: Deployment, path: str, body: bytes) -> None:
    assert code(deployment, deployment.http("POST", path, content=body)) == (400, "MALFORMED")
    assert deployment.records() == []


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(st.data())
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_no_body_at_all_breaks_the_broker(deployment: Deployment, data: st.DataObject) -> None:
    asked = deployment.challenge()
    request = deployment.request(asked)
    field = data.draw(st.sampled_from([*sorted(request), "new"]))
    request[field] = data.draw(_JSON)
    for body in (
        data.draw(st.binary(max_size=200)),
        canonical_json(data.draw(_JSON)),
        canonical_json(request),
    ):
        answer = deployment.http("POST", "/v1/release", content=body)
        assert answer.status_code in {200, 400, 403, 409, 413}
        if answer.status_code != 200:
            assert deployment.refused(answer).reasons
        answer = deployment.http("POST", "/v1/challenge", content=body)
        assert answer.status_code in {400, 404, 413}
        deployment.pass_time(700)  # whatever lease was given has ended


def test_every_missing_field(deployment: Deployment) -> None:
    request = deployment.request(deployment.challenge())
    for field in request:
        body = {name: value for name, value in request.items() if name != field}
        assert code(deployment, deployment.post("/v1/release", body)) == (400, "MALFORMED")
    # None of these spent the challenge: it was not readable as a request.
    deployment.open(deployment.post("/v1/release", request))


def test_bodies_over_the_limit(deployment: Deployment) -> None:
    too_long = b"x" * 5000
    answer = deployment.http("POST", "/v1/challenge", content=too_long)
    assert code(deployment, answer) == (413, "TOO_LARGE")
    answer = deployment.http("POST", "/v1/release", content=b"x" * (8 * 1024 * 1024 + 1))
    assert code(deployment, answer) == (413, "TOO_LARGE")


def test_a_stream_over_the_limit_is_cut_when_it_is(deployment: Deployment) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 100:
            sent += 1
            yield b"x" * 1000

    answer = deployment.http("POST", "/v1/challenge", content=endless())
    assert code(deployment, answer) == (413, "TOO_LARGE")
    assert sent <= 6
    # A lie about the length helps nobody: it is not even read.
    answer = deployment.http(
        "POST", "/v1/challenge", content=b"", headers={"content-length": "9" * 30}
    )
    assert code(deployment, answer) == (413, "TOO_LARGE")


def test_a_body_that_trickles(make_deployment: Callable[..., Deployment]) -> None:
    deployment = make_deployment(limits=LimitsSection(body_timeout_s=1))

    async def slow() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(5)
        yield b"}"

    answer = deployment.http("POST", "/v1/challenge", content=slow())
    assert code(deployment, answer) == (408, "REQUEST_TIMEOUT")


def test_too_many_at_once(
    make_deployment: Callable[..., Deployment], monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment = make_deployment(limits=LimitsSection(concurrent=1, waiting=1))
    entered, leave = threading.Event(), threading.Event()

    def held(_self: Any, _body: bytes) -> dict[str, str]:  # noqa: ANN401
        entered.set()
        assert leave.wait(10)
        return {}

    monkeypatch.setattr(type(deployment.broker), "challenge", held)
    app = create_app(deployment.broker, deployment.metrics, deployment.limits)

    async def crowd() -> list[int]:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://broker") as client:
            first = [asyncio.create_task(client.post("/v1/challenge")) for _ in range(2)]
            await asyncio.to_thread(entered.wait, 10)
            refused = await client.post("/v1/challenge")
            leave.set()
            statuses = [(await task).status_code for task in first]
            later = await client.post("/v1/challenge")
            return [refused.status_code, *statuses, later.status_code]

    assert asyncio.run(crowd()) == [503, 200, 200, 200]


def test_a_bug_says_nothing(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(_self: Any, _body: bytes) -> None:  # noqa: ANN401
        raise ZeroDivisionError("the model key is 4711")

    monkeypatch.setattr(type(deployment.broker), "challenge", broken)
    app = create_app(deployment.broker, deployment.metrics, deployment.limits)
    deployment.app = app
    answer = deployment.http("POST", "/v1/challenge")
    assert code(deployment, answer) == (500, "INTERNAL_ERROR")
    printed = capsys.readouterr().err
    assert "4711" not in answer.text + printed
    event = json.loads(printed.splitlines()[-1])
    assert event["what"] == "ZeroDivisionError"
    assert event["at"].startswith("test_a_bug_says_nothing.<locals>.broken:")


def test_a_host_field_makes_no_new_metric(deployment: Deployment) -> None:
    for number in range(3):
        host = f"broker/{number}"
        answer = deployment.http("POST", "/v1/challenge", content=b"{}", headers={"host": host})
        assert code(deployment, answer) == (400, "MALFORMED")
    text = deployment.http("GET", "/metrics").text
    assert 'regalia_broker_answers_total{path="/v1/challenge",status="400"} 3.0' in text
