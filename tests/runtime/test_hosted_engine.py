"""Engines in processes of their own: who gets the key, how they end, and what is left behind."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import openai
import pytest

from regalia.appraisal.policy_codes import PolicyCode
from regalia.core.errors import KeyAccessError, PolicyDenied, RegaliaError, UnavailableError
from regalia.engines.hosted_codes import HostedCode
from regalia.policy.documents import ReleasePolicy
from regalia.runtime.codes import RuntimeCode
from regalia.runtime.hosted import shared_memory
from regalia.runtime.hosted.frames import Hello, receive, send
from regalia.runtime.hosted.life import EngineLife
from regalia_testing.needles import Needles
from tests.runtime.hosted_runtime import chat, left_behind, members
from tests.runtime.live_deployment import SealedDeployment, client

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.runtime.hosted_runtime import Start


def test_a_request_reaches_the_engine_and_everything_ends_with_the_runtime(start: Start) -> None:
    live, running = start()
    assert running.error is None
    assert running.facts["workers"] == 1
    answer = chat(live, running).to_dict()
    assert answer["messages"] == [{"role": "user", "content": "hello"}]
    assert answer["route"] == "/v1/chat/completions"
    assert len(members(running)) >= 2
    assert left_behind(), "a folder, and shared memory"
    running.stop()
    assert running.error is None
    assert running.runtime.workload.wiped
    assert members(running) == set()
    assert left_behind() == []


def test_shared_memory_that_a_library_has_named_is_removed(start: Start) -> None:
    _, running = start()
    named = {path for pid in members(running) for path in shared_memory.mapped_by(pid)}
    assert any(not path.name.startswith("rg") for path in named), named
    running.stop()
    assert not any(path.exists() for path in named)


def test_the_folder_holds_no_weights_and_soon_no_files_of_the_model(
    start: Start, tiny: Path
) -> None:
    _, running = start()
    folder = running.runtime.workload.life._folder
    assert not folder.place.model.exists()
    assert folder.path.stat().st_mode & 0o777 == 0o700
    needles = Needles(tiny.glob("*.safetensors"))
    for path in folder.path.rglob("*"):
        if path.is_file():
            assert not needles.count(path.read_bytes())
    running.stop()


def test_each_caller_has_a_salt_of_its_own(start: Start) -> None:
    live, running = start()
    salts = {chat(live, running).to_dict()["salt"] for _ in range(3)}
    assert len(salts) == 3, "callers that cannot be told apart share nothing"
    running.stop()


def test_two_workers_and_the_loss_of_one(start: Start) -> None:
    _, running = start(workers=2)
    assert running.facts["workers"] == 2
    (one, *_) = running.runtime.workload.life.channel.pids
    os.kill(one, signal.SIGKILL)
    running.join()
    assert isinstance(running.error, UnavailableError)
    assert running.error.code is HostedCode.ENGINE_PROCESS_FAILED
    assert members(running) == set()
    assert running.runtime.workload.wiped
    assert left_behind() == []


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("fails-to-load", "worker 0: ValueError"),
        ("dies-at-trial", "at the first request"),
        ("asks-twice", ""),
    ],
)
def test_an_engine_that_does_not_start(start: Start, mode: str, words: str) -> None:
    live, running = start(mode)
    if mode == "asks-twice":  # refused, and served nevertheless
        assert running.error is None
        running.stop()
    else:
        running.join()
        assert isinstance(running.error, RegaliaError)
        assert running.error.code is HostedCode.ENGINE_PROCESS_FAILED
        assert words in running.error.what
    assert members(running) == set()
    assert left_behind() == []
    assert live.deployment.entries()[-1].kind == "lease-returned"


def test_workers_that_never_ask(start: Start) -> None:
    _, running = start("never-asks", more="engine_start_s = 3")
    running.join()
    assert isinstance(running.error, UnavailableError)
    assert "0 of 1 workers" in running.error.what
    assert members(running) == set()


def test_a_lost_lease_ends_all_processes_even_deaf_ones(start: Start) -> None:
    live, running = start("ignores-signals", workers=2, policy={"lease_s": 6})
    assert running.error is None
    before = members(running)
    assert len(before) >= 3
    live.between.down = True
    running.join()
    assert isinstance(running.error, KeyAccessError)
    assert running.error.code is RuntimeCode.LEASE_LOST
    assert not any(Path(f"/proc/{pid}").exists() for pid in before)
    assert left_behind() == []


def test_workers_end_themselves_when_their_lease_is_not_renewed(start: Start) -> None:
    # The runtime is stopped: it can neither renew nor kill. Each worker has a timer of the kernel.
    live, running = start(policy={"lease_s": 6})
    workload = running.runtime.workload
    workload.life.channel.hold = lambda _left: None
    pids = set(workload.life.channel.pids)
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{pid}/maps").exists() and pid in members(running) for pid in pids):
        assert time.monotonic() < deadline, "the timer did not end the worker"
        time.sleep(0.1)
    running.join()
    assert running.error.code is HostedCode.ENGINE_PROCESS_FAILED
    assert live.between.releases >= 1


def test_a_stranger_gets_no_key(
    start: Start, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A process of the same user that is none of the engine's connects while keys are given."""
    asked: list[object] = []
    handed = EngineLife.load

    def and_ask(self: EngineLife, *arguments: Any) -> Any:  # noqa: ANN401
        def ask() -> None:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
                while sock.connect_ex(str(self.place.channel)) != 0:
                    time.sleep(0.005)
                sock.settimeout(5)
                try:
                    send(sock, Hello(0, 1))
                    asked.append(receive(sock))
                except (OSError, RegaliaError) as exc:
                    asked.append(exc)

        threading.Thread(target=ask, daemon=True).start()
        return handed(self, *arguments)

    monkeypatch.setattr(EngineLife, "load", and_ask)
    _, running = start()
    assert running.error is None
    running.stop()
    assert '"runtime.worker.refused", "code": "WORKER_REFUSED"' in capfd.readouterr().err
    (got,) = asked
    assert got is None or isinstance(got, OSError)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Has runtimes measured with an open surface, and documents of one name that close it."""
    measured = SealedDeployment.runtime_config
    monkeypatch.setattr(
        SealedDeployment,
        "runtime_config",
        lambda self: msgspec.structs.replace(measured(self), opens=["logprobs"]),
    )

    def close(name: str) -> None:
        made = getattr(SealedDeployment, name)

        def closed(self: SealedDeployment, **changes: Any) -> Any:  # noqa: ANN401
            policy = made(self, **changes)
            if isinstance(policy, ReleasePolicy):
                return without_surfaces(policy)
            return replace(policy, policy=without_surfaces(policy.policy))

        monkeypatch.setattr(SealedDeployment, name, closed)

    return close


def without_surfaces(policy: Any) -> Any:  # noqa: ANN401 - of either kind
    runtime = msgspec.structs.replace(policy.runtime, opens=msgspec.UNSET)
    return msgspec.structs.replace(policy, runtime=runtime)


def test_open_surfaces_are_served_where_owner_and_client_accept_them(
    start: Start,
    opened: Callable[[str], None],
) -> None:
    assert opened
    live, running = start()
    assert running.error is None
    assert running.facts["opens"] == ["logprobs"]
    assert chat(live, running)
    running.stop()


def test_no_key_is_released_for_surfaces_that_the_owner_does_not_accept(
    start: Start, opened: Callable[[str], None]
) -> None:
    opened("make_policy")
    _, running = start()
    running.join()
    assert isinstance(running.error, RegaliaError)
    assert running.error.code is RuntimeCode.RELEASE_DENIED
    assert "SURFACE_DENIED" in str(running.error.explain())
    assert left_behind() == [], "what was started had nothing to look at, and is gone"


def test_no_prompt_is_sent_where_surfaces_are_open_that_the_client_does_not_accept(
    start: Start, opened: Callable[[str], None]
) -> None:
    opened("trust")
    live, running = start()
    with pytest.raises(openai.APIConnectionError) as caught:
        chat(live, running)
    cause: BaseException | None = caught.value
    while cause is not None and not isinstance(cause, PolicyDenied):
        cause = cause.__cause__
    assert cause is not None
    assert cause.code is PolicyCode.SURFACE_DENIED
    running.stop()


def test_streams_come_event_by_event(start: Start) -> None:
    live, running = start()
    with client(live, running.url) as asker:
        messages: Any = [{"role": "user", "content": "hello"}]
        stream = asker.chat.completions.create(
            model="tiny", messages=messages, stream=True, extra_body={"events": 5}
        )
        events = [event.to_dict() for event in stream]
    assert [event["event"] for event in events] == [0, 1, 2, 3, 4]
    running.stop()


def test_refusals_of_the_proxy(start: Start) -> None:
    live, running = start(more="[limits]\nparallel = 1\nqueue = 0\n")
    with client(live, running.url) as asker:
        with pytest.raises(openai.NotFoundError, match="does not exist"):
            asker.chat.completions.create(model="other", messages=[])
        with pytest.raises(openai.NotFoundError, match="Unknown request URL"):
            asker.responses.create(model="tiny", input="hello")
        with pytest.raises(openai.NotFoundError, match="Unknown request URL"):
            asker.post("/../collective_rpc", cast_to=object)
        assert [model.id for model in asker.models.list()] == ["tiny"]
    running.stop()
