"""Runs requests to one model side by side, and waits for none of their readers.

The engine is synchronous and works in one thread of its own, which takes one step of one
generation at a time: the next step goes to the generation that has used the least time so far. So
a short answer does not wait for the end of a long one. Each generation puts its pieces into a
queue of its own, of bounded length, from which its reader takes them. If that queue is full, the
generation is passed over until its reader takes something, and given up if it does not.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter, deque
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from regalia.core.errors import UnavailableError
from regalia.engines.base import Embedder, TextDelta
from regalia.runtime.codes import RequestCode

if TYPE_CHECKING:
    from array import array
    from collections.abc import AsyncGenerator, Callable, Iterator

    from regalia.core.errors import Code
    from regalia.engines.base import GenerationRequest, ServedModel

P = TypeVar("P")

_LOOK_S = 0.25  # between two looks at deadlines while no generation can take a step


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationLimits:
    """Bounds of the generations of one engine.

    Attributes:
        parallel: number of generations whose steps alternate; each keeps what the model has read.
            No caller gets the last free place if it holds all others.
        queue: number of generations that may wait for one of these places.
        per_caller: number of generations of one listed caller, waiting ones included.
        unread: pieces of an answer that may wait for their reader.
        stall_s: seconds that a reader may take nothing although that many pieces wait.
        contended_s: seconds that a generation may spend like this in all, while others wait for
            its place.
        answer_s: seconds from the request to the end of the answer, waiting included.
    """

    parallel: int = 4
    queue: int = 32
    per_caller: int = 16
    unread: int = 1024
    stall_s: float = 30.0
    contended_s: float = 2.0
    answer_s: float = 900.0


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose generations are counted together.

    Attributes:
        name: the name of a listed caller, or the address of a peer.
        listed: whether the configuration lists this caller. The address of a peer may be that
            of a relay, which stands for many; so it has no limit of its own.
    """

    name: str
    listed: bool


@dataclass(eq=False, slots=True)
class _Answer:
    """One request, and the pieces that its reader has not taken. Guarded by the condition."""

    begin: Callable[[], Iterator[Any]]
    caller: Caller
    deadline: float
    loop: asyncio.AbstractEventLoop
    news: asyncio.Event = field(default_factory=asyncio.Event)
    pieces: deque[Any] = field(default_factory=deque)
    steps: Iterator[Any] | None = None  # only the engine's thread uses it
    spent: float = 0.0  # seconds of the engine
    full_since: float | None = None
    stalled: float = 0.0  # seconds, without those since ``full_since``
    left: bool = False  # the reader is gone
    ended: bool = False
    error: Exception | None = None

    def end(self, error: Exception | None = None) -> None:
        """Let the reader come to the end once it has taken what is there."""
        self.ended, self.error = True, error
        self.tell()

    def tell(self) -> None:
        """Wake the reader up. Its loop may be closed, and then nobody reads."""
        try:
            self.loop.call_soon_threadsafe(self.news.set)
        except RuntimeError:
            self.left = True


class Generations:
    """Runs what one engine is asked for: generations, or batches of embeddings.

    Args:
        engine: used from one thread only.
        limits: bounds on their number, time and unread pieces.
        serving: tells whether the model is still loaded; once it returns False, the engine's
            output is computed from wiped weights and is discarded.
        on_abandoned: called with the code of each answer that was given up, from any thread.
    """

    def __init__(
        self,
        engine: ServedModel,
        limits: GenerationLimits,
        *,
        serving: Callable[[], bool],
        on_abandoned: Callable[[Code], None] = lambda _: None,
    ) -> None:
        self._engine = engine
        self._limits = limits
        self._parallel = limits.parallel if engine.interleaves else 1
        self._serving = serving
        self._on_abandoned = on_abandoned
        self._condition = threading.Condition()
        self._running: list[_Answer] = []
        self._queue: deque[_Answer] = deque()
        self._shut = False
        threading.Thread(target=self._work, name="engine", daemon=True).start()

    # For the event loop ------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Whether a generation has a place."""
        return bool(self._running)

    @property
    def waiting(self) -> int:
        """Number of generations that wait for a place."""
        return len(self._queue)

    def check_room(self, caller: Caller) -> None:
        """Look whether another generation of this caller may come.

        Raises:
            UnavailableError: QUEUE_FULL, or CALLER_BUSY if this caller has too many already.
        """
        with self._condition:
            inside = [*self._running, *self._queue]
            if len(inside) >= self._parallel + self._limits.queue:
                raise UnavailableError(
                    RequestCode.QUEUE_FULL, f"{len(self._queue)} requests are waiting"
                )
            theirs = sum(answer.caller == caller for answer in inside)
            if caller.listed and theirs >= self._limits.per_caller:
                raise UnavailableError(
                    RequestCode.CALLER_BUSY, f"{theirs} requests of this caller are in progress"
                )

    async def run(self, request: GenerationRequest, caller: Caller) -> AsyncGenerator[TextDelta]:
        """Yield the deltas of one generation. Close the iterator (``aclosing``) to stop it.

        Args:
            request: what to generate.
            caller: whose generations it is counted with.

        Raises:
            UnavailableError: as ``check_room``; NOT_SERVING once the model was wiped; or
                ANSWER_NOT_READ or ANSWER_TIMEOUT for an answer that was given up.
            UsageError: the engine refuses the request; see ``Engine.generate``.
            TypeError: the engine is an ``Embedder``.
        """
        engine = self._engine
        if isinstance(engine, Embedder):
            raise TypeError("this model does not generate")
        async with aclosing(self._steps(lambda: engine.generate(request), caller)) as deltas:
            async for delta in deltas:
                yield delta

    async def embed(
        self, inputs: tuple[tuple[int, ...], ...], caller: Caller
    ) -> AsyncGenerator[array[float]]:
        """Yield one vector for each input. Close the iterator (``aclosing``) to stop the work.

        Args:
            inputs: tokens of each input.
            caller: whose requests it is counted with.

        Raises:
            UnavailableError: as ``run``.
            UsageError: the engine refuses an input; see ``Embedder.embed``.
            TypeError: the engine is no ``Embedder``.
        """
        engine = self._engine
        if not isinstance(engine, Embedder):
            raise TypeError("this model does not embed")
        async with aclosing(self._steps(lambda: engine.embed(inputs), caller)) as vectors:
            async for vector in vectors:
                yield vector

    async def _steps(self, begin: Callable[[], Iterator[P]], caller: Caller) -> AsyncGenerator[P]:
        """Yield what the iterator yields that ``begin`` makes, both on the engine's thread."""
        deadline = time.monotonic() + self._limits.answer_s
        answer = _Answer(begin, caller, deadline, asyncio.get_running_loop())
        self.check_room(caller)
        with self._condition:
            self._queue.append(answer)
            self._condition.notify()
        try:
            while (delta := await self._take(answer)) is not None:
                yield delta
        finally:
            self._leave(answer)

    async def _take(self, answer: _Answer) -> Any:  # noqa: ANN401 - a piece of its kind
        """The next piece, as soon as there is one; None at the end."""
        while True:
            with self._condition:
                answer.news.clear()
                # Asked again: the weights may have been wiped while the step was computing.
                if not self._serving():
                    raise UnavailableError(RequestCode.NOT_SERVING, "the model is gone")
                if answer.pieces:
                    self._taken(answer)
                    return answer.pieces.popleft()
                if answer.ended:
                    if answer.error is not None:
                        raise answer.error
                    return None
            await answer.news.wait()

    def _taken(self, answer: _Answer) -> None:
        if answer.full_since is not None:
            answer.stalled += time.monotonic() - answer.full_since
            answer.full_since = None
            self._condition.notify()

    def _leave(self, answer: _Answer) -> None:
        # Not awaited, because this may run inside a cancelled task. The engine's thread closes
        # the generation after its current step.
        with self._condition:
            answer.left = True
            if answer in self._queue:
                self._queue.remove(answer)
            self._condition.notify()

    def shut(self) -> None:
        """Let the thread end after its current step. Generations in progress end with an error."""
        with self._condition:
            self._shut = True
            self._condition.notify()

    # For the engine's thread -------------------------------------------------------------------

    def _work(self) -> None:
        while True:
            with self._condition:
                over = self._over()
                step = None if over else self._next()
                if step is None and not over:
                    if self._shut:
                        return
                    inside = self._running or self._queue
                    self._condition.wait(_LOOK_S if inside else None)
            for answer in over:
                _close(answer)
            if step is not None:
                self._step(step)

    def _over(self) -> list[_Answer]:
        """End what cannot go on, and take from their places those that have ended."""
        now = time.monotonic()
        for answer in (*self._running, *self._queue):
            if not answer.ended and (refused := self._refusal(answer, now)) is not None:
                answer.pieces.clear()
                answer.end(refused)
                if refused.code is not RequestCode.NOT_SERVING:
                    self._on_abandoned(refused.code)
        self._queue = deque(answer for answer in self._queue if not answer.ended)
        over = [answer for answer in self._running if answer.ended or answer.left]
        self._running = [answer for answer in self._running if answer not in over]
        return over

    def _refusal(self, answer: _Answer, now: float) -> UnavailableError | None:
        """Why an answer is given up; None while it may go on."""
        limits = self._limits
        if self._shut or not self._serving():
            return UnavailableError(RequestCode.NOT_SERVING, "the model is gone")
        if now > answer.deadline:
            what = f"not complete after {limits.answer_s:.0f} s"
            return UnavailableError(RequestCode.ANSWER_TIMEOUT, what)
        if answer.full_since is None:
            return None
        since = now - answer.full_since
        contended = bool(self._queue) and answer.stalled + since > limits.contended_s
        if since > limits.stall_s or contended:
            what = f"{len(answer.pieces)} pieces of the answer were not taken"
            return UnavailableError(RequestCode.ANSWER_NOT_READ, what)
        return None

    def _next(self) -> _Answer | None:
        """Fill free places, and choose the generation that takes the next step."""
        least = min((answer.spent for answer in self._running), default=0.0)
        while (answer := self._first_in_line()) is not None:
            self._queue.remove(answer)
            answer.spent = least  # not less: those who were here would wait until it caught up
            self._running.insert(0, answer)  # of equals the first is taken
        ready = [answer for answer in self._running if answer.full_since is None]
        return min(ready, key=lambda answer: answer.spent, default=None)

    def _first_in_line(self) -> _Answer | None:
        """The next to get a place: the first in the queue of a caller with the fewest places."""
        free = self._parallel - len(self._running)
        places = Counter(answer.caller for answer in self._running)
        most = self._parallel - (2 if free == 1 < self._parallel else 1)
        able = (answer for answer in self._queue if places[answer.caller] <= most)
        return min(able, key=lambda item: places[item.caller], default=None) if free else None

    def _step(self, answer: _Answer) -> None:
        began = time.monotonic()
        delta, error = None, None
        try:
            if answer.steps is None:
                answer.steps = answer.begin()
            delta = next(answer.steps, None)
        except Exception as exc:  # noqa: BLE001 - raised again where the answer is read
            error = exc
        with self._condition:
            answer.spent += time.monotonic() - began
            if delta is None:
                answer.end(error)
                return
            answer.pieces.append(delta)
            if isinstance(delta, TextDelta) and delta.finish is not None:
                answer.end()
                return
            if len(answer.pieces) >= self._limits.unread:
                answer.full_since = time.monotonic()
            answer.tell()


def _close(answer: _Answer) -> None:
    """Discard what the engine keeps of a generation."""
    if (stop := getattr(answer.steps, "close", None)) is not None:
        stop()
    answer.steps = None
