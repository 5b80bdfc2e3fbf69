"""Whoever causes refusals is bounded, the log too, and holders of leases have a reserve."""

from __future__ import annotations

import asyncio
import json
import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from regalia.broker.app import create_app
from regalia.broker.config import LimitsSection
from regalia.broker.denials import DenialCounter
from regalia.broker.leases import HeldLease
from regalia.broker.peers import Peers
from regalia.core.codec import canonical_json
from regalia.core.errors import LogError, ParseError, UnavailableError
from regalia.tlog.codes import TlogCode
from regalia_testing.tees.snp.defects import SnpDefects
from tests.broker.harness import Deviation

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.broker.harness import Deployment

NOW = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
RUBBISH = Deviation(evidence=b"rubbish")


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


# -- parts ----------------------------------------------------------------------------------------


def attempt(peers: Peers, peer: str, ends: Exception | None = None, after_s: float = 0) -> str:
    try:
        with peers.admitted(peer, later(after_s)):
            if ends is not None:
                raise ends  # noqa: TRY301 - the block is what is tested
    except UnavailableError as exc:
        return exc.code.name
    except Exception as exc:  # noqa: BLE001 - every kind of end is recorded
        return type(exc).__name__
    return "granted"


MALFORMED = ParseError(TlogCode.PROOF_INVALID, "any")


def test_what_a_peer_is_charged_for() -> None:
    peers = Peers(2, [])
    for _ in range(5):
        assert attempt(peers, "a") == "granted"
        assert attempt(peers, "a", LogError(TlogCode.LOG_UNWRITABLE, "")) == "LogError"
        assert attempt(peers, "a", ZeroDivisionError()) == "ZeroDivisionError"
    assert [attempt(peers, "a", MALFORMED) for _ in range(3)] == [
        "ParseError",
        "ParseError",
        "PEER_LIMITED",
    ]
    assert attempt(peers, "b", MALFORMED) == "ParseError"
    assert attempt(peers, "a", after_s=31) == "granted"


def test_holders_have_a_reserve_until_their_lease_ends() -> None:
    peers = Peers(1, [HeldLease("lease:1", "a", later(60))])
    assert (peers.holds("a", later(59)), peers.holds("b", later(59))) == (True, False)
    assert [attempt(peers, "a", MALFORMED) for _ in range(3)] == [
        "ParseError",
        "ParseError",
        "PEER_LIMITED",
    ]
    with pytest.raises(UnavailableError, match="PEER_LIMITED"):
        peers.require("a", NOW)
    peers.require("b", NOW)
    peers.granted("b", later(30))
    peers.granted("b", later(20))  # a shorter lease does not end the longer one
    assert (peers.holds("b", later(29)), peers.holds("b", later(30))) == (True, False)
    assert (peers.holds("a", later(60)), peers.holds("a", later(59))) == (False, False)


def test_lockouts_are_told_in_few_lines(capsys: pytest.CaptureFixture[str]) -> None:
    peers = Peers(1, [])
    attempt(peers, "a", MALFORMED)
    for _ in range(20):
        attempt(peers, "a", MALFORMED)
    events = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    told = [each["refused"] for each in events if each["event"] == "broker.peer.limited"]
    assert told == [1, 2, 4, 8, 16]


def test_denials_are_counted_beyond_a_number() -> None:
    counter = DenialCounter(2)

    def counted(after_s: float, *, verified: bool) -> bool:
        return counter.counted(["B", "A", "A"], verified=verified, now=later(after_s))

    minute = timedelta(minutes=1)
    assert [counted(0, verified=False) for _ in range(4)] == [False, False, True, True]
    assert [counted(1, verified=True) for _ in range(3)] == [False, False, True]
    assert counter.notice("log", later(59), after=minute) is None
    notice = counter.notice("log", later(60), after=minute)
    assert notice is not None
    assert (notice.kind, notice.count, notice.broker) == ("denials-counted", 3, "log")
    assert (notice.since, notice.time) == ("2026-11-22T10:00:00Z", "2026-11-22T10:01:00Z")
    assert sorted(notice.what.split(", ")) == ["A 3", "B 3"]
    assert counter.notice("log", later(999), after=minute) is None
    counter.put_back(notice)
    again = counter.notice("log", later(61), after=timedelta(0))
    assert again is not None
    assert again.count == 3


# -- the broker -----------------------------------------------------------------------------------


def code(deployment: Deployment, answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, deployment.refused(answer).code


def test_a_peer_that_sends_rubbish_locks_out_nobody_else(
    make_deployment: Callable[..., Deployment],
) -> None:
    deployment = make_deployment(limits=LimitsSection(peer_refusals=3))
    for _ in range(3):
        deployment.denied(deployment.ask(RUBBISH))
    for _ in range(5):
        assert code(deployment, deployment.ask(RUBBISH)) == (429, "PEER_LIMITED")
    assert code(deployment, deployment.ask()) == (429, "PEER_LIMITED")
    assert len(deployment.records()) == 3
    deployment.peer = "192.0.2.2"
    deployment.open(deployment.ask())
    assert 'path="/v1/release",status="429"} 6.0' in deployment.http("GET", "/metrics").text
    deployment.peer = "192.0.2.1"
    deployment.pass_time(21)
    deployment.open(deployment.ask())


def test_a_body_of_a_limited_peer_is_not_read(make_deployment: Callable[..., Deployment]) -> None:
    deployment = make_deployment(limits=LimitsSection(peer_refusals=1))
    deployment.denied(deployment.ask(RUBBISH))
    read = 0

    async def body() -> Any:  # noqa: ANN401 - an iterator
        nonlocal read
        read += 1
        yield b"{}"

    answer = deployment.http("POST", "/v1/release", content=body())
    assert code(deployment, answer) == (429, "PEER_LIMITED")
    assert read == 0


def test_malformed_requests_are_charged_too(make_deployment: Callable[..., Deployment]) -> None:
    deployment = make_deployment(limits=LimitsSection(peer_refusals=2))
    answers = [deployment.http("POST", "/v1/release", content=b"{}") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [400, 400, 429]


def test_a_holder_renews_beside_an_attacker_at_its_address(
    make_deployment: Callable[..., Deployment],
) -> None:
    deployment = make_deployment(limits=LimitsSection(peer_refusals=2))
    lease_id = deployment.granted(deployment.ask()).lease_id
    for _ in range(2):
        deployment.ask(RUBBISH)
    renewal = Deviation(request={"lease_id": lease_id})
    deployment.open(deployment.ask(renewal))
    deployment.restart()  # the reserve is in the state, not only in memory
    assert deployment.broker.peers.holds(deployment.peer, deployment.now)


def test_the_log_counts_what_it_does_not_hold(make_deployment: Callable[..., Deployment]) -> None:
    deployment = make_deployment(limits=LimitsSection(peer_refusals=1000, denials_logged=2))
    for _ in range(2):
        deployment.denied(deployment.ask(RUBBISH))
    for _ in range(3):
        answer = deployment.ask(RUBBISH)
        refusal = deployment.refused(answer)
        assert (answer.status_code, refusal.code, refusal.log) == (403, "MALFORMED", None)
    # Rubbish does not crowd out what genuine evidence was refused for.
    debug = Deviation(defects=SnpDefects(debug=True))
    assert "DEBUG_ENABLED" in deployment.denied(deployment.ask(debug))
    assert deployment.notices() == []
    deployment.pass_time(61)
    deployment.open(deployment.ask())
    (notice,) = deployment.notices()
    assert (notice.kind, notice.count, notice.what) == ("denials-counted", 3, "MALFORMED 3")
    assert [record.decision for record in deployment.records()] == ["denial"] * 3 + ["release"]
    text = deployment.http("GET", "/metrics").text
    assert 'regalia_broker_decisions_total{decision="counted"} 3.0' in text
    deployment.restart()  # and the state has seen the notice


def test_a_scrape_tells_the_log_as_well(make_deployment: Callable[..., Deployment]) -> None:
    deployment = make_deployment(limits=LimitsSection(denials_logged=1))
    deployment.denied(deployment.ask(RUBBISH))
    deployment.ask(RUBBISH)
    deployment.scrape()
    assert deployment.notices() == []
    deployment.pass_time(61)
    deployment.scrape()
    assert [notice.count for notice in deployment.notices()] == [1]


def test_a_notice_that_cannot_be_written_is_kept(
    make_deployment: Callable[..., Deployment], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:  # noqa: ANN401
        raise LogError(TlogCode.LOG_UNWRITABLE, "no space")

    deployment = make_deployment(limits=LimitsSection(denials_logged=1))
    deployment.denied(deployment.ask(RUBBISH))
    deployment.ask(RUBBISH)
    deployment.pass_time(61)
    with monkeypatch.context() as patch:
        patch.setattr(deployment.log, "note", broken)
        assert code(deployment, deployment.ask()) == (503, "LOG_UNWRITABLE")
    deployment.open(deployment.ask())
    assert [notice.count for notice in deployment.notices()] == [1]


def crowd(deployment: Deployment, peers: list[str]) -> list[int]:
    """Statuses of requests for challenges that all come at once, none of which is answered soon."""
    leave, app = (
        threading.Event(),
        create_app(deployment.broker, deployment.metrics, deployment.limits),
    )

    def held(_self: Any, _body: bytes) -> dict[str, str]:  # noqa: ANN401
        assert leave.wait(10)
        return {}

    async def ask() -> list[int]:
        statuses, tasks = [], []
        for peer in peers:
            transport = httpx.ASGITransport(app, client=(peer, 40_000))
            client = httpx.AsyncClient(transport=transport, base_url="http://broker")
            tasks.append(asyncio.create_task(client.post("/v1/challenge")))
            await asyncio.sleep(0.01)
        leave.set()
        for task in tasks:
            statuses.append((await task).status_code)  # noqa: PERF401 - it awaits
        return statuses

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(deployment.broker), "challenge", held)
        return asyncio.run(ask())


def test_places_are_shared_and_some_are_for_holders(
    make_deployment: Callable[..., Deployment],
) -> None:
    deployment = make_deployment(limits=LimitsSection(concurrent=4, waiting=4))
    # Of eight places one peer has six, and one is for peers that hold a lease.
    assert crowd(deployment, ["a"] * 7 + ["b", "c"]) == [200] * 6 + [503, 200, 503]
    deployment.broker.peers.granted("c", deployment.now + timedelta(seconds=60))
    assert crowd(deployment, ["a"] * 7 + ["b", "c"]) == [200] * 6 + [503, 200, 200]


def test_readers_take_no_place_from_those_who_ask_for_keys(
    make_deployment: Callable[..., Deployment], monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment = make_deployment(limits=LimitsSection(concurrent=1, waiting=0))
    entered, leave = threading.Event(), threading.Event()

    def held(_self: Any) -> int:  # noqa: ANN401
        entered.set()
        assert leave.wait(10)
        return 0

    monkeypatch.setattr(type(deployment.log.reader), "size", held)
    app = create_app(deployment.broker, deployment.metrics, deployment.limits)

    async def crowd() -> list[int]:
        transport = httpx.ASGITransport(app, client=("a", 40_000))
        async with httpx.AsyncClient(transport=transport, base_url="http://broker") as client:
            reader = asyncio.create_task(client.get("/health"))
            await asyncio.to_thread(entered.wait, 10)
            body = {"model_id": str(deployment.model_id)}
            challenge = await client.post("/v1/challenge", content=canonical_json(body))
            second = await client.get("/health")
            leave.set()
            return [challenge.status_code, second.status_code, (await reader).status_code]

    assert asyncio.run(crowd()) == [200, 503, 200]


def test_metrics_are_rendered_once_in_a_second(deployment: Deployment) -> None:
    first = deployment.http("GET", "/metrics").text
    deployment.http("POST", "/v1/challenge", content=b"{}")
    assert deployment.http("GET", "/metrics").text == first
    deployment.metrics.forget_rendered()
    assert 'status="400"} 1.0' in deployment.http("GET", "/metrics").text


def test_bodies_in_progress_are_bounded(make_deployment: Callable[..., Deployment]) -> None:
    from regalia.broker.app import _Gate  # noqa: PLC0415

    gate, mib = _Gate(make_deployment(limits=LimitsSection(body_mib=8)).limits), 1 << 20
    with gate.place("a", 6 * mib, holds=False):
        with pytest.raises(UnavailableError, match="BROKER_BUSY"), gate.place("a", 1, holds=False):
            pass
        with gate.place("b", 1 * mib, holds=False):
            with (
                pytest.raises(UnavailableError, match="BROKER_BUSY"),
                gate.place("c", 1, holds=False),
            ):
                pass
            with gate.place("c", 1 * mib, holds=True):
                pass
    with gate.place("a", 6 * mib, holds=False):
        pass
