"""A clock that the host sets: steps are told, and none of them lets time come twice."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from regalia.runtime.steady_clock import SETTLED_S, SteadyClock

NOW = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)


class Host:
    """Who sets the wall clock, and cannot set the clock since boot."""

    def __init__(self) -> None:
        self.boot = 100.0
        self.offset = 0.0
        self.steps: list[float] = []
        self.clock = SteadyClock(self.wall, lambda: self.boot, self.steps.append)

    def wall(self) -> datetime:
        return NOW + timedelta(seconds=self.boot - 100.0 + self.offset)

    def seen(self, *, after: float = 1.0, step: float = 0.0) -> float:
        """Seconds since the start that the runtime believes have passed."""
        self.boot += after
        self.offset += step
        return (self.clock.now() - NOW).total_seconds()


@pytest.fixture
def host() -> Host:
    return Host()


def test_a_steady_clock_is_followed_without_a_word(host: Host) -> None:
    assert [host.seen(), host.seen(after=1000), host.seen(step=0.5)] == [1, 1001, 1002.5]
    assert host.seen(step=-2.0) == 1003, "never below the floor"
    assert host.steps == []


def test_a_step_back_is_told_and_time_goes_on(host: Host) -> None:
    host.seen(after=500)
    assert host.seen(step=-300) == 501
    assert host.seen() == 502
    assert host.steps == [-300]
    assert host.seen(step=300) == 503
    assert host.steps == [-300, 300]


def test_a_step_forward_is_followed_and_undone(host: Host) -> None:
    assert host.seen(step=86_400) == 86_401
    assert (host.clock.earliest - NOW).total_seconds() == 1, "it can come back as far as this"
    assert host.seen(step=-86_400) == 2
    assert host.steps == [86_400, -86_400]


def test_a_clock_that_stays_ahead_becomes_the_floor(host: Host) -> None:
    host.seen(step=86_400)
    host.seen(after=SETTLED_S - 1)
    assert (host.clock.earliest - NOW).total_seconds() == SETTLED_S
    host.seen(after=2)
    host.seen()
    assert (host.clock.earliest - NOW).total_seconds() == 86_400 + SETTLED_S + 3
    assert host.seen(step=-86_400) == 86_400 + SETTLED_S + 4, "it was believed"
