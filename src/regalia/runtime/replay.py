"""Refuses replayed requests of the sealed channel. Spec: docs/spec/sealed-channel.md, "Replay".

The encapsulated key identifies a request, and the encrypted part holds its date. A request is
accepted within ``DATE_WINDOW_S`` of its date, and remembered for as long as it could be accepted
again. RFC 9458, section 6.5, describes replay protection by a date.
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

CAPACITY = 200_000  # remembered requests, which take about 30 MB
_HTTP_DATE = "%a, %d %b %Y %H:%M:%S GMT"  # IMF-fixdate, RFC 9110 section 5.6.7


def parse_http_date(text: str) -> datetime:
    """Parse an IMF-fixdate. Raises ValueError for any other form."""
    moment = datetime.strptime(text, _HTTP_DATE).replace(tzinfo=UTC)
    # strptime also accepts other cases, missing leading zeros and any day of the week.
    if moment.strftime(_HTTP_DATE) != text:
        raise ValueError("not in the one form of a date")
    return moment


class ReplayMemory:
    """Remembers the requests of the last few minutes.

    Its time never goes backwards, even if the host sets the clock back; otherwise a host could
    make a recorded request fresh again.
    """

    def __init__(self, clock: Clock, *, capacity: int = CAPACITY) -> None:
        self._clock = clock
        self._capacity = capacity
        self._latest = datetime.min.replace(tzinfo=UTC)
        self._seen: dict[bytes, datetime] = {}  # name -> when it may be forgotten, in that order

    def __len__(self) -> int:
        return len(self._seen)

    def require_admissible(self, enc: bytes, date: str | None) -> None:
        """Accept a request the first time, and remember it.

        Args:
            enc: encapsulated key of the request.
            date: value of its date field, from the decrypted request; None if there is none.

        Raises:
            ApiError: REQUEST_DATE_REFUSED, REQUEST_REPLAYED or REPLAY_MEMORY_FULL.
        """
        self._latest = now = max(self._latest, self._clock())
        self._forget(now)
        self._check_date(date, now)
        name = hashlib.sha256(enc).digest()
        if name in self._seen:
            raise ApiError(RequestCode.REQUEST_REPLAYED, "This sealed request was answered before.")
        # Forgetting the oldest request instead would make it replayable, so fail closed.
        if len(self._seen) >= self._capacity:
            raise ApiError(RequestCode.REPLAY_MEMORY_FULL, "Too many requests in a few minutes.")
        # A date one window ahead is accepted until two windows have passed, so remember the
        # request that long.
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
        # Every entry lives equally long and time never goes back, so insertion order is the
        # order of expiry.
        while self._seen:
            name, until = next(iter(self._seen.items()))
            if until >= now:
                return
            del self._seen[name]
