"""The time that the replay memory counts by, on a machine whose host can set the clock.

There is a floor: the time at the start, and what the clock since boot has counted since then, which
nobody can set. The time is the wall clock's, and never below the floor. A step of the wall clock
is reported. A step back ends at the floor; a step forward is followed, and so is its way back to
the floor. What stays ahead for an hour becomes the floor.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from regalia.host.clock import Clock

STEP_S = 5.0  # seconds in which wall clock and clock since boot may differ between two looks
SETTLED_S = 3600.0  # seconds after which a clock that is ahead is believed


class SteadyClock:
    """The time, and the earliest time that it can ever be again.

    Args:
        wall: the wall clock, which the host can set.
        since_boot: seconds that nobody can set, going on in suspend.
        on_step: called with the size of a step of the wall clock, in seconds.
    """

    def __init__(
        self, wall: Clock, since_boot: Callable[[], float], on_step: Callable[[float], None]
    ) -> None:
        self._wall = wall
        self._since_boot = since_boot
        self._on_step = on_step
        self._last = self._floor = (wall(), since_boot())
        self._ahead_since: float | None = None

    @property
    def earliest(self) -> datetime:
        """No later time is before this one."""
        moment, boot = self._floor
        return moment + timedelta(seconds=self._since_boot() - boot)

    def now(self) -> datetime:
        """The current time."""
        wall, boot = self._wall(), self._since_boot()
        step = (wall - self._last[0]).total_seconds() - (boot - self._last[1])
        self._last = (wall, boot)
        if abs(step) > STEP_S:
            self._ahead_since = None
            self._on_step(step)
        floor = self.earliest
        if (wall - floor).total_seconds() <= STEP_S:
            self._ahead_since = None
        elif self._ahead_since is None:
            self._ahead_since = boot
        elif boot - self._ahead_since >= SETTLED_S:
            self._floor, self._ahead_since = (wall, boot), None
        return max(wall, floor)
