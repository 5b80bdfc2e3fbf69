"""One generation at a time: a fair queue in front of the engine, and the way out of it.

The engine is synchronous and works in one thread of its own. A turn ends only when that thread
has let go of the generation, also when the client has left in the middle of it.
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
    """First come, first served; at most ``limit`` wait besides the one whose turn it is."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._busy = False
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def busy(self) -> bool:
        """Whether it is somebody's turn."""
        return self._busy

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def check_room(self) -> None:
        """Raise UnavailableError QUEUE_FULL if nobody else may wait."""
        if self._busy and len(self._waiting) >= self._limit:
            raise UnavailableError(
                RequestCode.QUEUE_FULL, f"{len(self._waiting)} requests are waiting"
            )

    async def take(self) -> None:
        """Wait for the turn."""
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
                self.give()  # the turn came in the same moment: pass it on
            else:
                with suppress(ValueError):
                    self._waiting.remove(place)
            raise

    def give(self) -> None:
        """End the turn; the next one in the queue has it."""
        while self._waiting:
            place = self._waiting.popleft()
            if not place.done():
                place.set_result(None)
                return
        self._busy = False


class Generations:
    """Runs generations of one engine.

    Args:
        engine: used from one thread only.
        queue: how many requests may wait.
        serving: False once the model is gone; what the engine says then is not passed on.
    """

    def __init__(self, engine: Engine, *, queue: int, serving: Callable[[], bool]) -> None:
        self._engine = engine
        self._serving = serving
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="engine")
        self.turns = Turns(queue)

    async def run(self, request: GenerationRequest) -> AsyncGenerator[TextDelta]:
        """Deltas of one generation. Close the iterator (``aclosing``) to stop it.

        Raises:
            UnavailableError: QUEUE_FULL, or NOT_SERVING when the model is gone.
            UsageError: what ``Engine.generate`` raises.
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
                if not self._serving():
                    raise UnavailableError(RequestCode.NOT_SERVING, "the model is gone")
                if delta is None:
                    return
                yield delta
        finally:
            self._end(loop, deltas)

    def _end(self, loop: asyncio.AbstractEventLoop, deltas: list[Iterator[TextDelta]]) -> None:
        # Not awaited: this may run inside a cancelled task. The one thread gets to it after the
        # step that it is in, and the turn ends after that.
        def close() -> None:
            for iterator in deltas:
                if (stop := getattr(iterator, "close", None)) is not None:
                    stop()
            deltas.clear()

        def passed_on(_: object) -> None:
            try:
                loop.call_soon_threadsafe(self.turns.give)
            except RuntimeError:  # the loop is closed: nobody waits in it any more
                self.turns.give()

        self._thread.submit(close).add_done_callback(passed_on)

    def shut(self) -> None:
        """Let the thread end after its step. New generations fail."""
        self._thread.shutdown(wait=False, cancel_futures=False)
