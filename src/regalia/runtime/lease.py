"""A lease ends on time, whatever else happens.

Two threads: one renews at half-life, and may hang on a dead network; the other one waits for
the deadline, which only a renewal moves.
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
    """Seconds since boot. Nobody sets this clock, and it goes on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Lease:
    """Keeps one lease alive.

    Args:
        lease_s: seconds that the first grant gives.
        granted_at: ``since_boot()`` from before the grant was asked for.
        renew: attest again; returns the new lease in seconds. Any exception means "not now".
        on_lost: called once, from a thread of this class, when the lease has ended.
    """

    def __init__(
        self,
        lease_s: float,
        granted_at: float,
        *,
        renew: Callable[[], float],
        on_lost: Callable[[str], None],
    ) -> None:
        self._renew = renew
        self._on_lost = on_lost
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
        """Begin to renew and to watch."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop watching: the model is gone already."""
        with self._condition:
            self._stopped = True
            self._condition.notify_all()

    @property
    def remaining_s(self) -> float:
        """Seconds until the lease ends; 0 when it has."""
        with self._condition:
            return max(0.0, self._deadline - since_boot())

    def _sleep_until(self, moment: Callable[[], float]) -> bool:
        """Wait for a moment that may move. False if stopped."""
        with self._condition:
            while not self._stopped:
                left = moment() - since_boot()
                if left <= 0:
                    return True
                # Condition.wait counts monotonic time, which sleeps with the machine: so look
                # at the clock every few seconds.
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
                    if since_boot() < self._deadline:
                        self._lease_s, self._deadline = lease_s, asked_at + lease_s
                        self.renewals += 1
                        self._condition.notify_all()
                due = asked_at + lease_s / 2
                continue
            pause = min(max(self._lease_s / _RETRY_SHARE, _RETRY_MIN_S), _RETRY_MAX_S)
            due = since_boot() + pause
