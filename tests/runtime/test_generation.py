"""Generations side by side: fair to each other, and waiting for no reader."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import pytest

from regalia.core.errors import UnavailableError
from regalia.engines.base import Finish, GenerationRequest, TextDelta, Usage
from regalia.runtime.codes import RequestCode
from regalia.runtime.generation import Caller, GenerationLimits, Generations

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from regalia.core.errors import Code

STEP_S = 0.004
SOMEBODY, OTHER = Caller("10.0.0.1", listed=False), Caller("10.0.0.2", listed=False)


class CountingEngine:
    """Says one number in each step. The prompt's only token says how many."""

    model_name = "numbers"
    context_length = 10_000

    def __init__(self, *, interleaves: bool = True, step_s: float = STEP_S) -> None:
        self.interleaves = interleaves
        self.step_s = step_s
        self.order: list[int] = []
        self.closed: list[int] = []

    def generate(self, request: GenerationRequest) -> Iterator[TextDelta]:
        (count,) = request.tokens
        try:
            for number in range(count):
                time.sleep(self.step_s)
                self.order.append(count)
                yield TextDelta(f"{number} ")
            yield TextDelta("", Finish.STOP, Usage(1, count))
        finally:
            self.closed.append(count)


def ask(count: int) -> GenerationRequest:
    return GenerationRequest((count,), count, (), 0.0, 1.0, None)


class Bench:
    """Generations of a counting engine, and readers of them."""

    def __init__(self, *, serving: Callable[[], bool] = lambda: True, **options: Any) -> None:  # noqa: ANN401
        names = ("interleaves", "step_s")
        engine = {name: options.pop(name) for name in names if name in options}
        self.engine = CountingEngine(**engine)
        self.abandoned: list[Code] = []
        self.generations = Generations(
            self.engine,  # type: ignore[arg-type] # no prompts here
            GenerationLimits(**options),
            serving=serving,
            on_abandoned=self.abandoned.append,
        )

    async def read(self, count: int, caller: Caller = SOMEBODY) -> list[str]:
        async with aclosing(self.generations.run(ask(count), caller)) as deltas:
            return [delta.text async for delta in deltas]

    async def begin(self, count: int) -> Any:  # noqa: ANN401 - an asynchronous generator
        """A reader that takes one piece, and then none."""
        deltas = self.generations.run(ask(count), OTHER)
        await anext(deltas)
        return deltas

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():  # noqa: ASYNC110 - another thread makes it true
                await asyncio.sleep(0.005)


@pytest.fixture
def make() -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def bench(**options: Any) -> Bench:  # noqa: ANN401
        made.append(Bench(**options))
        return made[-1]

    yield bench
    for item in made:
        item.generations.shut()


def test_a_short_answer_does_not_wait_for_a_long_one(make: Callable[..., Bench]) -> None:
    bench = make()

    async def scenario() -> None:
        long = asyncio.create_task(bench.read(4096))
        await bench.until(lambda: len(bench.engine.order) > 20)
        began = len(bench.engine.order)
        assert len(await bench.read(5)) == 6
        between = bench.engine.order[began:].count(4096)
        assert between <= 12, "about one step of the long answer for each of the short one"
        assert not long.done()
        long.cancel()
        await asyncio.gather(long, return_exceptions=True)

    asyncio.run(scenario())


def test_a_newcomer_takes_the_next_step(make: Callable[..., Bench]) -> None:
    bench = make()

    async def scenario() -> int:
        longs = [asyncio.create_task(bench.read(2000 + number)) for number in range(3)]
        assert bench.generations.waiting == 0
        await bench.until(lambda: len(bench.engine.order) > 60)
        began = len(bench.engine.order)
        await bench.begin(1)
        for task in longs:
            task.cancel()
        await asyncio.gather(*longs, return_exceptions=True)
        return bench.engine.order[began:].index(1)

    assert asyncio.run(scenario()) <= 2, "after the step that runs, and one that began meanwhile"


def test_an_engine_that_cannot_alternate_finishes_one_first(make: Callable[..., Bench]) -> None:
    bench = make(interleaves=False)

    async def scenario() -> None:
        await asyncio.gather(bench.read(30), bench.read(20), bench.read(10))

    asyncio.run(scenario())
    assert bench.engine.order == [30] * 30 + [20] * 20 + [10] * 10


@pytest.mark.parametrize("interleaves", [True, False])
def test_a_reader_that_takes_nothing_holds_up_nobody(
    interleaves: bool,  # noqa: FBT001
    make: Callable[..., Bench],
) -> None:
    bench = make(interleaves=interleaves, unread=5, contended_s=0.1, stall_s=60.0)

    async def scenario() -> None:
        silent = await bench.begin(1000)
        await bench.until(lambda: len(bench.engine.order) >= 6)
        await asyncio.sleep(5 * STEP_S)
        assert len(bench.engine.order) <= 7, "the engine does not run ahead of its reader"
        async with asyncio.timeout(5):
            assert len(await bench.read(10)) == 11
        if not interleaves:
            with pytest.raises(UnavailableError) as caught:
                await anext(silent)
            assert caught.value.code is RequestCode.ANSWER_NOT_READ
            assert bench.abandoned == [RequestCode.ANSWER_NOT_READ]
            await bench.until(lambda: len(bench.engine.closed) > 1)
            assert bench.engine.closed == [1000, 10], "its state was given back first"
        await silent.aclose()

    asyncio.run(scenario())


def test_an_answer_that_nobody_takes_is_given_up(make: Callable[..., Bench]) -> None:
    bench = make(unread=5, stall_s=0.2)

    async def scenario() -> None:
        silent = await bench.begin(1000)
        await bench.until(lambda: bool(bench.abandoned))
        assert not bench.generations.busy
        with pytest.raises(UnavailableError) as caught:
            await anext(silent)
        assert caught.value.code is RequestCode.ANSWER_NOT_READ

    asyncio.run(scenario())
    assert bench.engine.closed == [1000]


def test_a_slow_reader_gets_the_whole_answer(make: Callable[..., Bench]) -> None:
    bench = make(unread=3, stall_s=5.0)

    async def scenario() -> list[str]:
        found = []
        async with aclosing(bench.generations.run(ask(20), SOMEBODY)) as deltas:
            async for delta in deltas:
                found.append(delta.text)
                await asyncio.sleep(2 * STEP_S)
        return found

    assert asyncio.run(scenario()) == [*(f"{number} " for number in range(20)), ""]
    assert bench.abandoned == []


def test_the_time_of_an_answer_is_bounded(make: Callable[..., Bench]) -> None:
    bench = make(parallel=1, answer_s=0.2)

    async def refused(count: int) -> Code:
        with pytest.raises(UnavailableError) as caught:
            await bench.read(count)
        return caught.value.code

    async def scenario() -> list[Code]:
        return await asyncio.gather(refused(5000), refused(6000))

    codes = asyncio.run(scenario())
    assert codes == [RequestCode.ANSWER_TIMEOUT] * 2, "the one that runs, and the one that waits"
    assert bench.engine.closed == [5000]
    assert bench.abandoned == codes


def test_wiped_weights_end_every_answer(make: Callable[..., Bench]) -> None:
    alive = [True]
    bench = make(parallel=1, serving=lambda: alive[0])

    async def refused(count: int) -> Code:
        with pytest.raises(UnavailableError) as caught:
            await bench.read(count)
        return caught.value.code

    async def scenario() -> list[Code]:
        tasks = [asyncio.create_task(refused(count)) for count in (5000, 6000)]
        await bench.until(lambda: len(bench.engine.order) > 3)
        alive[0] = False
        return await asyncio.gather(*tasks)

    assert asyncio.run(scenario()) == [RequestCode.NOT_SERVING] * 2
    assert bench.abandoned == [], "this is no reader's fault"


def test_the_end_of_the_service_ends_what_waits(make: Callable[..., Bench]) -> None:
    bench = make(parallel=1)

    async def scenario() -> list[object]:
        tasks = [asyncio.create_task(bench.read(count)) for count in (5000, 6000)]
        await bench.until(lambda: len(bench.engine.order) > 3)
        bench.generations.shut()
        return await asyncio.gather(*tasks, return_exceptions=True)

    assert all(isinstance(found, UnavailableError) for found in asyncio.run(scenario()))


def test_a_reader_whose_loop_is_gone_is_forgotten(make: Callable[..., Bench]) -> None:
    bench = make()
    loop = asyncio.new_event_loop()
    deltas = bench.generations.run(ask(5000), SOMEBODY)
    loop.run_until_complete(anext(deltas))
    loop.close()
    assert len(asyncio.run(bench.read(3))) == 4
    asyncio.run(bench.until(lambda: not bench.generations.busy))
    assert 5000 in bench.engine.closed


def test_callers_have_shares(make: Callable[..., Bench]) -> None:
    bench = make(parallel=2, queue=10, per_caller=4)
    many, few = Caller("many", listed=True), Caller("few", listed=True)

    async def scenario() -> list[str]:
        ended: list[str] = []

        async def one(caller: Caller, count: int) -> None:
            await bench.read(count, caller)
            ended.append(caller.name)

        tasks = [asyncio.create_task(one(many, 30)) for _ in range(4)]
        await bench.until(lambda: bench.generations.waiting == 3)
        with pytest.raises(UnavailableError) as caught:
            bench.generations.check_room(many)
        assert caught.value.code is RequestCode.CALLER_BUSY
        bench.generations.check_room(few)
        await asyncio.gather(one(few, 3), *tasks)
        return ended

    assert asyncio.run(scenario())[0] == "few", "a place was left for it"


def test_one_peer_never_holds_every_place(make: Callable[..., Bench]) -> None:
    bench = make(parallel=3, queue=30)

    async def scenario() -> None:
        many = [asyncio.create_task(bench.read(4000 + number)) for number in range(12)]
        await bench.until(lambda: len(bench.engine.order) > 20)
        assert bench.generations.waiting == 10
        async with asyncio.timeout(5):
            assert len(await bench.read(5, OTHER)) == 6
        for task in many:
            task.cancel()
        await asyncio.gather(*many, return_exceptions=True)

    asyncio.run(scenario())
