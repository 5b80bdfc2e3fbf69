"""The only place that reads the wall clock. Everything below the services takes ``now``."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]


def system_clock() -> datetime:
    """Current time, aware, in UTC."""
    return datetime.now(UTC)
