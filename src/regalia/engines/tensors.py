"""Maps a model's safetensors files to tensors that are views on locked memory, without copies."""

from __future__ import annotations

import warnings
from collections import Counter
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

_WEIGHT_SUFFIXES = (
    ".safetensors",
    ".gguf",
    ".bin",
    ".pt",
    ".pth",
    ".ckpt",
    ".h5",
    ".msgpack",
    ".onnx",
    ".npz",
    ".nemo",
)

_DTYPES = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
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
class Place:
    """Where a tensor's bytes are: a file, and offsets in it."""

    path: str
    start: int
    stop: int


@dataclass(slots=True)
class MappedTensors:
    """Named tensors that are views on the model's memory.

    Attributes:
        tensors: tensors by their names in the safetensors files.
        places: where they are, by the same names.
        ranges: (first address, address after the last byte) of the memory.
    """

    tensors: dict[str, torch.Tensor]
    places: dict[str, Place]
    ranges: list[tuple[int, int]]

    def dtype(self) -> torch.dtype:
        """The floating-point type of most bytes. Raises UsageError ENGINE_MODEL_UNSUPPORTED."""
        found: Counter[torch.dtype] = Counter()
        for tensor in self.tensors.values():
            if tensor.is_floating_point():
                found[tensor.dtype] += tensor.numel() * tensor.element_size()
        if not found:
            raise UsageError(EngineCode.ENGINE_MODEL_UNSUPPORTED, "no floating-point weights")
        return found.most_common(1)[0][0]

    def allocate(self, files: ModelFiles, shape: torch.Size, dtype: torch.dtype) -> torch.Tensor:
        """Make a tensor of zeros in more memory of the model's kind.

        Args:
            files: the model's files, which have the memory.
            shape: sizes of the tensor, at least one element in all.
            dtype: its element type.
        """
        tensor = torch.frombuffer(files.allocate(shape.numel() * dtype.itemsize), dtype=dtype)
        first = tensor.data_ptr()
        self.ranges.append((first, first + tensor.numel() * dtype.itemsize))
        return tensor.view(shape)

    def check_inside(self, tensors: Iterable[tuple[str, torch.Tensor]]) -> int:
        """Check that all tensors are in the files' memory, and return their number.

        Raises:
            UsageError: ENGINE_COPY_NEEDED, a tensor was copied to other memory.
        """
        count = 0
        for name, tensor in tensors:
            if not self.holds(tensor):
                raise UsageError(
                    EngineCode.ENGINE_COPY_NEEDED, f"{name} does not lie in the model's memory"
                )
            count += 1
        return count

    def holds(self, tensor: torch.Tensor) -> bool:
        """Whether all of a tensor lies in the model's memory."""
        first = tensor.data_ptr()
        last = first + tensor.numel() * tensor.element_size()
        return any(low <= first and last <= high for low, high in self.ranges)


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
    raise UsageError(EngineCode.ENGINE_NEEDS_SAFETENSORS, _what_there_is(paths))


def _what_there_is(paths: tuple[str, ...]) -> str:
    """Name the files that look like weights, and what is missing."""
    adapter = [path for path in paths if path.startswith("adapter_")]
    if adapter:
        return (
            f"{adapter[0]}: an adapter without its base model; seal it for its base (regalia seal"
            " --base), and name both in the runtime's settings"
        )
    found = [path for path in paths if path.endswith(_WEIGHT_SUFFIXES)]
    if not found:
        return f"the model has no weights: neither {SINGLE} nor {INDEX}"
    listed = ", ".join(path[:80] for path in found[:5])
    return f"the model has {listed}, and neither {SINGLE} nor {INDEX}"


def _tensor(
    mapped: MappedTensors, files: ModelFiles, view: memoryview, entry: TensorEntry, path: str
) -> torch.Tensor:
    """A view on the tensor's bytes or, where it would not be aligned to its type, on a copy."""
    dtype = _DTYPES[entry.dtype]
    if entry.size == 0:
        return torch.empty(entry.shape, dtype=dtype)
    data = torch.frombuffer(view, dtype=torch.uint8, count=entry.size, offset=entry.offset)
    if data.data_ptr() % ITEM_SIZES[entry.dtype]:
        aligned = mapped.allocate(files, data.shape, torch.uint8)
        data = aligned.copy_(data)
        files.discard(path, entry.offset, entry.offset + entry.size)
    return data.view(dtype).view(entry.shape)


def map_tensors(files: ModelFiles) -> MappedTensors:
    """Map all tensors of the model's safetensors files in place.

    Raises:
        ParseError: a file is malformed.
        IntegrityError: ENGINE_MODEL_INCOMPLETE.
        UsageError: ENGINE_NEEDS_SAFETENSORS, ENGINE_MODEL_UNSUPPORTED or ENGINE_COPY_NEEDED.
    """
    mapped = MappedTensors({}, {}, [])
    for path, wanted in sorted(_shards(files).items()):
        entries = parse_safetensors(files.view(path), what=path)
        found = {entry.name for entry in entries}
        missing = (wanted or set()) - found
        if missing or found & mapped.tensors.keys():
            raise IntegrityError(
                EngineCode.ENGINE_MODEL_INCOMPLETE,
                f"{path} lacks tensors that {INDEX} says it has"
                if missing
                else f"{path} has tensors that another file has too",
            )
        _map_entries(mapped, files, path, entries)
    return mapped


def map_file(files: ModelFiles, path: str) -> MappedTensors:
    """Map all tensors of one safetensors file in place.

    Args:
        files: has the file.
        path: of the file.

    Raises:
        ParseError: the file is malformed.
        UsageError: ENGINE_MODEL_UNSUPPORTED.
    """
    mapped = MappedTensors({}, {}, [])
    _map_entries(mapped, files, path, parse_safetensors(files.view(path), what=path))
    return mapped


def _map_entries(
    mapped: MappedTensors, files: ModelFiles, path: str, entries: tuple[TensorEntry, ...]
) -> None:
    """Map the tensors of one file, which has been parsed."""
    if not entries:
        return
    view = files.view(path)
    with warnings.catch_warnings():
        # torch has no read-only tensors and warns about read-only buffers. Inference does not
        # write to weights.
        warnings.filterwarnings("ignore", message="The given buffer is not writable")
        base = torch.frombuffer(view, dtype=torch.uint8).data_ptr()
        mapped.ranges.append((base, base + len(view)))
        for entry in entries:
            mapped.tensors[entry.name] = _tensor(mapped, files, view, entry, path)
            place = Place(path, entry.offset, entry.offset + entry.size)
            mapped.places[entry.name] = place
