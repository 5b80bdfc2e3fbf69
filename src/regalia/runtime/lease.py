"""Renews the runtime's lease, and reports its loss on time even if a renewal hangs.

There are two threads, because a renewal can block on a dead network. One renews at half of the
lease's duration; the other waits for the deadline, which only a successful renewal moves.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from regalia.core.errors import RegaliaError

if TYPE_CHECKING:
    from collections.abc import Callable

_RETRY_SHARE = 16  # a failed renewal is tried again after a 16th of the lease
_RETRY_MIN_S = 0.2
_RETRY_MAX_S = 30.0


def since_boot() -> float:
    """Seconds since boot, including time in suspend. This clock cannot be set.

    ``time.monotonic`` stops in suspend on Linux, so a suspended machine would outlive its lease;
    the wall clock can be set back by the host.
    """
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Lease:
    """Keeps one lease alive, and calls back when it is lost.

    Args:
        lease_s: duration of the first grant, in seconds.
        granted_at: ``since_boot()`` from before the grant was requested. The broker's lease
            starts later, so the runtime stops before the broker counts it as expired.
        renew: attests again and returns the new lease's duration in seconds. If it raises, the
            renewal is retried while the lease lasts.
        on_held: called at the start and after each renewal with the seconds that are left.
        on_lost: called once, from a thread of this class, when the lease has ended; its argument
            is the reason of the last failed renewal.
    """

    def __init__(
        self,
        lease_s: float,
        granted_at: float,
        *,
        renew: Callable[[], float],
        on_lost: Callable[[str], None],
        on_held: Callable[[float], None],
    ) -> None:
        self._renew = renew
        self._on_lost = on_lost
        self._on_held = on_held
        self._condition = threading.Condition()
        self._lease_s = lease_s
        self._deadline = granted_at + lease_s
        self._stopped = False
        self._last_failure = "no renewal was tried"
        self.renewals = 0
        self._threads = [
            threading.Thread(target=run, name=name, daemon=True)
            for name, run in (("lease-renewal", self._keep), ("lease-watch", self._watch))
        ]

    def start(self) -> None:
        """Start both threads."""
        self._on_held(self.remaining_s)
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop both threads without a call of ``on_lost``, as the model is already gone."""
        with self._condition:
            self._stopped = True
            self._condition.notify_all()

    @property
    def remaining_s(self) -> float:
        """Seconds until the lease ends; 0 if it has ended."""
        with self._condition:
            return max(0.0, self._deadline - since_boot())

    def _sleep_until(self, moment: Callable[[], float]) -> bool:
        """Wait for a moment that may be moved meanwhile. Returns False if stopped."""
        with self._condition:
            while not self._stopped:
                left = moment() - since_boot()
                if left <= 0:
                    return True
                # Condition.wait counts monotonic time, which stops while the machine is
                # suspended, so wake up every few seconds and read the clock since boot.
                self._condition.wait(min(left, 5.0))
            return False

    def _watch(self) -> None:
        if self._sleep_until(lambda: self._deadline):
            self._on_lost(self._last_failure)
            self.stop()

    def _keep(self) -> None:
        due = self._deadline - self._lease_s / 2
        while self._sleep_until(lambda: due):  # noqa: B023 - read at once, by this thread
            asked_at = since_boot()
            try:
                lease_s = self._renew()
            except RegaliaError as exc:
                self._last_failure = f"{exc.code}: {exc.what}"
            except Exception as exc:  # noqa: BLE001 - a bug here must not keep the lease alive or kill the retry
                self._last_failure = f"{type(exc).__name__} in the renewal"
            else:
                with self._condition:
                    # A renewal that comes back after the deadline is too late: the loss was or
                    # is being reported, and must not be undone.
                    if since_boot() < self._deadline and not self._stopped:
                        self._lease_s, self._deadline = lease_s, asked_at + lease_s
                        self.renewals += 1
                        self._on_held(self._deadline - since_boot())
                        self._condition.notify_all()
                due = asked_at + lease_s / 2
                continue
            pause = min(max(self._lease_s / _RETRY_SHARE, _RETRY_MIN_S), _RETRY_MAX_S)
            due = since_boot() + pause
