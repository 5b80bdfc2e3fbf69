"""The arithmetic of a merge: W += scale * (B @ A), on whole weights and on parts of them.

The sums are those of PEFT's ``merge_and_unload`` on a CPU: the matrices are multiplied in 32 bits
whatever their type, and the result is rounded once, to the type of the weight. Everything that is
computed on the way lies in the adapter's memory, which is wiped afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterable

    from regalia.core.weights import ModelFiles
    from regalia.engines.lora.tensors import Pair

BLOCK = 16 << 20  # elements of a weight that are computed at a time, at least one row
_ITEM = 4  # bytes of a number
_MATRIX = 2  # dimensions


@dataclass(frozen=True, slots=True)
class Change:
    """What becomes of a weight.

    Attributes:
        new: stands in place of the base's own, in its shape and as it is stored; None in most
            cases.
        pair: the matrices whose product is added then; None if the weight is only replaced.
        scale: of their product.
    """

    new: torch.Tensor | None
    pair: Pair | None
    scale: float


class Workspace:
    """Memory of an adapter's that products are computed in, one after the other.

    Args:
        adapter: has the memory. Its caller wipes it.
    """

    def __init__(self, adapter: ModelFiles) -> None:
        self._adapter = adapter
        self._spaces: dict[str, torch.Tensor] = {}

    def take(self, use: str, shape: torch.Size) -> torch.Tensor:
        """Memory for 32-bit numbers, which hold anything. The same use gets the same memory.

        Args:
            use: what it is for.
            shape: of the numbers, at least one.

        Raises:
            LocalError: there is no memory.
        """
        self.reserve(use, shape.numel())
        return self._spaces[use][: shape.numel()].view(shape)

    def reserve(self, use: str, count: int) -> None:
        """Have memory for so many numbers, so that it need not grow.

        Args:
            use: what it is for.
            count: of numbers, at least one.

        Raises:
            LocalError: there is no memory.
        """
        if use not in self._spaces or len(self._spaces[use]) < count:
            memory = self._adapter.allocate(_ITEM * count)
            self._spaces[use] = torch.frombuffer(memory, dtype=torch.float32, count=count)

    def copy(self, use: str, tensor: torch.Tensor) -> torch.Tensor:
        """A tensor's numbers, as 32-bit ones.

        Args:
            use: what the memory is for.
            tensor: at least one number.

        Raises:
            LocalError: there is no memory.
        """
        return self.take(use, tensor.shape).copy_(tensor)


def rows_at_a_time(weight: torch.Tensor) -> int:
    """Rows of a matrix that are computed at a time."""
    return min(len(weight), max(1, BLOCK // weight.shape[1]))


def reserve_for(space: Workspace, targets: Iterable[tuple[torch.Tensor, Pair]]) -> None:
    """Have memory for the largest of some changes.

    Args:
        space: the memory.
        targets: each weight that is changed, and its matrices.

    Raises:
        LocalError: there is no memory.
    """
    found = list(targets)
    if found:
        blocks = [rows_at_a_time(weight) * weight.shape[1] for weight, _ in found]
        space.reserve("a", max(pair.a.numel() for _, pair in found))
        space.reserve("b", max(rows_at_a_time(weight) * pair.rank for weight, pair in found))
        space.reserve("product", max(blocks))
        space.reserve("wide", max(blocks))


def apply_change(change: Change, weight: torch.Tensor, space: Workspace) -> None:
    """Change a whole weight.

    Args:
        change: what becomes of it; its ``new`` is in this form.
        weight: a matrix of outputs times inputs, or any tensor that is only replaced.
        space: memory for what is computed.

    Raises:
        LocalError: there is no memory.
    """
    if change.new is not None:
        weight.copy_(change.new)
    if change.pair is not None:
        _add(change.scale, change.pair.b, change.pair.a, weight, space)


def apply_to_part(
    change: Change, part: torch.Tensor, first: int, columns: int, space: Workspace
) -> None:
    """Change a part of a weight: any view on it that torch can make.

    Of rows, columns or both of them no more is computed than is wanted.

    Args:
        change: what becomes of the whole weight.
        part: the view's values, with the strides that it has in the whole.
        first: number of the whole's element that is the view's first one.
        columns: in a row of the whole.
        space: memory for what is computed.

    Raises:
        LocalError: there is no memory.
    """
    if not part.numel():
        return
    if change.new is not None:
        place = change.new.storage_offset() + first
        part.copy_(change.new.as_strided(part.shape, part.stride(), place))
    if change.pair is None:
        return
    straight = _straightened(part, columns)
    row, column = divmod(first, columns)
    if straight is not None and column + straight.shape[1] <= columns:
        b = change.pair.b[row : row + len(straight)]
        a = change.pair.a[:, column : column + straight.shape[1]]
        _add(change.scale, b, a, straight, space)
    else:
        _add_to_view(change.scale, change.pair, part, (row, column, columns), space)


def _straightened(part: torch.Tensor, columns: int) -> torch.Tensor | None:
    """A view that is a matrix of rows and columns of the whole, which it may show transposed."""
    if part.dim() != _MATRIX:
        return None
    if part.stride() == (columns, 1):
        return part
    return part.t() if part.stride() == (1, columns) else None


def _add(
    scale: float, b: torch.Tensor, a: torch.Tensor, weight: torch.Tensor, space: Workspace
) -> None:
    """Add a product to a matrix, a block of rows at a time."""
    a = space.copy("a", a)
    step = rows_at_a_time(weight)
    for start in range(0, len(weight), step):
        rows = weight[start : start + step]
        some = space.copy("b", b[start : start + step])
        product = torch.mm(some, a, out=space.take("product", rows.shape)).mul_(scale)
        _add_rounded(rows, product, space)


def _add_to_view(
    scale: float,
    pair: Pair,
    part: torch.Tensor,
    place: tuple[int, int, int],
    space: Workspace,
) -> None:
    """Add to a view of another form, for which the product of all its rows is computed."""
    row, column, columns = place
    steps = zip(part.shape, part.stride(), strict=True)
    last = column + sum((size - 1) * stride for size, stride in steps)
    b = space.copy("b", pair.b[row : row + last // columns + 1])
    a = space.copy("a", pair.a)
    whole = space.take("product", torch.Size((len(b), columns)))
    torch.mm(b, a, out=whole).mul_(scale)
    # The product begins where its memory does, so the view on it begins at the column.
    _add_rounded(part, whole.as_strided(part.shape, part.stride(), column), space)


def _add_rounded(weight: torch.Tensor, product: torch.Tensor, space: Workspace) -> None:
    # Tensors of different types would be added in temporary memory of torch's own.
    wide = space.copy("wide", weight)
    weight.copy_(wide.add_(product))
