"""Refuses replayed requests of the sealed channel. Spec: docs/spec/sealed-channel.md, "Replay".

The encapsulated key identifies a request, and the encrypted part holds its date. A request is
accepted within ``DATE_WINDOW_S`` of its date, and remembered for as long as it could be accepted
again. RFC 9458, section 6.5, describes replay protection by a date.
"""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from regalia.host.events import ServiceEvent, emit
from regalia.runtime.codes import RequestCode
from regalia.runtime.lease import since_boot
from regalia.runtime.openai.errors import ApiError
from regalia.runtime.steady_clock import SteadyClock
from regalia.wire.serving import DATE_WINDOW_S

if TYPE_CHECKING:
    from collections.abc import Callable

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

    A request is remembered until its time can never come again, even if the host sets the clock
    back; otherwise a host could make a recorded request fresh again.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        since_boot: Callable[[], float] = since_boot,
        capacity: int = CAPACITY,
    ) -> None:
        """Remember nothing yet.

        Args:
            clock: the wall clock.
            since_boot: seconds that nobody can set.
            capacity: number of requests that can be remembered.
        """
        self._clock = SteadyClock(clock, since_boot, _alarm)
        self._capacity = capacity
        self._seen: set[bytes] = set()
        self._until: list[tuple[datetime, bytes, str]] = []  # a heap: what may be forgotten first
        self._of: Counter[str] = Counter()  # remembered requests by peer

    def __len__(self) -> int:
        return len(self._seen)

    def require_admissible(self, enc: bytes, date: str | None, peer: str) -> None:
        """Accept a request the first time, and remember it.

        One peer may fill three quarters of the memory, so that others can always ask.

        Args:
            enc: encapsulated key of the request.
            date: value of its date field, from the decrypted request; None if there is none.
            peer: whose it is, as ``host.peers.peer_of`` says.

        Raises:
            ApiError: REQUEST_DATE_REFUSED, REQUEST_REPLAYED or REPLAY_MEMORY_FULL.
        """
        now = self._clock.now()
        self._forget(self._clock.earliest)
        moment = self._checked_date(date, now)
        name = hashlib.sha256(enc).digest()
        if name in self._seen:
            raise ApiError(RequestCode.REQUEST_REPLAYED, "This sealed request was answered before.")
        # Forgetting the oldest request instead would make it replayable, so fail closed.
        share = self._capacity - self._capacity // 4
        if len(self._seen) >= self._capacity or self._of[peer] >= share:
            raise ApiError(RequestCode.REPLAY_MEMORY_FULL, "Too many requests in a few minutes.")
        self._seen.add(name)
        self._of[peer] += 1
        heapq.heappush(self._until, (moment + timedelta(seconds=DATE_WINDOW_S), name, peer))

    def _checked_date(self, date: str | None, now: datetime) -> datetime:
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
        return moment

    def _forget(self, earliest: datetime) -> None:
        """Forget requests whose date will be refused from here on, whatever the clock does."""
        while self._until and self._until[0][0] < earliest:
            _, name, peer = heapq.heappop(self._until)
            self._seen.discard(name)
            self._of[peer] -= 1
            if not self._of[peer]:
                del self._of[peer]


def _alarm(step: float) -> None:
    emit(ServiceEvent.CLOCK_STEPPED, seconds=round(step, 1))
