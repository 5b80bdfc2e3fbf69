"""Peers have their turns: whoever brings much work waits for itself."""

from __future__ import annotations

import asyncio

import pytest

from regalia.host.shares import FairPlaces, LineFullError


class Bench:
    """Work that ends when it is told to."""

    def __init__(self, places: FairPlaces) -> None:
        self.places = places
        self.order: list[str] = []
        self.go = asyncio.Event()
        self.running = 0
        self.most = 0

    async def work(self, peer: str) -> None:
        async with self.places.place(peer):
            self.order.append(peer)
            self.running += 1
            self.most = max(self.most, self.running)
            await self.go.wait()
            await asyncio.sleep(0)
            self.running -= 1

    def begin(self, peers: str) -> list[asyncio.Task[None]]:
        return [asyncio.create_task(self.work(peer)) for peer in peers]


def test_peers_get_places_in_turn() -> None:
    async def scenario() -> None:
        bench = Bench(FairPlaces(1))
        tasks = bench.begin("aaaabbc")
        await asyncio.sleep(0.01)
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
        await asyncio.sleep(0.01)
        assert (bench.running, bench.places.waiting) == (3, 17)
        bench.go.set()
        await asyncio.gather(*tasks)
        assert (bench.most, len(bench.order)) == (3, 20)

    asyncio.run(scenario())


def test_who_leaves_takes_no_place() -> None:
    async def scenario() -> None:
        bench = Bench(FairPlaces(1))
        tasks = bench.begin("abab")
        await asyncio.sleep(0.01)
        for task in (tasks[1], tasks[2], tasks[0]):  # waiting ones, and the one that works
            task.cancel()
        await asyncio.sleep(0.01)
        assert bench.order == ["a", "b"]
        assert bench.places.waiting == 0
        bench.go.set()
        await asyncio.gather(*tasks, return_exceptions=True)
        async with asyncio.timeout(1):
            await bench.work("c")

    asyncio.run(scenario())


def test_who_leaves_at_the_moment_of_its_turn_gives_it_on() -> None:
    async def scenario() -> None:
        places = FairPlaces(1)
        held = places.place("a")
        await held.__aenter__()
        bench = Bench(places)
        bench.go.set()
        second, third = bench.begin("bc")
        await asyncio.sleep(0.01)
        await held.__aexit__(None, None, None)  # it is the second's turn, which has not run yet
        second.cancel()
        async with asyncio.timeout(1):
            await third
        assert bench.order == ["c"]

    asyncio.run(scenario())


def test_few_may_wait_and_one_peer_leaves_room_for_others() -> None:
    async def scenario() -> None:
        bench = Bench(FairPlaces(1, waiting=8))
        tasks = bench.begin("a" * 7)
        await asyncio.sleep(0.01)
        with pytest.raises(LineFullError):
            await bench.work("a")
        tasks += bench.begin("bc")
        await asyncio.sleep(0.01)
        with pytest.raises(LineFullError):
            await bench.work("d")
        bench.go.set()
        await asyncio.gather(*tasks)

    asyncio.run(scenario())
