"""Sealed requests are answered once. Spec: docs/spec/sealed-channel.md, "Replay".

A request is named by its encapsulated key, and dated inside the seal. It is accepted within
``DATE_WINDOW_S`` of its date, and remembered for as long as it could be accepted again.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from regalia.runtime.codes import RequestCode
from regalia.runtime.openai.errors import ApiError
from regalia.wire.serving import DATE_WINDOW_S

if TYPE_CHECKING:
    from regalia.host.clock import Clock

CAPACITY = 200_000  # requests remembered, some 30 MB
_HTTP_DATE = "%a, %d %b %Y %H:%M:%S GMT"  # IMF-fixdate, RFC 9110 section 5.6.7


def parse_http_date(text: str) -> datetime:
    """IMF-fixdate. Raises ValueError."""
    return datetime.strptime(text, _HTTP_DATE).replace(tzinfo=UTC)


class ReplayMemory:
    """Remembers the requests of the last minutes.

    Its time never goes back, whatever the machine's clock does: a host that turns the clock back
    cannot make an old recording fresh again.
    """

    def __init__(self, clock: Clock, *, capacity: int = CAPACITY) -> None:
        self._clock = clock
        self._capacity = capacity
        self._latest = datetime.min.replace(tzinfo=UTC)
        self._seen: dict[bytes, datetime] = {}  # name -> when it may be forgotten, in that order

    def __len__(self) -> int:
        return len(self._seen)

    def require_admissible(self, enc: bytes, date: str | None) -> None:
        """Accept a request once.

        Args:
            enc: its encapsulated key.
            date: its date field, from inside the seal.

        Raises:
            ApiError: REQUEST_DATE_REFUSED, REQUEST_REPLAYED or REPLAY_MEMORY_FULL.
        """
        self._latest = now = max(self._latest, self._clock())
        self._forget(now)
        self._check_date(date, now)
        name = hashlib.sha256(enc).digest()
        if name in self._seen:
            raise ApiError(RequestCode.REQUEST_REPLAYED, "This sealed request was answered before.")
        if len(self._seen) >= self._capacity:
            raise ApiError(RequestCode.REPLAY_MEMORY_FULL, "Too many requests in a few minutes.")
        # A date in the future by a full window stays acceptable for two.
        self._seen[name] = now + timedelta(seconds=2 * DATE_WINDOW_S)

    def _check_date(self, date: str | None, now: datetime) -> None:
        if date is None:
            raise ApiError(RequestCode.REQUEST_DATE_REFUSED, "The sealed request has no date.")
        try:
            moment = parse_http_date(date)
        except ValueError:
            raise ApiError(
                RequestCode.REQUEST_DATE_REFUSED, "The date is not in the form of RFC 9110."
            ) from None
        if abs((now - moment).total_seconds()) > DATE_WINDOW_S:
            raise ApiError(
                RequestCode.REQUEST_DATE_REFUSED,
                f"The request is dated {date}; the runtime's time is {now.strftime(_HTTP_DATE)}.",
            )

    def _forget(self, now: datetime) -> None:
        while self._seen:
            name, until = next(iter(self._seen.items()))
            if until >= now:
                return
            del self._seen[name]
