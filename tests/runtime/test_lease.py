"""A lease ends on time, whatever else happens."""

from __future__ import annotations

import threading
import time

import pytest

from regalia.core.errors import CoreCode, UnavailableError
from regalia.runtime.lease import Lease, since_boot


def ignore(_: float) -> None:
    """Nothing in these tests outlives a lease."""


class LeaseCase:
    """Counts renewals, and remembers when the lease was lost."""

    def __init__(self) -> None:
        self.renewed = 0
        self.losses: list[tuple[str, float]] = []
        self.lost = threading.Event()
        self.failing = threading.Event()
        self.block = threading.Event()
        self.lease_s = 0.4

    def renew(self) -> float:
        if self.block.is_set():
            time.sleep(5)
        if self.failing.is_set():
            raise UnavailableError(CoreCode.PEER_UNREACHABLE, "broker: no answer")
        self.renewed += 1
        return self.lease_s

    def on_lost(self, why: str) -> None:
        self.losses.append((why, since_boot()))
        self.lost.set()

    def start(self, lease_s: float) -> tuple[Lease, float]:
        began = since_boot()
        lease = Lease(lease_s, began, renew=self.renew, on_lost=self.on_lost, on_held=ignore)
        lease.start()
        return lease, began


def test_renewed_at_half_life_and_kept() -> None:
    case = LeaseCase()
    lease, _ = case.start(0.4)
    assert not case.lost.wait(1.5)
    lease.stop()
    assert 4 <= case.renewed <= 8
    assert lease.renewals == case.renewed
    assert case.losses == []


def test_ends_on_time_when_renewal_fails() -> None:
    case = LeaseCase()
    case.failing.set()
    lease, began = case.start(0.6)
    assert case.lost.wait(3)
    ((why, when),) = case.losses
    assert 0.6 <= when - began < 0.9
    assert why == "PEER_UNREACHABLE: broker: no answer"
    assert lease.remaining_s == 0
    case.failing.clear()
    time.sleep(0.5)
    assert case.renewed == 0, "what is lost is not renewed"


def test_a_hanging_renewal_does_not_hold_the_lease() -> None:
    case = LeaseCase()
    case.block.set()
    _, began = case.start(0.5)
    assert case.lost.wait(3)
    assert case.losses[0][1] - began < 0.8


def test_a_renewal_that_comes_too_late_counts_for_nothing() -> None:
    case = LeaseCase()
    late = threading.Event()

    def renew() -> float:
        case.lost.wait(3)
        late.set()
        return 100.0

    lease = Lease(0.3, since_boot(), renew=renew, on_lost=case.on_lost, on_held=ignore)
    lease.start()
    assert late.wait(3)
    time.sleep(0.1)
    assert (lease.renewals, lease.remaining_s) == (0, 0)
    assert len(case.losses) == 1


def test_tries_again_until_it_works() -> None:
    case = LeaseCase()
    case.failing.set()
    lease, _ = case.start(1.6)
    time.sleep(1.0)
    case.failing.clear()
    assert not case.lost.wait(1.0)
    lease.stop()
    assert case.renewed >= 1


def test_a_bug_in_the_renewal_loses_the_lease_too() -> None:
    case = LeaseCase()

    def renew() -> float:
        raise ZeroDivisionError("a secret")

    Lease(0.4, since_boot(), renew=renew, on_lost=case.on_lost, on_held=ignore).start()
    assert case.lost.wait(3)
    assert case.losses[0][0] == "ZeroDivisionError in the renewal"


def test_counts_from_before_the_grant() -> None:
    case = LeaseCase()
    case.failing.set()
    Lease(5.0, since_boot() - 4.8, renew=case.renew, on_lost=case.on_lost, on_held=ignore).start()
    assert case.lost.wait(1)


def test_stopping_ends_both_threads() -> None:
    case = LeaseCase()
    lease, _ = case.start(60)
    lease.stop()
    for thread in lease._threads:
        thread.join(1)
        assert not thread.is_alive()
    assert case.losses == []


def test_a_renewal_that_ends_after_the_stop_holds_nothing() -> None:
    """The kernel's timer is put off for good then, and must not be armed again."""
    held: list[float] = []
    asked, go = threading.Event(), threading.Event()

    def renew() -> float:
        asked.set()
        assert go.wait(5)
        return 60.0

    lease = Lease(1.0, since_boot(), renew=renew, on_lost=lambda _: None, on_held=held.append)
    lease.start()
    assert asked.wait(5)
    lease.stop()
    go.set()
    for thread in lease._threads:
        thread.join(5)
    assert len(held) == 1, "at the start alone"
    assert lease.renewals == 0


@pytest.mark.parametrize("lease_s", [0.0, -1.0])
def test_an_empty_lease_is_lost_at_once(lease_s: float) -> None:
    case = LeaseCase()
    case.failing.set()
    case.start(lease_s)
    assert case.lost.wait(1)
