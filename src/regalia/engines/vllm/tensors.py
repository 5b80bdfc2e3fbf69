"""The tensors of a sealed model, decrypted ahead of the engine that copies them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from regalia.core.errors import IntegrityError, UsageError
from regalia.core.weights import FilePart
from regalia.engines.codes import EngineCode
from regalia.engines.safetensors import HEADER_MAX, LENGTH_SIZE, parse_header
from regalia.engines.vllm.staging import ALIGNMENT, StagingArea

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regalia.core.weights import FileReader
    from regalia.engines.safetensors import TensorEntry
    from regalia.engines.vllm.adapter import Merging

BATCH = 64 << 20  # bytes that are decrypted at once, while the engine copies as many
SUFFIX = ".safetensors"


@dataclass(frozen=True, slots=True)
class SealedTensor:
    """A tensor, and the file that holds it."""

    path: str
    entry: TensorEntry


def list_tensors(files: FileReader) -> list[SealedTensor]:
    """All tensors of the model's safetensors files, in the order in which they are stored.

    Raises:
        UsageError: ENGINE_NEEDS_SAFETENSORS, or ENGINE_MODEL_UNSUPPORTED.
        ParseError: a file is malformed.
        IntegrityError: ENGINE_MODEL_INCOMPLETE, a tensor stands in two files.
    """
    sizes = files.sizes()
    paths = sorted(path for path in sizes if path.endswith(SUFFIX) and "/" not in path)
    if not paths:
        raise UsageError(EngineCode.ENGINE_NEEDS_SAFETENSORS, "the model has no safetensors file")
    found: list[SealedTensor] = []
    seen: set[str] = set()
    for path in paths:
        for entry in _entries(files, path, sizes[path]):
            if entry.name in seen:
                raise IntegrityError(
                    EngineCode.ENGINE_MODEL_INCOMPLETE, f"{entry.name[:80]!r} stands in two files"
                )
            seen.add(entry.name)
            found.append(SealedTensor(path, entry))
    return found


def _entries(files: FileReader, path: str, size: int) -> tuple[TensorEntry, ...]:
    length = bytearray(min(LENGTH_SIZE, size))
    if length:
        files.read([FilePart(path, 0, memoryview(length))])
    # The parser refuses a longer header, so no more than this is read.
    room = min(size, LENGTH_SIZE + min(int.from_bytes(length, "little"), HEADER_MAX))
    header = bytearray(room)
    if room:
        files.read([FilePart(path, 0, memoryview(header))])
    return parse_header(memoryview(header), size, what=path, quantized=True)


@dataclass(frozen=True, slots=True)
class _Batch:
    tensors: tuple[SealedTensor, ...]
    starts: tuple[int, ...]  # in the area
    size: int


def _batches(tensors: list[SealedTensor]) -> Iterator[_Batch]:
    chosen: list[SealedTensor] = []
    starts: list[int] = []
    size = 0
    for tensor in tensors:
        if chosen and size + tensor.entry.size > BATCH:
            yield _Batch(tuple(chosen), tuple(starts), size)
            chosen, starts, size = [], [], 0
        chosen.append(tensor)
        starts.append(size)
        size += -(-tensor.entry.size // ALIGNMENT) * ALIGNMENT
    if chosen:
        yield _Batch(tuple(chosen), tuple(starts), size)


class TensorStream:
    """Iterates over names and tensors, one batch ahead of who takes them.

    Args:
        files: the model's plaintext.
        tensors: which, and in which order.
        merging: of an adapter; None if there is none.
    """

    def __init__(
        self, files: FileReader, tensors: list[SealedTensor], merging: Merging | None = None
    ) -> None:
        self._files = files
        self._tensors = tensors
        self._merging = merging
        self._staging = StagingArea()
        self.taken = 0  # tensors that were handed out
        self.size = 0  # bytes of them

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        """Yield names and tensors. Whoever keeps a tensor keeps its batch in memory.

        Raises:
            IntegrityError, LocalError, UnavailableError: as ``FileReader.read``.
        """
        batches = _batches(self._tensors)
        with ThreadPoolExecutor(1, thread_name_prefix="decrypt") as pool:
            coming = next(batches, None)
            future = pool.submit(self._decrypt, coming) if coming else None
            while coming is not None and future is not None:
                area = future.result()
                batch, coming = coming, next(batches, None)
                future = pool.submit(self._decrypt, coming) if coming else None
                yield from self._views(batch, area)
                del area
        self._staging.close()

    def _decrypt(self, batch: _Batch) -> Any:  # noqa: ANN401 - a NumPy array of bytes
        area = self._staging.take(batch.size)
        view = memoryview(area)
        self._files.read(
            [
                FilePart(tensor.path, tensor.entry.offset, view[start : start + tensor.entry.size])
                for tensor, start in zip(batch.tensors, batch.starts, strict=True)
                if tensor.entry.size
            ]
        )
        return area

    def _views(self, batch: _Batch, area: Any) -> Iterator[tuple[str, Any]]:  # noqa: ANN401
        import torch

        for tensor, start in zip(batch.tensors, batch.starts, strict=True):
            entry = tensor.entry
            kind = getattr(torch, TORCH_TYPES[entry.dtype])
            if entry.size:
                raw = torch.from_numpy(area[start : start + entry.size])
                value = raw.view(kind).view(entry.shape)
                if self._merging is not None:
                    self._merging.change(entry.name, value)
            else:
                value = torch.empty(entry.shape, dtype=kind)
            self.taken += 1
            self.size += entry.size
            yield entry.name, value


TORCH_TYPES = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "I16": "int16",
    "U16": "uint16",
    "F16": "float16",
    "BF16": "bfloat16",
    "I32": "int32",
    "U32": "uint32",
    "F32": "float32",
    "F64": "float64",
    "I64": "int64",
    "U64": "uint64",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E8M0": "float8_e8m0fnu",
}
