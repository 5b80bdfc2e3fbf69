"""Page faults in a destination: hints to the kernel, which change no byte and may fail."""

from __future__ import annotations

import ctypes
import mmap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regalia.core.codec import MIB
from regalia.seal import faults
from regalia.seal.faults import BLOCK, Choice, PageFaulter

_MINCORE = ctypes.CDLL(None).mincore


def pages_there(memory: mmap.mmap) -> bytes:
    """For each page 1 if it is in memory."""
    count = len(memory) // mmap.PAGESIZE
    there = (ctypes.c_ubyte * count)()
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    assert _MINCORE(ctypes.c_void_p(address), ctypes.c_size_t(len(memory)), there) == 0
    return bytes(each & 1 for each in there)


def run(choice: Choice, blocks: int, small: float, huge: float) -> int:
    """Blocks that were huge, of so many that cost so much."""
    taken = 0
    for _ in range(blocks):
        wanted = choice.next_is_huge()
        choice.cost(huge if wanted else small, huge=wanted)
        taken += wanted
    return taken


# -- the choice -------------------------------------------------------------------------------


def test_huge_pages_are_taken_where_they_are_clearly_faster() -> None:
    choice = Choice()
    assert run(choice, 1000, small=1.0, huge=0.3) > 900
    assert choice.prefers_huge


def test_slow_huge_pages_are_tried_ever_more_rarely() -> None:
    choice = Choice()
    assert run(choice, 1000, small=1.0, huge=5.0) < 10
    assert run(choice, 10_000, small=1.0, huge=5.0) < 16
    assert not choice.prefers_huge


def test_a_little_faster_is_not_enough() -> None:
    choice = Choice()
    run(choice, 1000, small=1.0, huge=0.9)
    assert not choice.prefers_huge


def test_the_choice_changes_with_the_machine() -> None:
    """The kernel runs out of free blocks of this size while a model is loaded."""
    choice = Choice()
    seen = []
    for blocks, huge in ((200, 0.3), (200, 5.0), (20_000, 0.3)):
        run(choice, blocks, small=1.0, huge=huge)
        seen.append(choice.prefers_huge)
    assert seen == [True, False, True]


def test_where_huge_pages_are_refused_none_is_tried_again() -> None:
    choice = Choice()
    while not choice.next_is_huge():
        choice.cost(1.0, huge=False)
    choice.huge_pages_refused()
    assert run(choice, 5000, small=1.0, huge=0.1) == 0


class Advices:
    """Records what the kernel is asked for, and agrees."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int, int]] = []

    def __call__(self, start: int, size: int, advice: int) -> bool:
        self.asked.append((start, size, advice))
        return True


# -- the pages --------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 4096, 3 * MIB + 5, 9 * MIB])
def test_every_page_of_a_range_is_there_and_nothing_is_written(size: int) -> None:
    memory = mmap.mmap(-1, max(9 * MIB, size))
    view = memoryview(memory)[:size]
    faulter = PageFaulter([view])
    for start in range(0, size, MIB - 16):
        faulter.prepare(view[start : start + MIB - 16])
    assert all(pages_there(memory)[: -(-size // mmap.PAGESIZE)])
    assert not any(view.tobytes())
    del view


@given(st.integers(0, 4 * MIB), st.integers(1, 3 * MIB), st.integers(0, 4096))
def test_no_page_outside_of_the_destination_is_asked_for(offset: int, size: int, skip: int) -> None:
    total = 8 * MIB
    advices = Advices()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(faults, "_advise", advices)
        patch.setattr(faults, "_is_there", lambda _first, _size: False)
        memory = bytearray(total)
        view = memoryview(memory)[skip:]
        address = ctypes.addressof(ctypes.c_char.from_buffer(view))
        faulter = PageFaulter([view])
        faulter.prepare(view[offset : offset + size])
        faulter.prepare(view[offset : offset + size])
    asked = [(first, length) for first, length, _ in advices.asked]
    low, high = address & -mmap.PAGESIZE, address + total - skip
    assert all(low <= first and first + length <= high for first, length in asked)
    assert all(first % mmap.PAGESIZE == 0 and length <= BLOCK for first, length in asked)
    assert sum(length for _, length in asked) >= size
    assert len({first for first, _ in asked}) == len(asked), "no block is populated twice"


@given(st.lists(st.tuples(st.integers(1, 3 * MIB), st.booleans()), min_size=1, max_size=6))
def test_every_page_of_every_destination_is_asked_for_and_no_other(
    parts: list[tuple[int, bool]],
) -> None:
    """Destinations in any order, some of them side by side, others with a hole between."""
    advices = Advices()
    memory = memoryview(bytearray(sum(size + 8192 for size, _ in parts)))
    views, start = [], 0
    for size, hole in parts:
        start += 8192 * hole
        views.append(memory[start : start + size])
        start += size
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(faults, "_advise", advices)
        patch.setattr(faults, "_is_there", lambda _first, _size: False)
        faulter = PageFaulter(reversed(views))
        for view in views:
            faulter.prepare(view)
    page = mmap.PAGESIZE
    wanted = set()
    for view in views:
        first, end = faults.address_range(view)
        wanted |= set(range(first // page, -(-end // page)))
    asked = [(first, size) for first, size, _ in advices.asked]
    assert {
        n for first, size in asked for n in range(first // page, -(-(first + size) // page))
    } == wanted


def test_huge_pages_are_asked_for_whole_ones_only(monkeypatch: pytest.MonkeyPatch) -> None:
    advices = Advices()
    monkeypatch.setattr(faults, "_advise", advices)
    monkeypatch.setattr(Choice, "next_is_huge", lambda _: True)
    memory = mmap.mmap(-1, 9 * MIB)
    view = memoryview(memory)[MIB + 4096 :]
    PageFaulter([view]).prepare(view)
    huge = [(first, size) for first, size, advice in advices.asked if advice == mmap.MADV_HUGEPAGE]
    assert huge
    assert all(first % BLOCK == 0 and size == BLOCK for first, size in huge)
    del view


def test_memory_that_is_there_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    advices = Advices()
    monkeypatch.setattr(faults, "_advise", advices)
    memory = mmap.mmap(-1, 4 * BLOCK)
    view = memoryview(memory)
    first = -faults.address_range(view)[0] % BLOCK
    view[first : first + BLOCK] = bytes([1]) * BLOCK
    view[first + BLOCK : first + 2 * BLOCK - 1] = bytes([1]) * (BLOCK - 1)
    hole = first + 2 * BLOCK  # nothing was written there
    faulter = PageFaulter([view])
    faulter.prepare(view[first : first + 2 * BLOCK])
    assert advices.asked == []
    faulter.prepare(view[hole : hole + 1])
    assert [size for _, size, _ in advices.asked] == [BLOCK]
    del view, faulter


def test_a_kernel_that_takes_no_hint_is_no_obstacle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faults, "_advise", lambda _start, _size, _advice: False)
    memory = bytearray(64 * MIB)
    view = memoryview(memory)
    faulter = PageFaulter([view])
    for start in range(0, 63 * MIB, 3 * MIB):
        faulter.prepare(view[start : start + MIB])
    assert not faulter.choice.prefers_huge
