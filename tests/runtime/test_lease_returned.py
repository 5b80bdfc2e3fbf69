"""A runtime that stops, or fails to start, gives its place back; the wipe comes first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from regalia.core.errors import UnavailableError
from regalia.engines.codes import EngineCode
from regalia.runtime import inprocess, service
from regalia.runtime.broker import BrokerClient
from regalia.tlog.note import LogKey
from regalia.wire.release import LogNotice

if TYPE_CHECKING:
    import pytest

    from tests.runtime.live_deployment import LiveDeployment


def places(live: LiveDeployment) -> int:
    deployment = live.deployment
    leases = deployment.broker.leases
    return leases.active(str(deployment.model_id), deployment.now, besides="")


def test_a_runtime_that_stops(live: LiveDeployment, monkeypatch: pytest.MonkeyPatch) -> None:
    wiped: list[bool] = []
    give_back = BrokerClient.give_back

    def watched(self: BrokerClient, message: Any) -> None:  # noqa: ANN401
        wiped.append(live.started[-1].runtime.workload.wiped)
        give_back(self, message)

    monkeypatch.setattr(BrokerClient, "give_back", watched)
    running = live.start()
    assert places(live) == 1
    running.stop()
    assert running.error is None
    assert wiped == [True]
    assert places(live) == 0
    entry = live.deployment.entries()[-1]
    assert isinstance(entry, LogNotice)
    assert entry.kind == "lease-returned"


def test_a_runtime_that_fails_to_start(
    live: LiveDeployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(*_: Any) -> Any:  # noqa: ANN401
        raise UnavailableError(EngineCode.ENGINE_MODEL_INCOMPLETE, "the test says so")

    monkeypatch.setattr(inprocess, "build", build)
    running = live.start()
    running.join()
    assert isinstance(running.error, UnavailableError)
    assert running.error.what == "the test says so"
    assert live.between.releases == 1
    assert places(live) == 0


def test_a_broker_that_is_gone_keeps_nobody_from_stopping(
    live: LiveDeployment, capfd: pytest.CaptureFixture[str]
) -> None:
    running = live.start()
    live.between.down = True
    running.stop()
    assert running.error is None
    assert '"runtime.lease.not_returned", "code": "BROKER_REFUSED"' in capfd.readouterr().err
    assert places(live) == 1, "until the lease ends"


def test_a_broker_that_answers_without_end_keeps_nobody_from_stopping(
    live: LiveDeployment, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(service, "RETURN_S", 0.5)
    running = live.start()
    live.between.drips = True
    running.stop()
    assert running.error is None
    assert '"runtime.lease.not_returned", "code": "PEER_UNREACHABLE"' in capfd.readouterr().err


def test_a_lease_that_was_lost_is_not_given_back(
    live: LiveDeployment, capfd: pytest.CaptureFixture[str]
) -> None:
    running = live.start()
    running.runtime._lose("the test says so")
    running.join()
    events = capfd.readouterr().err
    assert "runtime.lease.lost" in events
    assert "returned" not in events


def test_a_broker_of_another_log_gets_no_evidence(live: LiveDeployment) -> None:
    log_key = str(LogKey("another.example", bytes(32)))
    measured = msgspec.structs.replace(live.deployment.runtime_config(), log_key=log_key)
    error = live.refused(measured=measured)
    assert error.code.name == "BROKER_LOG_MISMATCH"
    assert "want 'another.example'" in error.what
    assert live.deployment.records() == [], "nothing was asked for"
