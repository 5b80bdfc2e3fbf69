"""Bounds the bytes of all requests that are in progress together.

If they are too many, the largest request that is still arriving is given up: whoever has sent much
and not all of it makes room for the others.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


class InflightRequest:
    """The bytes of one request."""

    def __init__(self, all_of_them: Inflight) -> None:
        self._all = all_of_them
        self._deadline: asyncio.Timeout | None = None
        self.size = 0
        self.evicted = False  # given up in favor of others

    @property
    def is_arriving(self) -> bool:
        """Whether more of it may come."""
        return self._deadline is not None

    @asynccontextmanager
    async def arriving(self, seconds: float) -> AsyncIterator[None]:
        """The time in which the request arrives.

        Raises:
            TimeoutError: it took longer than ``seconds``, or the request was evicted.
        """
        async with asyncio.timeout(seconds) as deadline:
            self._deadline = deadline
            try:
                yield
            finally:
                self._deadline = None

    def grow(self, size: int) -> None:
        """Count ``size`` more bytes that have arrived."""
        self.size += size
        self._all.make_room()

    def evict(self) -> None:
        """Give the request up: what waits for more of it ends with TimeoutError."""
        if self._deadline is not None:
            self.evicted = True
            self._deadline.reschedule(asyncio.get_running_loop().time())


class Inflight:
    """All requests of one gateway. ``most`` is the number of bytes that they may have together."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._requests: set[InflightRequest] = set()

    @contextmanager
    def request(self) -> Iterator[InflightRequest]:
        """A request, from its first byte to the end of its answer."""
        request = InflightRequest(self)
        self._requests.add(request)
        try:
            yield request
        finally:
            self._requests.discard(request)

    def make_room(self) -> None:
        """Evict the largest request that is arriving, if all together are too large."""
        if sum(request.size for request in self._requests if not request.evicted) <= self._most:
            return
        arriving = [item for item in self._requests if item.is_arriving and not item.evicted]
        if arriving:
            max(arriving, key=lambda item: item.size).evict()
