"""An engine that ends by itself is wiped and started again, with a key that is released anew."""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING, Any

import httpx
import msgspec
import openai
import pytest

from regalia.core.errors import KeyAccessError, PolicyDenied, UnavailableError
from regalia.engines.hosted_codes import HostedCode
from regalia.runtime import grant, service
from regalia.runtime.codes import RuntimeCode
from regalia.wire.serving import EVIDENCE_PATH
from regalia_testing.hosted_engine import EchoEngine
from tests.runtime.hosted_runtime import alive, chat, hosted, left_behind, members, until
from tests.runtime.live_deployment import client

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.runtime.hosted_runtime import Start
    from tests.runtime.live_deployment import Running


def worker_of(running: Running) -> int:
    channel = hosted(running).life.channel
    assert channel is not None
    return min(channel.pids)


def first_of(running: Running) -> int:
    processes = hosted(running).life.processes
    assert processes is not None
    assert processes._first is not None
    return processes._first.pid


def kill_worker(running: Running) -> None:
    os.kill(worker_of(running), signal.SIGKILL)


def kill_api_server(running: Running) -> None:
    os.kill(first_of(running), signal.SIGKILL)


def hang(running: Running) -> None:
    os.kill(first_of(running), signal.SIGSTOP)


def events(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def later_lives(monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    """Have engines that are started from now on behave otherwise."""
    command = EchoEngine.command

    def changed(self: EchoEngine, options: Any, *rest: Any, **named: Any) -> Any:  # noqa: ANN401
        return command(self, {**options, "mode": mode}, *rest, **named)

    monkeypatch.setattr(EchoEngine, "command", changed)


@pytest.mark.parametrize("end", [kill_worker, kill_api_server, hang])
def test_an_engine_is_started_again_with_a_key_that_is_released_anew(
    start: Start, end: Callable[[Running], None], capfd: pytest.CaptureFixture[str]
) -> None:
    live, running = start(workers=2, attempts=2, more="engine_health_s = 1")
    before, place = members(running), hosted(running).life.place
    assert live.between.releases == 1
    end(running)
    until(lambda: not running.runtime.serving())
    until(running.runtime.serving)
    assert not alive(before), "nothing of the engine that ended is used again"
    assert not place.api.parent.exists()
    assert live.between.releases == 2
    assert not running.runtime._keys._exit_callbacks
    assert chat(live, running).to_dict()["route"] == "/v1/chat/completions"
    records = [entry for entry in live.deployment.records() if entry.decision == "release"]
    assert len(records) == 2
    assert len({record.evidence_digest for record in records}) == 2
    assert len({record.lease_id for record in records}) == 1
    running.stop()
    assert running.error is None
    assert members(running) == set()
    assert left_behind() == []
    told = [line["event"] for line in events(capfd.readouterr().err)]
    order = ["ended", "restarting", "restarted"]
    assert [name.rpartition(".")[2] for name in told if "runtime.engine." in name] == order
    assert told.index("runtime.wiped") < told.index("runtime.engine.restarting")


def test_clients_are_told_to_come_back(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    live, running = start(attempts=1)
    with client(live, running.url) as asker:
        assert asker.models.list()
        later_lives(monkeypatch, "never-asks")
        kill_worker(running)
        until(lambda: not running.runtime.serving())
        with pytest.raises(openai.APIError):  # the runtime's own words are not inside the seal
            asker.models.list()
    answer = running.get(f"{EVIDENCE_PATH}?challenge={'A' * 43}")
    assert answer.status_code == httpx.codes.SERVICE_UNAVAILABLE
    assert answer.json()["code"] == "NOT_SERVING"
    assert answer.headers["retry-after"] == "10"
    assert running.get("/health").status_code == httpx.codes.SERVICE_UNAVAILABLE
    running.stop()


@pytest.mark.parametrize("end", [kill_worker, kill_api_server, hang])
def test_a_stream_ends_with_an_error_event(start: Start, end: Callable[[Running], None]) -> None:
    live, running = start(attempts=1, more="engine_health_s = 1")
    with client(live, running.url) as asker:
        messages: Any = [{"role": "user", "content": "hello"}]
        stream = asker.chat.completions.create(
            model="tiny",
            messages=messages,
            stream=True,
            extra_body={"events": 1000, "pause_s": 0.05},
        )
        next(iter(stream))
        end(running)
        with pytest.raises(openai.APIError) as caught:
            list(stream)
    assert caught.value.code in {"NOT_SERVING", "GENERATION_FAILED"}
    until(running.runtime.serving)
    running.stop()
    assert left_behind() == []


@pytest.mark.parametrize("mode", ["fails-to-load", "dies-at-trial"])
def test_an_engine_that_ends_again_and_again(
    start: Start, mode: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    live, running = start(attempts=3)
    later_lives(monkeypatch, mode)
    kill_worker(running)
    running.join(60)
    assert isinstance(running.error, UnavailableError)
    assert running.error.code is HostedCode.ENGINE_PROCESS_FAILED
    assert "started again 3 times within 3600 s" in running.error.what
    assert live.between.releases == 4, "a fresh release for each start"
    assert live.deployment.entries()[-1].kind == "lease-returned"
    assert members(running) == set()
    assert left_behind() == []
    given_up = [line for line in events(capfd.readouterr().err) if "given_up" in line["event"]]
    assert [line["code"] for line in given_up] == ["ENGINE_PROCESS_FAILED"]


def test_a_broker_that_refuses_the_second_release(start: Start) -> None:
    live, running = start(attempts=3)
    deployment = live.deployment
    deployment.policy = msgspec.structs.replace(
        deployment.policy,
        version=6,
        placement=msgspec.structs.replace(deployment.policy.placement, regions=["us"]),
    )
    deployment.restart()
    kill_worker(running)
    running.join(30)
    assert isinstance(running.error, PolicyDenied)
    assert running.error.code is RuntimeCode.RELEASE_DENIED
    assert live.between.releases == 1
    assert running.runtime.workload.wiped
    assert members(running) == set()
    assert left_behind() == []


@pytest.mark.parametrize("mode", ["never-asks", "ignores-signals"])
def test_the_runtime_is_stopped_while_its_engine_starts_again(
    start: Start, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, running = start(attempts=3)
    later_lives(monkeypatch, mode)
    before = hosted(running).life
    kill_worker(running)
    until(lambda: hosted(running).life is not before)
    running.stop()
    assert running.error is None
    assert running.runtime.workload.wiped
    assert members(running) == set()
    assert left_behind() == []


def test_the_runtime_is_stopped_while_it_waits_for_the_broker(start: Start) -> None:
    live, running = start(attempts=3)
    live.between.down = True
    before = hosted(running).life
    kill_worker(running)
    until(lambda: hosted(running).life is not before)
    running.stop()
    assert running.error is None
    assert left_behind() == []
    assert members(running) == set()


def test_the_lease_is_lost_while_the_engine_starts_again(start: Start) -> None:
    live, running = start(attempts=3, policy={"lease_s": 6})
    live.between.down = True
    kill_worker(running)
    until(lambda: not running.runtime.serving())
    running.join(30)
    assert isinstance(running.error, KeyAccessError)
    assert running.error.code is RuntimeCode.LEASE_LOST
    assert running.runtime.workload.wiped
    assert members(running) == set()
    assert left_behind() == []


def test_the_lease_is_lost_while_the_model_is_loaded_again(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    live, running = start(attempts=3, policy={"lease_s": 6})
    later_lives(monkeypatch, "never-asks")
    before = hosted(running).life
    kill_worker(running)
    until(lambda: hosted(running).life is not before and live.between.releases > 1)
    live.between.down = True
    running.join(30)
    assert isinstance(running.error, KeyAccessError)
    assert running.error.code is RuntimeCode.LEASE_LOST
    assert members(running) == set()
    assert left_behind() == []


def test_processes_that_cannot_be_killed_are_not_joined_by_others(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, running = start(attempts=3)
    processes = hosted(running).life.processes
    assert processes is not None
    kill = processes.kill
    monkeypatch.setattr(processes, "kill", lambda: kill() and False)
    kill_worker(running)
    running.join(30)
    assert isinstance(running.error, UnavailableError)
    assert "it lives on" in running.error.what


def test_the_first_process_waits_with_nothing_until_the_key_is_there(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It starts while the runtime attests, and ends when nobody lets it go on."""
    seen: list[tuple[set[int], int]] = []
    exchange = grant.exchange
    runtimes: list[Any] = []
    prepare = service.Runtime._receive

    def receive(self: Any, *arguments: Any) -> None:  # noqa: ANN401
        runtimes.append(self)
        prepare(self, *arguments)

    def look(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401
        life = runtimes[-1].workload.life
        model = list(life.place.model.iterdir())
        seen.append((life.processes.members(), len(model) + life.place.channel.exists()))
        return exchange(*arguments, **options)

    monkeypatch.setattr(service.Runtime, "_receive", receive)
    monkeypatch.setattr(grant, "exchange", look)
    _, running = start()
    (pids, files), *_ = seen
    assert pids <= members(running)
    assert len(pids) == 1
    assert files == 0
    running.stop()
