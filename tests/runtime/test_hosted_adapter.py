"""A model with an adapter in the processes of an engine: two keys, two leases, and one end."""

from __future__ import annotations

import json
import os
import signal
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from regalia.core.errors import IntegrityError, KeyAccessError, UnavailableError, UsageError
from regalia.engines.codes import EngineCode
from regalia.engines.hosted_codes import HostedCode
from regalia.host import plugins
from regalia.runtime.codes import RuntimeCode
from regalia_testing.adapters import WEIGHTS, tiny_adapter
from regalia_testing.hosted_engine import EchoEngine, PlainEchoEngine, echo_engine
from tests.runtime.adapter_deployment import AdapterDeployment
from tests.runtime.hosted_runtime import alive, chat, hosted, left_behind, members, until
from tests.runtime.live_deployment import Between, LiveDeployment, served

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.broker.harness import Shared
    from tests.runtime.live_deployment import Running

    Tune = Callable[..., "TunedLive"]


class TunedLive(LiveDeployment):
    """Runtimes with the test's own engine, whose configuration names an adapter."""

    deployment: AdapterDeployment

    def begin(self, mode: str = "serves", workers: int = 2, attempts: int = 0) -> Running:
        """Start a runtime with so many workers."""
        text = (
            f'adapter_store = "{self.deployment.sealed_adapter}"\n[engine]\nname = "echo"\n'
            f"options = {{mode = '{mode}', workers = {workers}}}\n"
            f"[restart]\nattempts = {attempts}\npause_s = 0\n"
        )
        return self.start(text=text, within_s=60)

    def released(self) -> list[str]:
        """Model ids of the keys that were released, in their order."""
        found = self.deployment.records()
        return [str(record.model_id) for record in found if record.decision == "release"]


@pytest.fixture
def tune(
    shared: Shared, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Tune]:
    load = plugins.load
    monkeypatch.setattr(
        plugins, "load", lambda group, name: echo_engine if name == "echo" else load(group, name)
    )
    with ExitStack() as cleanup:

        def make(**options: Any) -> TunedLive:  # noqa: ANN401
            adapter = tiny_adapter(tmp_path / "adapter")
            deployment = AdapterDeployment(tmp_path, shared, tiny, adapter, **options)
            cleanup.callback(deployment.close)
            between = Between(deployment)
            live = TunedLive(deployment, between, cleanup.enter_context(served(between)))
            cleanup.callback(lambda: [item.stop() for item in live.started])
            return live

        yield make


def events(text: str, name: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    return [line for line in found if line["event"] == name]


def kill_worker(running: Running) -> None:
    channel = hosted(running).life.channel
    assert channel is not None
    os.kill(min(channel.pids), signal.SIGKILL)


def require_over(running: Running) -> None:
    """Nothing of the engine is left, and no key."""
    assert running.runtime.workload.wiped
    assert members(running) == set()
    assert left_behind() == []
    assert not running.runtime._keys._exit_callbacks


def test_each_worker_opens_both_with_a_key_of_its_own(
    tune: Tune, tiny: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    live = tune()
    running = live.begin()
    assert running.error is None
    assert running.facts["adapter"] == str(live.deployment.adapter_id)
    assert live.released() == [str(live.deployment.model_id), str(live.deployment.adapter_id)]
    assert hosted(running)._adapter is None, "no key is kept"
    assert chat(live, running).to_dict()["route"] == "/v1/chat/completions"
    loaded = events(capfd.readouterr().err, "runtime.worker.loaded")
    both = sum(path.stat().st_size for path in tiny.glob("*.safetensors"))
    both += (live.deployment.adapter / WEIGHTS).stat().st_size
    assert [line["bytes"] for line in loaded] == [both, both]
    running.stop()
    assert running.error is None
    require_over(running)
    assert len(live.deployment.notices()) == 2, "both leases were given back"


def test_an_engine_that_ends_is_started_again_with_both_keys(tune: Tune) -> None:
    live = tune()
    running = live.begin(attempts=1)
    before = members(running)
    kill_worker(running)
    until(lambda: not running.runtime.serving())
    until(running.runtime.serving)
    assert not alive(before)
    model, adapter = str(live.deployment.model_id), str(live.deployment.adapter_id)
    assert live.released() == [model, adapter, model, adapter]
    assert chat(live, running)
    running.stop()
    require_over(running)


def test_losing_the_adapters_lease_ends_everything(tune: Tune) -> None:
    live = tune(adapter_policy={"lease_s": 6})
    running = live.begin()
    assert running.error is None
    before = members(running)
    model, adapter = running.runtime.leases
    live.between.down = True
    running.join(30)
    assert isinstance(running.error, KeyAccessError)
    assert running.error.code is RuntimeCode.LEASE_LOST
    assert adapter.remaining_s == 0
    assert model.remaining_s > 100
    assert not alive(before)
    require_over(running)


def test_workers_end_themselves_with_the_first_lease(tune: Tune) -> None:
    # The runtime neither renews nor kills: each worker's timer is that of the shorter lease.
    live = tune(adapter_policy={"lease_s": 6})
    running = live.begin()
    channel = hosted(running).life.channel
    assert channel is not None
    channel.hold = lambda _left: None  # type: ignore[method-assign] # the test's own
    pids = set(channel.pids)
    until(lambda: not alive(pids) & members(running))
    running.join()
    assert isinstance(running.error, UnavailableError)


@pytest.mark.parametrize(
    ("mode", "kind", "code"),
    [
        ("misfit", IntegrityError, EngineCode.ENGINE_ADAPTER_MISFIT),
        ("unsupported", UsageError, EngineCode.ENGINE_ADAPTER_UNSUPPORTED),
    ],
)
def test_an_adapter_that_a_worker_refuses(
    tune: Tune, mode: str, kind: type[Exception], code: EngineCode
) -> None:
    live = tune()
    running = live.begin(mode, attempts=3)
    running.join()
    assert isinstance(running.error, kind)
    assert running.error.code is code
    assert "the test says so" in running.error.what
    assert len(live.released()) == 2, "it is not tried again"
    require_over(running)


def test_an_adapter_that_is_refused_later_is_not_tried_again(
    tune: Tune, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = tune()
    running = live.begin(attempts=3)
    command = EchoEngine.command
    monkeypatch.setattr(
        EchoEngine,
        "command",
        lambda self, options, *rest, **named: command(
            self, {**options, "mode": "misfit"}, *rest, **named
        ),
    )
    kill_worker(running)
    running.join(30)
    assert isinstance(running.error, IntegrityError)
    assert len(live.released()) == 4
    require_over(running)


def test_ciphertext_of_the_adapter_that_somebody_has_changed(tune: Tune) -> None:
    live = tune()
    shard = max(live.deployment.sealed_adapter.rglob("*"), key=lambda path: path.stat().st_size)
    data = bytearray(shard.read_bytes())
    data[-100] ^= 1
    shard.write_bytes(data)
    running = live.begin()
    running.join()
    assert isinstance(running.error, UnavailableError)
    assert running.error.code is HostedCode.ENGINE_PROCESS_FAILED
    require_over(running)


def test_an_engine_that_merges_nothing_asks_for_no_key(
    tune: Tune, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = tune()
    load = plugins.load
    monkeypatch.setattr(
        plugins,
        "load",
        lambda group, name: PlainEchoEngine() if name == "echo" else load(group, name),
    )
    running = live.begin()
    running.join()
    assert isinstance(running.error, UsageError)
    assert running.error.code is EngineCode.ENGINE_MERGES_NO_ADAPTERS
    assert live.between.releases == 0
    assert left_behind() == []
