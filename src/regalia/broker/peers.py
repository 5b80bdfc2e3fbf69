"""Who asks, and how much each of them may cost.

A peer may cause a number of refusals in a minute; a request that gets a key costs it nothing. What
goes beyond is refused before its body is read. Peers that hold a lease have a second allowance, and
places of their own at the edge, so that strangers cannot keep them from renewing.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

from regalia.broker.codes import BrokerCode
from regalia.core.errors import (
    AttestationError,
    IntegrityError,
    ParseError,
    PolicyDenied,
    UnavailableError,
)
from regalia.host.events import ServiceEvent, emit
from regalia.host.peers import Allowances

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from regalia.broker.leases import HeldLease

_MINUTE_S = 60.0


class Peers:
    """Counts the refusals of each peer, and knows which peers hold leases. Thread-safe.

    Args:
        refusals_per_minute: that one peer may cause.
        held: unexpired leases at the start.
    """

    def __init__(self, refusals_per_minute: int, held: Iterable[HeldLease]) -> None:
        self._strangers = Allowances(refusals_per_minute, seconds=_MINUTE_S)
        self._reserve = Allowances(refusals_per_minute, seconds=_MINUTE_S)
        self._holders: dict[str, datetime] = {}
        self._lock = threading.Lock()
        for lease in held:
            self.granted(lease.peer, lease.until)

    def granted(self, peer: str, until: datetime) -> None:
        """Remember that a peer holds a lease.

        Args:
            peer: address that the lease was granted to.
            until: end of the lease.
        """
        with self._lock:
            self._holders[peer] = max(until, self._holders.get(peer, until))

    def holds(self, peer: str, now: datetime) -> bool:
        """Whether a peer holds a lease.

        Args:
            peer: address.
            now: current time, timezone-aware.
        """
        with self._lock:
            return self._holds(peer, now)

    def require(self, peer: str, now: datetime) -> None:
        """Check that a peer has not used up what it may cost; takes nothing.

        Args:
            peer: address.
            now: current time, timezone-aware.

        Raises:
            UnavailableError: PEER_LIMITED.
        """
        seconds = now.timestamp()
        with self._lock:
            allowed = any(which.has(peer, seconds) for which in self._allowances(peer, now))
            if not allowed:
                self._strangers.take(peer, seconds)  # counts the refusal
        if not allowed:
            self._limited(peer)

    @contextmanager
    def admitted(self, peer: str, now: datetime) -> Iterator[None]:
        """Charge a peer for one request, unless the block ends well or the broker itself fails.

        Args:
            peer: address.
            now: current time, timezone-aware.

        Raises:
            UnavailableError: PEER_LIMITED.
        """
        seconds = now.timestamp()
        with self._lock:
            allowances = self._allowances(peer, now)
            taken = next((which for which in allowances if which.take(peer, seconds)), None)
        if taken is None:
            self._limited(peer)
        try:
            yield
        except (ParseError, AttestationError, PolicyDenied, IntegrityError):
            raise
        except BaseException:
            self._give_back(taken, peer)
            raise
        self._give_back(taken, peer)

    def _allowances(self, peer: str, now: datetime) -> tuple[Allowances, ...]:
        if self._holds(peer, now):
            return (self._strangers, self._reserve)
        return (self._strangers,)

    def _holds(self, peer: str, now: datetime) -> bool:
        until = self._holders.get(peer)
        if until is not None and until <= now:
            del self._holders[peer]
        return until is not None and until > now

    def _give_back(self, taken: Allowances, peer: str) -> None:
        with self._lock:
            taken.give_back(peer)

    def _limited(self, peer: str) -> NoReturn:
        with self._lock:
            refused = self._strangers.refused(peer)
        # Powers of two tell of a beginning and of its size, in few lines.
        if refused & (refused - 1) == 0:
            emit(ServiceEvent.PEER_LIMITED, peer=peer, refused=refused)
        raise UnavailableError(
            BrokerCode.PEER_LIMITED, "this address has caused too many refusals in a minute"
        )
