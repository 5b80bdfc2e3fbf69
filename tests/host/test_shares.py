"""Peers have their turns: whoever brings much work waits for itself."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from regalia.host.shares import FairPlaces, LineFullError


class Bench:
    """Work in threads that ends when it is told to."""

    def __init__(self, places: FairPlaces) -> None:
        self.places = places
        self.order: list[str] = []
        self.go = threading.Event()
        self.running = 0
        self.most = 0
        self.lock = threading.Lock()

    def work(self, peer: str) -> None:
        with self.lock:
            self.order.append(peer)
            self.running += 1
            self.most = max(self.most, self.running)
        assert self.go.wait(10)
        with self.lock:
            self.running -= 1

    async def run(self, peer: str) -> None:
        await self.places.run(peer, lambda: self.work(peer))

    def begin(self, peers: str) -> list[asyncio.Task[None]]:
        return [asyncio.create_task(self.run(peer)) for peer in peers]


def test_peers_get_places_in_turn() -> None:
    async def scenario() -> None:
        bench = Bench(FairPlaces(1))
        tasks = bench.begin("aaaabbc")
        await asyncio.sleep(0.05)
        bench.go.set()
        await asyncio.gather(*tasks)
        assert "".join(bench.order) == "aabcaba"
        assert bench.most == 1
        assert bench.places.waiting == 0

    asyncio.run(scenario())


def test_as_many_at_a_time_as_there_are_places() -> None:
    async def scenario() -> None:
        bench = Bench(FairPlaces(3))
        tasks = bench.begin("a" * 20)
        await asyncio.sleep(0.05)
        assert (bench.running, bench.places.waiting) == (3, 17)
        bench.go.set()
        await asyncio.gather(*tasks)
        assert (bench.most, len(bench.order)) == (3, 20)

    asyncio.run(scenario())


def test_who_leaves_takes_no_place() -> None:
    async def scenario() -> None:
        bench = Bench(FairPlaces(1))
        tasks = bench.begin("ababab")
        await asyncio.sleep(0.05)
        for task in (tasks[1], tasks[2], tasks[4]):
            task.cancel()
        await asyncio.sleep(0.05)
        assert bench.places.waiting == 2
        bench.go.set()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(each) for each in done if each] == [asyncio.CancelledError] * 3
        assert "".join(bench.order) == "abb"

    asyncio.run(scenario())


def test_who_leaves_while_its_work_goes_on_keeps_the_place() -> None:
    """A thread cannot be stopped: whoever comes and leaves would else have many of them."""

    async def scenario() -> None:
        bench = Bench(FairPlaces(1))
        first, second = bench.begin("ab")
        await asyncio.sleep(0.05)
        first.cancel()
        await asyncio.sleep(0.05)
        assert first.cancelled()
        assert bench.order == ["a"], "the thread is still at work"
        bench.go.set()
        await second
        assert (bench.order, bench.most) == (["a", "b"], 1)

    asyncio.run(scenario())


def test_all_who_wait_leave_at_once() -> None:
    async def scenario() -> None:
        bench = Bench(FairPlaces(2))
        tasks = bench.begin("ab" * 1500)
        await asyncio.sleep(0.1)
        bench.go.set()
        for task in tasks:
            task.cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(each) for each in done} == {asyncio.CancelledError}
        assert bench.places.waiting == 0
        async with asyncio.timeout(5):
            await asyncio.gather(*bench.begin("cc"))

    asyncio.run(scenario())


def test_work_that_fails_gives_its_place_on() -> None:
    async def scenario() -> None:
        places = FairPlaces(1)

        def fail() -> None:
            raise ValueError("the work")

        for _ in range(3):
            with pytest.raises(ValueError, match="the work"):
                await places.run("a", fail)
        with ThreadPoolExecutor(1) as closed:
            closed.shutdown()
            with pytest.raises(RuntimeError):
                await places.run("a", fail, closed)
        assert await places.run("a", lambda: 7) == 7

    asyncio.run(scenario())


def test_few_may_wait_and_one_peer_leaves_room_for_others() -> None:
    async def scenario() -> None:
        bench = Bench(FairPlaces(1, waiting=8))
        tasks = bench.begin("a" * 7)
        await asyncio.sleep(0.05)
        with pytest.raises(LineFullError):
            await bench.run("a")
        tasks += bench.begin("bc")
        await asyncio.sleep(0.05)
        with pytest.raises(LineFullError):
            await bench.run("d")
        bench.go.set()
        await asyncio.gather(*tasks)

    asyncio.run(scenario())
