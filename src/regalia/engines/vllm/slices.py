"""Tensors that are decrypted when they are used, and only as far as they are used.

A rank of a tensor-parallel group takes its part of each tensor with ``narrow`` or a slice, and
copies it into its own parameter. vLLM knows which part, for every architecture; so here the views
that it makes are followed on a tensor without memory, and what is decrypted is what is left of the
tensor in the end. An operation that is not a view gets the real values.

Tensors come in the order in which they are stored, so that whoever decrypts them can use a chunk
for all that lies in it before the next one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.utils._pytree import tree_map

from regalia.core.weights import FilePart
from regalia.engines.vllm.tensors import TORCH_TYPES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from regalia.core.weights import FileReader
    from regalia.engines.vllm.adapter import Merging
    from regalia.engines.vllm.staging import StagingArea
    from regalia.engines.vllm.tensors import SealedTensor

# Whoever has smaller ones takes all of them: a part of a chunk costs as much as the whole.
SMALL = 1 << 20  # bytes

_aten = torch.ops.aten
# Operations whose result is a view on the same memory, of which every rank wants another part.
_VIEWS = frozenset(
    (
        _aten.slice.Tensor,
        _aten.select.int,
        _aten.view.default,
        _aten.t.default,
        _aten.transpose.int,
        _aten.permute.default,
        _aten.unsqueeze.default,
        _aten.squeeze.dim,
        _aten.squeeze.default,
        _aten.detach.default,
        _aten.alias.default,
        _aten.split.Tensor,
        _aten.split_with_sizes.default,
    )
)


class LazyTensor(torch.Tensor):
    """A view on a tensor of a sealed model that has not been decrypted.

    Attributes:
        shadow: the same view on a tensor of the whole's shape that has no memory.
        decrypt: decrypts elements ``[first, last)`` of the whole into memory of their own.
        change: changes decrypted values of a view whose first one is the whole's element of this
            number; None if they stay as they are.
    """

    shadow: torch.Tensor
    decrypt: Callable[[int, int], torch.Tensor]
    change: Callable[[torch.Tensor, int], None] | None

    @staticmethod
    def __new__(  # noqa: D417, PYI034 - a wrapper is made by torch
        cls: type[LazyTensor],
        shadow: torch.Tensor,
        decrypt: Callable[[int, int], torch.Tensor],
        change: Callable[[torch.Tensor, int], None] | None = None,
    ) -> LazyTensor:
        """Make a view.

        Args:
            shadow: on the device "meta".
            decrypt: as the attribute.
            change: as the attribute.
        """
        made: LazyTensor = torch.Tensor._make_wrapper_subclass(  # noqa: SLF001
            cls,
            shadow.shape,
            strides=shadow.stride(),
            storage_offset=shadow.storage_offset(),
            dtype=shadow.dtype,
            device=torch.device("cpu"),
            requires_grad=False,
        )
        made.shadow = shadow
        made.decrypt = decrypt
        made.change = change
        return made

    def decrypted(self) -> torch.Tensor:
        """The values, decrypted and changed. Raises as ``FileReader.read``, or LocalError."""
        shadow = self.shadow
        if not shadow.numel():
            return torch.empty(shadow.shape, dtype=shadow.dtype)
        first = int(shadow.storage_offset())
        reach = sum(
            (size - 1) * stride for size, stride in zip(shadow.shape, shadow.stride(), strict=True)
        )
        span = self.decrypt(first, first + int(reach) + 1)
        values = span.as_strided(shadow.shape, shadow.stride(), 0)
        if self.change is not None:
            self.change(values, first)
        return values

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]  # noqa: ANN401 - torch's
        return f"<sealed tensor, {tuple(self.shape)}, {self.dtype}>"

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]  # torch's own is not typed
        cls,
        func: Any,  # noqa: ANN401
        types: Any,  # noqa: ANN401
        args: Any = (),  # noqa: ANN401
        kwargs: Any = None,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401
        """Follow a view, or run an operation on real values."""
        kwargs = kwargs or {}
        first = args[0] if args else None
        if func in _VIEWS and isinstance(first, cls):
            seen = func(first.shadow, *args[1:], **kwargs)
            if isinstance(seen, torch.Tensor):
                return cls(seen, first.decrypt, first.change)
            return [cls(part, first.decrypt, first.change) for part in seen]
        return func(*tree_map(_real, args), **tree_map(_real, kwargs))


def _real(value: object) -> object:
    return value.decrypted() if isinstance(value, LazyTensor) else value


class SlicedStream:
    """Iterates over names and tensors, of which each rank decrypts its own part.

    Args:
        files: the model's plaintext.
        tensors: which, and in which order.
        staging: memory that decrypted parts wait in.
        merging: of an adapter; None if there is none.
    """

    def __init__(
        self,
        files: FileReader,
        tensors: list[SealedTensor],
        staging: StagingArea,
        merging: Merging | None = None,
    ) -> None:
        self._files = files
        self._tensors = tensors
        self._staging = staging
        self._merging = merging
        self.taken = 0  # tensors that were handed out
        self.size = 0  # bytes that were decrypted of them

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        """Yield names and tensors: small ones as they are, and large ones not yet decrypted.

        Raises:
            IntegrityError, LocalError, UnavailableError: as ``FileReader.read``.
        """
        for tensor in self._tensors:
            self.taken += 1
            lazy = self._lazy(tensor)
            yield tensor.entry.name, lazy if tensor.entry.size > SMALL else lazy.decrypted()
        self._staging.close()

    def _lazy(self, tensor: SealedTensor) -> LazyTensor:
        entry, merging = tensor.entry, self._merging
        kind: torch.dtype = getattr(torch, TORCH_TYPES[entry.dtype])
        shadow = torch.empty(entry.shape, dtype=kind, device="meta")

        def decrypt(first: int, last: int) -> torch.Tensor:
            item = kind.itemsize
            area = self._staging.take((last - first) * item)
            part = FilePart(tensor.path, entry.offset + first * item, memoryview(area))
            self._files.read([part])
            self.size += area.nbytes
            values: torch.Tensor = torch.from_numpy(area).view(kind)
            return values

        if merging is None:
            return LazyTensor(shadow, decrypt)
        columns = entry.shape[-1] if entry.shape else 1
        return LazyTensor(
            shadow,
            decrypt,
            lambda part, first: merging.change_part(entry.name, part, first, columns),
        )
