"""Who is at the other end of a connection, and a number of tokens for each of them."""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from dataclasses import dataclass

_IPV6_PREFIX = 64  # bits; a smaller part of an IPv6 address is free to choose for whoever has it
PEERS_MAX = 10_000  # remembered at one time; who has not asked for longest is forgotten


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
    filled: float  # seconds, on the clock of its user
    refused: int = 0  # since a token was there


class Allowances:
    """A number of tokens for each key, which come back evenly over some time. Not thread-safe.

    Args:
        most: number of tokens, and how many come back in ``seconds``.
        seconds: that all of them take to come back.
    """

    def __init__(self, most: float, *, seconds: float) -> None:
        self._most = float(most)
        self._per_second = most / seconds
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def take(self, key: str, now: float) -> bool:
        """Take a token. Returns whether there was one.

        Args:
            key: whose token.
            now: seconds, on one clock for all calls.
        """
        bucket = self._filled(key, now)
        if bucket.tokens < 1:
            bucket.refused += 1
            return False
        bucket.tokens -= 1
        bucket.refused = 0
        return True

    def has(self, key: str, now: float) -> bool:
        """Whether there is a token.

        Args:
            key: whose token.
            now: seconds, on one clock for all calls.
        """
        return self._filled(key, now).tokens >= 1

    def wait_s(self, key: str, now: float) -> float:
        """Seconds until there is a token; 0 if there is one.

        Args:
            key: whose token.
            now: seconds, on one clock for all calls.
        """
        return max(0.0, 1 - self._filled(key, now).tokens) / self._per_second

    def give_back(self, key: str) -> None:
        """Give a token back."""
        bucket = self._buckets.get(key)
        if bucket is not None:
            bucket.tokens = min(self._most, bucket.tokens + 1)

    def refused(self, key: str) -> int:
        """How often there was no token, since there was one."""
        bucket = self._buckets.get(key)
        return 0 if bucket is None else bucket.refused

    def _filled(self, key: str, now: float) -> _Bucket:
        bucket = self._buckets.pop(key, None) or _Bucket(self._most, now)
        elapsed = max(0.0, now - bucket.filled)
        bucket.tokens = min(self._most, bucket.tokens + elapsed * self._per_second)
        bucket.filled = now
        self._buckets[key] = bucket
        if len(self._buckets) > PEERS_MAX:
            self._buckets.popitem(last=False)
        return bucket
