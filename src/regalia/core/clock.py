"""The text form of points in time. ``host.clock`` reads the clock; other code takes ``now``."""

from __future__ import annotations

from datetime import UTC, datetime

_YEAR_MIN = 1000


def rfc3339(moment: datetime) -> str:
    """Format as ``2026-11-22T10:00:00Z``, the only form in our documents: whole seconds, UTC."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_rfc3339(text: str) -> datetime:
    """Parse a time. Inverse of ``rfc3339``. Raises ValueError for any other form."""
    moment = datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    # strptime also accepts missing leading zeros and the digits of other scripts.
    if rfc3339(moment) != text:
        raise ValueError("not in the one form of a time")
    if moment.year < _YEAR_MIN:  # whose four digits not every C library writes
        raise ValueError("a year before 1000")
    return moment
