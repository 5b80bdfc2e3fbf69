"""How often an engine is started again, with which pauses, and what ends that."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from regalia.core.errors import CoreCode, IntegrityError, KeyAccessError, UnavailableError
from regalia.engines.hosted_codes import HostedCode
from regalia.runtime import restarts
from regalia.runtime.codes import RuntimeCode
from regalia.runtime.config import RestartSection
from regalia.runtime.restarts import Restarts

if TYPE_CHECKING:
    from collections.abc import Callable

    from regalia.core.errors import RegaliaError

DOWN = UnavailableError(HostedCode.ENGINE_PROCESS_FAILED, "it ended")
AWAY = UnavailableError(CoreCode.PEER_UNREACHABLE, "nobody answers")


@dataclass
class Engine:
    """Starts that fail as they are told, and then succeed."""

    failures: list[Exception] = field(default_factory=list)
    starts: int = 0

    def start(self) -> None:
        self.starts += 1
        if self.failures:
            raise self.failures.pop(0)


@dataclass
class Watched:
    """One ``Restarts`` whose pauses take no time."""

    engine: Engine
    attempts: int = 3
    window_s: int = 3600
    pause_s: int = 0
    given_up: list[RegaliaError] = field(default_factory=list)

    def __post_init__(self) -> None:
        settings = RestartSection(
            attempts=self.attempts, window_s=self.window_s, pause_s=self.pause_s
        )
        self.restarts = Restarts(settings, self.engine.start, self.given_up.append)

    def fail(self) -> None:
        self.restarts.engine_failed("it fell over")
        self.restarts.join(10)


def test_it_is_started_once_for_each_failure() -> None:
    watched = Watched(Engine())
    watched.fail()
    watched.fail()
    assert watched.engine.starts == 2
    assert watched.given_up == []


def test_failures_add_up_over_starts_that_succeed() -> None:
    watched = Watched(Engine())
    for _ in range(4):
        watched.fail()
    assert watched.engine.starts == 3
    (error,) = watched.given_up
    assert error.code is HostedCode.ENGINE_PROCESS_FAILED
    assert error.what == "it fell over; it was started again 3 times within 3600 s"


def test_starts_that_fail_are_counted_as_well() -> None:
    watched = Watched(Engine([DOWN] * 9))
    watched.fail()
    assert watched.engine.starts == 3
    assert "it ended; it was started again 3 times" in watched.given_up[0].what


def test_none_is_allowed() -> None:
    watched = Watched(Engine(), attempts=0)
    watched.fail()
    assert watched.engine.starts == 0
    assert len(watched.given_up) == 1


def test_failures_are_forgotten_after_the_window(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(restarts.time, "monotonic", lambda: now[0])
    watched = Watched(Engine(), attempts=1, window_s=60)
    watched.fail()
    now[0] += 61
    watched.fail()
    assert watched.engine.starts == 2
    now[0] += 59
    watched.fail()
    assert watched.engine.starts == 2
    assert len(watched.given_up) == 1


def test_pauses_double_up_to_a_minute() -> None:
    watched = Watched(Engine(), attempts=100, pause_s=1)
    pauses = [watched.restarts._pause() for _ in range(40)]
    assert pauses[:8] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert set(pauses[8:]) == {60}


@pytest.mark.parametrize(
    "error",
    [
        KeyAccessError(RuntimeCode.LEASE_LOST, "the lease ended"),
        IntegrityError(RuntimeCode.SERVED_MODEL_MISMATCH, "another model"),
    ],
)
def test_what_no_other_start_would_change_ends_it(error: RegaliaError) -> None:
    watched = Watched(Engine([error]))
    watched.fail()
    assert watched.engine.starts == 1
    assert watched.given_up == [error]


def test_a_bug_ends_it_and_tells_no_message() -> None:
    watched = Watched(Engine([ValueError("a prompt")]))
    watched.fail()
    (error,) = watched.given_up
    assert error.what == "ValueError while it was started again"


def test_a_pause_is_cut_short_by_the_end() -> None:
    watched = Watched(Engine(), pause_s=60)
    began = time.monotonic()
    watched.restarts.engine_failed("it fell over")
    watched.restarts.stop()
    watched.restarts.join(10)
    assert time.monotonic() - began < 5
    assert watched.engine.starts == 0
    assert watched.given_up == []
    watched.fail()
    assert watched.engine.starts == 0, "nothing begins after the end"


def test_a_start_that_fails_because_of_the_end_is_no_failure() -> None:
    watched = Watched(Engine())

    def start() -> None:
        watched.restarts.stop()
        raise DOWN

    watched.restarts._start = start
    watched.fail()
    assert watched.given_up == []


def answers(*wanted: object) -> Callable[[], object]:
    left = list(wanted)

    def ask() -> object:
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return ask


def test_a_broker_that_is_away_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restarts, "_ASK_PAUSES_S", (0.0,))
    watched = Watched(Engine())
    assert watched.restarts.ask(answers(*[AWAY] * 20, "key"), lambda: None) == "key"


def test_it_is_asked_no_more_when_the_lease_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restarts, "_ASK_PAUSES_S", (0.0,))
    lost = answers(None, None, KeyAccessError(RuntimeCode.LEASE_LOST, "the lease ended"))
    with pytest.raises(KeyAccessError):
        Watched(Engine()).restarts.ask(answers(AWAY, AWAY, "key"), lambda: lost() and None)


def test_a_key_that_comes_after_the_end_is_not_used() -> None:
    watched = Watched(Engine())

    def late() -> str:
        watched.restarts.stop()
        return "key"

    with pytest.raises(UnavailableError, match="the runtime has ended"):
        watched.restarts.ask(late, lambda: None)


def test_asking_ends_with_the_runtime() -> None:
    watched = Watched(Engine())
    timer = threading.Timer(0.1, watched.restarts.stop)
    timer.start()
    began = time.monotonic()
    with pytest.raises(UnavailableError, match="nobody answers"):
        watched.restarts.ask(answers(AWAY, AWAY, AWAY), lambda: None)
    assert time.monotonic() - began < 0.9
