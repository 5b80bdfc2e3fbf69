"""Which refusals have an entry of their own in the log, and how many have none.

Anybody can have a request refused, and the log is kept for ever. So its entries of refusals are
bounded in a minute, and a notice says how many have none. Refusals of evidence that was verified
have a bound of their own: rubbish cannot crowd out what genuine hardware was refused for.
"""

from __future__ import annotations

import threading
from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING

from regalia.core.clock import parse_rfc3339, rfc3339
from regalia.host.peers import Allowances
from regalia.wire.release import NOTICE_FORMAT, LogNotice

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

TOLD_AFTER = timedelta(minutes=1)
_CODES_MAX = 20  # in one notice, the most frequent ones


class DenialCounter:
    """Counts refusals that have no entry of their own. Thread-safe.

    Args:
        per_minute: refusals of one kind, verified or not, that have an entry of their own.
    """

    def __init__(self, per_minute: int) -> None:
        self._allowances = Allowances(per_minute, seconds=60.0)
        self._codes: Counter[str] = Counter()
        self._count = 0
        self._since: datetime | None = None
        self._lock = threading.Lock()

    def counted(self, codes: Iterable[str], *, verified: bool, now: datetime) -> bool:
        """Count a refusal, if there are too many for entries of their own. Returns whether it was.

        Args:
            codes: of its reasons.
            verified: whether its evidence was verified.
            now: current time, timezone-aware.
        """
        kind = "verified" if verified else "rubbish"
        with self._lock:
            if self._allowances.take(kind, now.timestamp()):
                return False
            self._count += 1
            self._codes.update(set(codes))
            self._since = self._since or now
            return True

    def notice(self, broker: str, now: datetime, *, after: timedelta) -> LogNotice | None:
        """Take what was counted, for the log; None if there is nothing, or it is too early.

        Args:
            broker: the log's origin.
            now: current time, timezone-aware.
            after: since the first refusal that was counted.
        """
        with self._lock:
            if self._since is None or now < self._since + after:
                return None
            codes = self._codes.most_common(_CODES_MAX)
            taken = LogNotice(
                format=NOTICE_FORMAT,
                kind="denials-counted",
                time=rfc3339(now),
                since=rfc3339(self._since),
                broker=broker,
                count=self._count,
                what=", ".join(f"{code} {count}" for code, count in codes),
            )
            self._forget()
            return taken

    def put_back(self, notice: LogNotice) -> None:
        """Count again what could not be written; its codes are lost."""
        with self._lock:
            self._count += notice.count
            self._since = parse_rfc3339(notice.since)

    def _forget(self) -> None:
        self._count, self._since = 0, None
        self._codes.clear()
