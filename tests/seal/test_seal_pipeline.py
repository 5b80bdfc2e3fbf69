"""Work in parallel, steps in order, failures at once, and nothing running afterwards."""

from __future__ import annotations

import signal
import threading
import time
from dataclasses import dataclass
from random import Random

import pytest

from regalia.seal.pipeline import Pipeline, slot_count


@dataclass
class Box:
    number: int = -1


class Broken(Exception):  # noqa: N818 - reads better below
    pass


def test_steps_see_every_slot_in_order() -> None:
    worked: set[int] = set()
    seen: dict[str, list[int]] = {"one": [], "two": []}

    def work(box: Box) -> None:
        time.sleep(0.003 * (box.number % 3))
        worked.add(box.number)

    def step(name: str, box: Box) -> None:
        assert box.number in worked
        seen[name].append(box.number)

    boxes = [Box() for _ in range(5)]
    steps = (lambda box: step("one", box), lambda box: step("two", box))
    with Pipeline(boxes, threads=4, work=work, steps=steps) as pipeline:
        for number in range(40):
            box = pipeline.take()
            box.number = number
            pipeline.submit(box)
        pipeline.drain()
    assert seen == {"one": list(range(40)), "two": list(range(40))}


@pytest.mark.parametrize("where", ["work", "step"])
def test_failure_is_raised_and_the_step_skips_the_slot(where: str) -> None:
    stepped: list[int] = []

    def work(box: Box) -> None:
        if where == "work" and box.number == 3:
            raise Broken

    def step(box: Box) -> None:
        if where == "step" and box.number == 3:
            raise Broken
        stepped.append(box.number)

    def run() -> None:
        with Pipeline([Box(), Box()], threads=2, work=work, steps=(step,)) as pipeline:
            for number in range(100):
                box = pipeline.take()
                box.number = number
                pipeline.submit(box)
            pipeline.drain()

    with pytest.raises(Broken):
        run()
    assert 3 not in stepped
    assert len(stepped) < 10


def test_nothing_runs_after_it_is_left() -> None:
    """What its caller closes then, such as file descriptors, is no longer in use."""
    left = threading.Event()
    late: list[int] = []

    def step(box: Box) -> None:
        time.sleep(0.01)
        if left.is_set():
            late.append(box.number)

    boxes = [Box() for _ in range(8)]
    before = threading.active_count()

    def run() -> None:
        with Pipeline(boxes, threads=2, work=lambda _: None, steps=(step, step)) as pipeline:
            for _ in range(8):
                pipeline.submit(pipeline.take())
            raise Broken

    with pytest.raises(Broken):
        run()
    left.set()
    assert threading.active_count() <= before  # threads of others may have ended
    time.sleep(0.05)
    assert late == []


def test_it_ends_wherever_it_is_interrupted() -> None:
    """Locks that are written in Python may stay taken for good: see ``regalia.seal.workers``."""
    main = threading.main_thread().ident or 0
    random = Random(1)  # noqa: S311 - when to interrupt is no secret
    ended = 0

    def run(timer: threading.Timer) -> None:
        boxes = [Box() for _ in range(3)]
        steps = (lambda _: None, lambda _: None)
        with Pipeline(boxes, threads=2, work=lambda _: None, steps=steps) as pipeline:
            timer.start()
            while True:
                pipeline.submit(pipeline.take())

    earlier = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        for _ in range(300):
            timer = threading.Timer(
                random.uniform(0, 0.004), signal.pthread_kill, (main, signal.SIGINT)
            )
            with pytest.raises(KeyboardInterrupt):
                run(timer)
            ended += 1
    finally:
        signal.signal(signal.SIGINT, earlier)
    assert ended == 300


@pytest.mark.parametrize(
    ("threads", "slot", "want"),
    [(1, 2 << 20, 10), (2, 2 << 20, 12), (64, 2 << 20, 32), (64, 8 << 20, 8), (1, 1 << 30, 4)],
)
def test_slots_are_bounded(threads: int, slot: int, want: int) -> None:
    assert slot_count(threads, slot) == want
