"""How our documents write a moment. The clock itself is read in ``host.clock`` only."""

from __future__ import annotations

from datetime import UTC, datetime


def rfc3339(moment: datetime) -> str:
    """``2026-11-22T10:00:00Z``: whole seconds, UTC, the only form that our documents carry."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_rfc3339(text: str) -> datetime:
    """Inverse of ``rfc3339``; raises ValueError for any other spelling."""
    moment = datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    if rfc3339(moment) != text:  # strptime reads single digits, and those of other scripts
        raise ValueError("not in the one form of a time")
    return moment
