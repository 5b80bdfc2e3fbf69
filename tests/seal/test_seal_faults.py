"""Page-fault hints: never more than hints."""

from __future__ import annotations

import mmap

import pytest

from regalia.seal import faults
from regalia.seal.faults import PageFaulter

SIZE = 130 << 20  # just above the size from which a sample is taken


@pytest.mark.parametrize("cost", [(1.0, 0.1), (1.0, 0.79), (1.0, 0.81), (0.1, 1.0), (0.0, 0.0)])
def test_huge_pages_must_win_clearly(
    monkeypatch: pytest.MonkeyPatch, cost: tuple[float, float]
) -> None:
    costs = list(cost)
    monkeypatch.setattr(faults, "_cost_of_faults", lambda _start, _size: costs.pop(0))
    memory = memoryview(mmap.mmap(-1, SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
    small, huge = cost
    try:
        assert PageFaulter(memory).huge is (huge * 1.25 <= small)
    except AssertionError:
        if faults._advise(0, 0, mmap.MADV_HUGEPAGE):
            raise
        pytest.skip("this kernel has no huge pages")


@pytest.mark.parametrize("size", [0, 1, 4096, 5000, 3 << 20])
def test_contents_are_untouched(size: int) -> None:
    memory = memoryview(bytearray(b"x" * size))
    faulter = PageFaulter(memory)
    assert not faulter.huge
    for offset in range(0, size, 1000):
        faulter.prepare(offset, min(1000, size - offset))
    assert memory.tobytes() == b"x" * size


def test_no_hint_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that refuses everything."""
    monkeypatch.setattr(faults, "_advise", lambda _start, _size, _advice: False)
    memory = memoryview(mmap.mmap(-1, SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
    faulter = PageFaulter(memory)
    faulter.prepare(0, SIZE)
    assert not faulter.huge
    memory[SIZE - 1 :] = b"y"
    assert memory[SIZE - 1] == ord("y")
