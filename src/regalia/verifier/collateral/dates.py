"""How each piece of collateral stands to its dates."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from regalia.appraisal.collateral import Item

SOON = timedelta(days=7)


class Dates(StrEnum):
    """For people; verifiers look at the dates themselves."""

    UNDATED = "no date"
    IN_DATE = "in date"
    SOON = "ends soon"  # within seven days
    EXPIRED = "expired"
    NOT_YET = "not yet valid"

    @property
    def is_stale(self) -> bool:
        """Whether a verifier would refuse it."""
        return self in (Dates.EXPIRED, Dates.NOT_YET)


def dates_of(item: Item, now: datetime) -> Dates:
    """Where ``now`` lies.

    Args:
        item: with dates of its own, or none.
        now: aware.
    """
    if item.valid_from is not None and now < item.valid_from:
        return Dates.NOT_YET
    if item.valid_until is None:
        return Dates.UNDATED
    if item.valid_until < now:
        return Dates.EXPIRED
    return Dates.SOON if item.valid_until - now <= SOON else Dates.IN_DATE
