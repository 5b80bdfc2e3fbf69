"""Whether collateral that came in a bundle is in date: asked again at every appraisal, because a
bundle may expire while a service runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from regalia.appraisal.codes import AttestCode
from regalia.core.clock import rfc3339
from regalia.core.errors import AttestationError

if TYPE_CHECKING:
    from datetime import datetime, timedelta


class Freshness(StrEnum):
    """How a bundle stands to its dates."""

    CURRENT = "current"
    GRACE = "grace"  # past its next update, by no more than the grace that a policy gives


@dataclass(frozen=True, slots=True)
class Validity:
    """A bundle's own dates.

    Attributes:
        what: the bundle, for messages.
        issued: not before this moment.
        next_update: until this moment, included.
    """

    what: str
    issued: datetime
    next_update: datetime

    def __str__(self) -> str:
        return f"{rfc3339(self.issued)} to {rfc3339(self.next_update)}"

    def require(self, now: datetime, grace: timedelta) -> Freshness:
        """In date, or late by no more than ``grace``. Grace is for lateness alone.

        Args:
            now: the moment of the appraisal, aware.
            grace: how long it counts after its next update.

        Raises:
            AttestationError: COLLATERAL_STALE.
            ValueError: ``now`` has no time zone (the caller's bug).
        """
        if now.tzinfo is None:
            raise ValueError("now has no time zone")
        if self.issued <= now <= self.next_update:
            return Freshness.CURRENT
        if self.next_update < now <= self.next_update + grace:
            return Freshness.GRACE
        allowed = f", and {grace.days} days of grace" if grace else ""
        raise AttestationError(
            AttestCode.COLLATERAL_STALE,
            f"{self.what} is in date from {self}{allowed}; now is {rfc3339(now)}",
        )
