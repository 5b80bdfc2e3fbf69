"""Runs generations one at a time, behind a first-in, first-out queue of bounded length.

The engine is synchronous and works in one thread of its own. A turn ends only after that thread
has closed the generation, even if the client disconnected in the middle of it; otherwise two
generations could use the engine at once.
"""

from __future__ import annotations

import asyncio
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING

from regalia.core.errors import UnavailableError
from regalia.runtime.codes import RequestCode

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator

    from regalia.engines.base import Engine, GenerationRequest, TextDelta


class Turns:
    """A fair lock for one event loop, with at most ``limit`` waiters besides the holder."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._busy = False
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def busy(self) -> bool:
        """Whether the turn is taken."""
        return self._busy

    @property
    def waiting(self) -> int:
        """Number of requests that wait for their turn."""
        return len(self._waiting)

    def check_room(self) -> None:
        """Raise UnavailableError QUEUE_FULL if the turn is taken and the queue is full."""
        if self._busy and len(self._waiting) >= self._limit:
            raise UnavailableError(
                RequestCode.QUEUE_FULL, f"{len(self._waiting)} requests are waiting"
            )

    async def take(self) -> None:
        """Wait for the turn and take it. Raises as ``check_room``."""
        self.check_room()
        if not self._busy:
            self._busy = True
            return
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                # ``give`` chose this request just before the cancellation arrived. Pass the turn
                # on, or no request would ever get it again.
                self.give()
            else:
                with suppress(ValueError):
                    self._waiting.remove(place)
            raise

    def give(self) -> None:
        """End the turn, and hand it to the first request in the queue."""
        while self._waiting:
            place = self._waiting.popleft()
            if not place.done():
                place.set_result(None)
                return
        self._busy = False


class Generations:
    """Runs the generations of one engine.

    Args:
        engine: used from one thread only.
        queue: number of requests that may wait.
        serving: tells whether the model is still loaded; once it returns False, the engine's
            output is computed from wiped weights and is discarded.
    """

    def __init__(self, engine: Engine, *, queue: int, serving: Callable[[], bool]) -> None:
        self._engine = engine
        self._serving = serving
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="engine")
        self.turns = Turns(queue)

    async def run(self, request: GenerationRequest) -> AsyncGenerator[TextDelta]:
        """Yield the deltas of one generation. Close the iterator (``aclosing``) to stop it.

        Raises:
            UnavailableError: QUEUE_FULL, or NOT_SERVING once the model was wiped.
            UsageError: the engine refuses the request; see ``Engine.generate``.
        """
        loop = asyncio.get_running_loop()
        await self.turns.take()
        deltas: list[Iterator[TextDelta]] = []

        def begin() -> None:
            deltas.append(self._engine.generate(request))

        def step() -> TextDelta | None:
            return next(deltas[0], None) if self._serving() else None

        try:
            await loop.run_in_executor(self._thread, begin)
            while True:
                delta = await loop.run_in_executor(self._thread, step)
                # Asked again: the weights may have been wiped while the step was computing.
                if not self._serving():
                    raise UnavailableError(RequestCode.NOT_SERVING, "the model is gone")
                if delta is None:
                    return
                yield delta
        finally:
            self._end(loop, deltas)

    def _end(self, loop: asyncio.AbstractEventLoop, deltas: list[Iterator[TextDelta]]) -> None:
        # Not awaited, because this may run inside a cancelled task. The engine's thread closes
        # the generation after its current step, and only then does the turn end.
        def close() -> None:
            for iterator in deltas:
                if (stop := getattr(iterator, "close", None)) is not None:
                    stop()
            deltas.clear()

        def passed_on(_: object) -> None:
            try:
                loop.call_soon_threadsafe(self.turns.give)
            except RuntimeError:  # the loop is closed, so no task waits in it any more
                self.turns.give()

        self._thread.submit(close).add_done_callback(passed_on)

    def shut(self) -> None:
        """Let the thread end after its current step. New generations fail."""
        self._thread.shutdown(wait=False, cancel_futures=False)
