"""Places for work, which peers get in turn: whoever asks often waits for itself.

Used from one event loop.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor

T = TypeVar("T")


class LineFullError(Exception):
    """Too many wait already, of all peers or of this one."""


class FairPlaces:
    """A number of places, and one line of waiting work for each peer.

    A place that gets free goes to the peer whose turn was longest ago. So with N places nobody
    waits for more than the work of each other peer once, however much of it one of them brings.

    Args:
        places: number of pieces of work at a time.
        waiting: number that may wait; None if something else bounds it. One peer may have three
            quarters of them.
    """

    def __init__(self, places: int, waiting: int | None = None) -> None:
        self._free = places
        self._waiting_max = waiting
        self._lines: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    @property
    def waiting(self) -> int:
        """Number of pieces of work that wait."""
        return sum(map(len, self._lines.values()))

    async def run(self, peer: str, work: Callable[[], T], executor: Executor | None = None) -> T:
        """Wait for a place, and do the work in a thread.

        A thread cannot be stopped. So whoever leaves meanwhile keeps the place until the work is
        done: otherwise many could come, leave, and have more done than there are places.

        Args:
            peer: whose work it is.
            work: blocks.
            executor: its threads; None for those of the event loop.

        Raises:
            LineFullError: too many wait.
        """
        await self._take(peer)
        try:
            done = asyncio.get_running_loop().run_in_executor(executor, work)
        except BaseException:
            self._give_on()
            raise
        done.add_done_callback(self._after)
        return await asyncio.shield(done)

    def _after(self, done: asyncio.Future[T]) -> None:
        if not done.cancelled():
            done.exception()  # nobody may be there to take it
        self._give_on()

    async def _take(self, peer: str) -> None:
        if self._free and not self._lines:
            self._free -= 1
            return
        self._require_room(peer)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._lines.setdefault(peer, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._give_on()  # it was this one's turn already
            else:
                self._leave(peer, turn)
            raise

    def _require_room(self, peer: str) -> None:
        most = self._waiting_max
        if most is None:
            return
        mine = len(self._lines.get(peer, ()))
        if self.waiting >= most or mine >= most - most // 4:
            raise LineFullError

    def _leave(self, peer: str, turn: asyncio.Future[None]) -> None:
        """Take a turn out of its line, unless it was passed over already."""
        line = self._lines.get(peer)
        if line is None or turn not in line:
            return
        line.remove(turn)
        if not line:
            del self._lines[peer]

    def _give_on(self) -> None:
        """The next peer's first piece of work has the place, if anybody still waits."""
        while self._lines:
            peer, line = next(iter(self._lines.items()))
            turn = line.popleft()
            if line:
                self._lines.move_to_end(peer)
            else:
                del self._lines[peer]
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1
