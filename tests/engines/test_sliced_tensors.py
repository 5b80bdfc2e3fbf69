"""A rank decrypts its part of a tensor and no more, and what it copies is what it would have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from regalia.engines.vllm.slices import LazyTensor

if TYPE_CHECKING:
    from collections.abc import Callable

torch.set_num_threads(1)
ROWS, COLUMNS = 12, 8


class Whole:
    """Counts which elements are decrypted."""

    def __init__(self) -> None:
        self.values = torch.arange(ROWS * COLUMNS, dtype=torch.float32).view(ROWS, COLUMNS)
        self.asked: list[tuple[int, int]] = []

    def decrypt(self, first: int, last: int) -> torch.Tensor:
        self.asked.append((first, last))
        return self.values.flatten()[first:last].clone()

    def lazy(self) -> LazyTensor:
        return LazyTensor(torch.empty(ROWS, COLUMNS, device="meta"), self.decrypt)


VIEWS: dict[str, tuple[Callable[[Any], Any], int]] = {
    "rows": (lambda t: t.narrow(0, 3, 4), 4 * COLUMNS),
    "slice of rows": (lambda t: t[6:], 6 * COLUMNS),
    "a row": (lambda t: t[2], COLUMNS),
    "half by chunk": (lambda t: t.chunk(2, 0)[1], 6 * COLUMNS),
    "a part by split": (lambda t: t.split(4, dim=0)[2], 4 * COLUMNS),
    "view and rows": (lambda t: t.view(4, 3, COLUMNS)[1:3], 2 * 3 * COLUMNS),
    # Parts of all rows lie between the first and the last of them.
    "columns": (lambda t: t.narrow(1, 4, 4), ROWS * COLUMNS - 4),
    "transposed": (lambda t: t.t().narrow(1, 0, 2), 2 * COLUMNS),
    "all": (lambda t: t, ROWS * COLUMNS),
    "detached": (lambda t: t.detach()[:1], COLUMNS),
}


@pytest.mark.parametrize("name", VIEWS)
def test_a_copied_view_is_decrypted_and_no_more(name: str) -> None:
    view, elements = VIEWS[name]
    whole = Whole()
    want = view(whole.values)
    lazy = view(whole.lazy())
    assert whole.asked == [], "a view decrypts nothing"
    assert (lazy.shape, lazy.dtype, lazy.device.type) == (want.shape, want.dtype, "cpu")
    target = torch.zeros(want.shape)
    target.copy_(lazy)
    assert torch.equal(target, want)
    (asked,) = whole.asked
    assert asked[1] - asked[0] == elements


def test_assignment_by_index_and_arithmetic() -> None:
    whole = Whole()
    target = torch.zeros(ROWS, COLUMNS)
    target[2:4] = whole.lazy()[2:4]
    assert torch.equal(target[2:4], whole.values[2:4])
    assert torch.equal(whole.lazy() * 2, whole.values * 2)
    assert torch.equal(torch.cat([whole.lazy()[:1], whole.lazy()[5:6]]), whole.values[[0, 5]])
    assert whole.lazy().float().sum() == whole.values.sum()
    assert torch.equal(whole.lazy().reshape(-1), whole.values.flatten())


def test_a_failure_reaches_who_copies() -> None:
    def fail(_first: int, _last: int) -> torch.Tensor:
        raise ValueError("forged")

    lazy = LazyTensor(torch.empty(ROWS, COLUMNS, device="meta"), fail)
    with pytest.raises(ValueError, match="forged"):
        torch.zeros(ROWS, COLUMNS).copy_(lazy)


def test_its_text_decrypts_nothing() -> None:
    whole = Whole()
    assert "sealed tensor" in repr(whole.lazy())
    assert whole.asked == []
