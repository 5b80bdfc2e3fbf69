"""Who asks, and how much each of them may cost.

A peer may cause a number of refusals in a minute; a request that gets a key costs it nothing. What
goes beyond is refused before its body is read. Peers that hold a lease have a second allowance, and
places of their own at the edge, so that strangers cannot keep them from renewing.
"""

from __future__ import annotations

import ipaddress
import threading
from collections import OrderedDict
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from regalia.broker.codes import BrokerCode
from regalia.core.errors import (
    AttestationError,
    IntegrityError,
    ParseError,
    PolicyDenied,
    UnavailableError,
)
from regalia.host.events import ServiceEvent, emit

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from regalia.broker.leases import HeldLease

_IPV6_PREFIX = 64  # bits; a smaller part of an IPv6 address is free to choose for whoever has it
PEERS_MAX = 10_000  # remembered at one time; who has not asked for longest is forgotten
_MINUTE = 60.0  # seconds


def peer_of(host: str) -> str:
    """The peer that an address belongs to: itself, or for IPv6 its /64 network.

    Args:
        host: address of the other end of a connection; empty if it has none.
    """
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, _IPV6_PREFIX), strict=False))
    return str(address)


@dataclass(slots=True)
class _Bucket:
    tokens: float
    filled: float  # seconds since 1970
    refused: int = 0  # since a token was there


class Allowances:
    """A number of tokens for each key, which come back evenly over a minute. Not thread-safe.

    Args:
        per_minute: number of tokens, and how many come back in a minute.
    """

    def __init__(self, per_minute: int) -> None:
        self._most = float(per_minute)
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def take(self, key: str, now: datetime) -> bool:
        """Take a token. Returns whether there was one.

        Args:
            key: whose token.
            now: current time, timezone-aware.
        """
        bucket = self._filled(key, now)
        if bucket.tokens < 1:
            bucket.refused += 1
            return False
        bucket.tokens -= 1
        bucket.refused = 0
        return True

    def has(self, key: str, now: datetime) -> bool:
        """Whether there is a token.

        Args:
            key: whose token.
            now: current time, timezone-aware.
        """
        return self._filled(key, now).tokens >= 1

    def give_back(self, key: str) -> None:
        """Give a token back."""
        bucket = self._buckets.get(key)
        if bucket is not None:
            bucket.tokens = min(self._most, bucket.tokens + 1)

    def refused(self, key: str) -> int:
        """How often there was no token, since there was one."""
        bucket = self._buckets.get(key)
        return 0 if bucket is None else bucket.refused

    def _filled(self, key: str, now: datetime) -> _Bucket:
        seconds = now.timestamp()
        bucket = self._buckets.pop(key, None) or _Bucket(self._most, seconds)
        elapsed = max(0.0, seconds - bucket.filled)
        bucket.tokens = min(self._most, bucket.tokens + elapsed * self._most / _MINUTE)
        bucket.filled = seconds
        self._buckets[key] = bucket
        if len(self._buckets) > PEERS_MAX:
            self._buckets.popitem(last=False)
        return bucket


class Peers:
    """Counts the refusals of each peer, and knows which peers hold leases. Thread-safe.

    Args:
        refusals_per_minute: that one peer may cause.
        held: unexpired leases at the start.
    """

    def __init__(self, refusals_per_minute: int, held: Iterable[HeldLease]) -> None:
        self._strangers = Allowances(refusals_per_minute)
        self._reserve = Allowances(refusals_per_minute)
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
        with self._lock:
            allowed = any(which.has(peer, now) for which in self._allowances(peer, now))
            if not allowed:
                self._strangers.take(peer, now)  # counts the refusal
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
        with self._lock:
            allowances = self._allowances(peer, now)
            taken = next((which for which in allowances if which.take(peer, now)), None)
        if taken is None:
            self._limited(peer)
            return
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

    def _limited(self, peer: str) -> None:
        with self._lock:
            refused = self._strangers.refused(peer)
        # Powers of two tell of a beginning and of its size, in few lines.
        if refused & (refused - 1) == 0:
            emit(ServiceEvent.PEER_LIMITED, peer=peer, refused=refused)
        raise UnavailableError(
            BrokerCode.PEER_LIMITED, "this address has caused too many refusals in a minute"
        )
