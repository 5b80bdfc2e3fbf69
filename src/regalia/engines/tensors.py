"""Maps a model's safetensors files to tensors that are views on locked memory, without copies."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from regalia.core.errors import IntegrityError, UsageError
from regalia.engines.codes import EngineCode
from regalia.engines.safetensors import ITEM_SIZES, parse_index, parse_safetensors

if TYPE_CHECKING:
    from collections.abc import Iterable

    from regalia.core.weights import ModelFiles
    from regalia.engines.safetensors import TensorEntry

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"

_DTYPES = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E4M3": torch.float8_e4m3fn,
    "I16": torch.int16,
    "U16": torch.uint16,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I32": torch.int32,
    "U32": torch.uint32,
    "F32": torch.float32,
    "F64": torch.float64,
    "I64": torch.int64,
    "U64": torch.uint64,
}


@dataclass(frozen=True, slots=True)
class MappedTensors:
    """Named tensors that are views on the files' memory.

    Attributes:
        tensors: tensors by their names in the safetensors files.
        ranges: (first address, address after the last byte) of the files' memory.
    """

    tensors: dict[str, torch.Tensor]
    ranges: tuple[tuple[int, int], ...]

    def dtype(self) -> torch.dtype:
        """Floating-point type that all weights share. Raises UsageError ENGINE_COPY_NEEDED."""
        found = {tensor.dtype for tensor in self.tensors.values() if tensor.is_floating_point()}
        if len(found) != 1:
            names = sorted(str(dtype) for dtype in found)
            raise UsageError(EngineCode.ENGINE_COPY_NEEDED, f"weights of several types: {names}")
        return found.pop()

    def check_inside(self, tensors: Iterable[tuple[str, torch.Tensor]]) -> int:
        """Check that all tensors are in the files' memory, and return their number.

        Raises:
            UsageError: ENGINE_COPY_NEEDED, a tensor was copied to other memory.
        """
        count = 0
        for name, tensor in tensors:
            first = tensor.data_ptr()
            last = first + tensor.numel() * tensor.element_size()
            if not any(low <= first and last <= high for low, high in self.ranges):
                raise UsageError(
                    EngineCode.ENGINE_COPY_NEEDED, f"{name} does not lie in the model's memory"
                )
            count += 1
        return count


def _shards(files: ModelFiles) -> dict[str, set[str] | None]:
    """Map shard files to the tensors that they must hold; None if there is no index."""
    paths = files.paths()
    if SINGLE in paths:
        return {SINGLE: None}
    if INDEX in paths:
        shards: dict[str, set[str] | None] = {}
        for name, file in parse_index(files.view(INDEX), what=INDEX).items():
            names = shards.setdefault(file, set())
            if names is not None:
                names.add(name)
        missing = sorted(set(shards) - set(paths))
        if missing:
            raise IntegrityError(
                EngineCode.ENGINE_MODEL_INCOMPLETE, f"{INDEX} names absent files: {missing[:5]}"
            )
        return shards
    other = [path for path in paths if path.endswith((".gguf", ".bin", ".pt", ".pth"))]
    what = f"weights in {other[0]}" if other else "no weights"
    raise UsageError(
        EngineCode.ENGINE_NEEDS_SAFETENSORS,
        f"the model has {what}, and neither {SINGLE} nor {INDEX}",
    )


def _tensor(view: memoryview, entry: TensorEntry, base: int) -> torch.Tensor:
    dtype = _DTYPES[entry.dtype]
    if entry.size == 0:
        return torch.empty(entry.shape, dtype=dtype)
    if (base + entry.offset) % ITEM_SIZES[entry.dtype]:
        raise UsageError(
            EngineCode.ENGINE_COPY_NEEDED, f"tensor {entry.name[:80]!r} is not aligned to its type"
        )
    flat = torch.frombuffer(view, dtype=dtype, count=entry.count, offset=entry.offset)
    return flat.view(entry.shape)


def map_tensors(files: ModelFiles) -> MappedTensors:
    """Map all tensors of the model's safetensors files in place.

    Raises:
        ParseError: a file is malformed.
        IntegrityError: ENGINE_MODEL_INCOMPLETE.
        UsageError: ENGINE_NEEDS_SAFETENSORS or ENGINE_COPY_NEEDED.
    """
    tensors: dict[str, torch.Tensor] = {}
    ranges: list[tuple[int, int]] = []
    with warnings.catch_warnings():
        # torch has no read-only tensors and warns about read-only buffers. Inference does not
        # write to weights.
        warnings.filterwarnings("ignore", message="The given buffer is not writable")
        for path, wanted in sorted(_shards(files).items()):
            view = files.view(path)
            entries = parse_safetensors(view, what=path)
            found = {entry.name for entry in entries}
            if (wanted is not None and wanted != found) or found & tensors.keys():
                raise IntegrityError(
                    EngineCode.ENGINE_MODEL_INCOMPLETE,
                    f"{path} does not hold exactly the tensors that {INDEX} says",
                )
            if not entries:
                continue
            base = torch.frombuffer(view, dtype=torch.uint8).data_ptr()
            ranges.append((base, base + len(view)))
            tensors |= {entry.name: _tensor(view, entry, base) for entry in entries}
    return MappedTensors(tensors, tuple(ranges))
