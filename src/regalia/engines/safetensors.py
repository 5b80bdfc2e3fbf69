"""Strict parser of the tensor tables in safetensors files, which are already in memory.

A file consists of an 8-byte little-endian header length, a JSON object, and one data section:

    {"name": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [0, 12]}, "__metadata__": {...}}

It is stricter than most parsers: the tensors must cover the data section exactly, without gaps or
overlaps, their sizes must match type and shape, and no name may appear twice.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import prod
from typing import NoReturn

from regalia.core.codec import MIB
from regalia.core.errors import CoreCode, IntegrityError, ParseError, UsageError
from regalia.engines.codes import EngineCode

LENGTH_SIZE = 8  # bytes, little-endian
HEADER_MAX = 32 * MIB  # bytes
TENSORS_MAX = 200_000
NAME_MAX = 512  # characters
RANK_MAX = 8
DIMENSION_MAX = 1 << 48
METADATA = "__metadata__"
LFS_POINTER = b"version https://git-lfs.github.com/spec/"
INDEX_MAX = 32 * MIB  # bytes
SHARDS_MAX = 4096

ITEM_SIZES = {  # bytes
    "BOOL": 1,
    "U8": 1,
    "I8": 1,
    "I16": 2,
    "U16": 2,
    "F16": 2,
    "BF16": 2,
    "I32": 4,
    "U32": 4,
    "F32": 4,
    "F64": 8,
    "I64": 8,
    "U64": 8,
}

# Element types of one byte that hold quantized weights or their scales. Engines that compute with
# them say so.
QUANTIZED_SIZES = {"F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1}  # bytes

# Element types of the format that hold blocks or scales of quantized weights.
_QUANTIZED = ("F8_", "F6_", "F4", "I4", "U4")


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """Type, shape and position of one tensor."""

    name: str
    dtype: str  # a key of ITEM_SIZES
    shape: tuple[int, ...]
    offset: int  # offset of the first byte from the start of the file
    size: int  # number of bytes

    @property
    def count(self) -> int:
        """Number of elements."""
        return prod(self.shape)


def _bad(what: str, why: str) -> NoReturn:
    raise ParseError(CoreCode.MALFORMED, f"{what}: {why}")


def _no_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name appears twice")
    return found


def _no_constants(text: str) -> NoReturn:
    # Python's parser accepts NaN and Infinity, which JSON does not have.
    raise ValueError(f"{text} is not JSON")


def _json_object(data: memoryview, what: str) -> dict[str, object]:
    try:
        value = json.loads(
            str(data, "utf-8"), object_pairs_hook=_no_duplicates, parse_constant=_no_constants
        )
    except (ValueError, RecursionError) as exc:
        raise ParseError(CoreCode.MALFORMED, f"{what}: header is not usable JSON: {exc}") from exc
    if not isinstance(value, dict):
        _bad(what, "header is not a JSON object")
    return value


def _natural(value: object, what: str) -> int:
    # bool is a subclass of int in Python, but true is not a number in JSON.
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= DIMENSION_MAX:
        _bad(what, "a size or an offset is not a natural number within limits")
    return value


def _entry(
    name: str, value: object, data_start: int, what: str, item_sizes: dict[str, int]
) -> TensorEntry:
    where = f"{what}: tensor {name[:80]!r}"
    if not 0 < len(name) <= NAME_MAX:
        _bad(where, "the name is empty or too long")
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        _bad(where, "wants exactly dtype, shape and data_offsets")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str):
        _bad(where, "the element type is no text")
    if dtype not in item_sizes:
        raise UsageError(EngineCode.ENGINE_MODEL_UNSUPPORTED, f"{where} is {_type_text(dtype)}")
    if not isinstance(shape, list) or len(shape) > RANK_MAX:
        _bad(where, f"the shape is not a list of at most {RANK_MAX} sizes")
    if not isinstance(offsets, list) or len(offsets) != 2:  # noqa: PLR2004 - begin and end
        _bad(where, "data_offsets is not a pair")
    sizes = tuple(_natural(item, where) for item in shape)
    begin, end = (_natural(item, where) for item in offsets)
    if end - begin != prod(sizes) * item_sizes[dtype]:
        _bad(where, "its offsets do not agree with its type and shape")
    return TensorEntry(name, dtype, sizes, data_start + begin, end - begin)


def _type_text(dtype: str) -> str:
    """Describe an element type that the engine does not compute with."""
    if dtype.startswith(_QUANTIZED):
        return f"of type {dtype[:20]}: quantized weights need an engine that unpacks them"
    return f"of type {dtype[:20]!r}, which this engine does not know"


def _check_metadata(value: object, what: str) -> None:
    if value is None:  # some writers have null where there is no metadata
        return
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        _bad(what, "__metadata__ is not a map from text to text")


def _header_end(data: memoryview, file_size: int, what: str) -> int:
    """Offset of the byte after the header, which begins with a brace and lies in the file."""
    if data[: len(LFS_POINTER)] == LFS_POINTER:
        raise IntegrityError(
            EngineCode.ENGINE_MODEL_INCOMPLETE,
            f"{what} is a Git LFS pointer; run git lfs pull in the owner's folder",
        )
    if len(data) < LENGTH_SIZE:
        _bad(what, "too short for a safetensors file")
    length = int.from_bytes(data[:LENGTH_SIZE], "little")
    if length > HEADER_MAX:
        raise ParseError(
            CoreCode.TOO_LARGE, f"{what}: a header of {length} bytes, at most {HEADER_MAX}"
        )
    start = LENGTH_SIZE + length
    if start > min(len(data), file_size):
        _bad(what, "the header reaches past the end of the file")
    if length == 0 or data[LENGTH_SIZE] != ord("{"):
        _bad(what, "the header does not begin with an opening brace")
    return start


def parse_safetensors(data: memoryview, *, what: str) -> tuple[TensorEntry, ...]:
    """Parse a file's tensor table.

    Args:
        data: the whole file, untrusted. Only the header is copied.
        what: name of the file for error messages.

    Returns:
        The tensors, in the order of their offsets.

    Raises:
        ParseError: TOO_LARGE or MALFORMED.
        IntegrityError: ENGINE_MODEL_INCOMPLETE, it is a Git LFS pointer.
        UsageError: ENGINE_MODEL_UNSUPPORTED, a tensor is of a type that is not computed with.
    """
    return parse_header(data, len(data), what=what, quantized=False)


def parse_header(
    data: memoryview, file_size: int, *, what: str, quantized: bool
) -> tuple[TensorEntry, ...]:
    """Parse a file's tensor table, of which only the beginning is there.

    Args:
        data: the file from its beginning, at least to the end of the header; untrusted.
        file_size: number of bytes in the whole file.
        what: name of the file for error messages.
        quantized: whether the engine computes with the types of ``QUANTIZED_SIZES``.

    Returns:
        The tensors, in the order of their offsets.

    Raises:
        As ``parse_safetensors``.
    """
    start = _header_end(data, file_size, what)
    header = _json_object(data[LENGTH_SIZE:start], what)
    if METADATA in header:
        _check_metadata(header.pop(METADATA), what)
    if len(header) > TENSORS_MAX:
        raise ParseError(CoreCode.TOO_LARGE, f"{what}: {len(header)} tensors")
    sizes = ITEM_SIZES | QUANTIZED_SIZES if quantized else ITEM_SIZES
    entries = [_entry(name, value, start, what, sizes) for name, value in header.items()]
    entries.sort(key=lambda entry: (entry.offset, entry.size))
    end = start
    for entry in entries:
        if entry.offset != end:
            _bad(what, f"a gap or an overlap before tensor {entry.name[:80]!r}")
        end += entry.size
    if end != file_size:
        _bad(what, "the data section is longer or shorter than its tensors")
    return tuple(entries)


def parse_index(data: memoryview, *, what: str) -> dict[str, str]:
    """Parse ``model.safetensors.index.json``, which maps tensors to shards.

    Args:
        data: raw, untrusted.
        what: name of the file for error messages.

    Returns:
        A mapping from tensor names to names of shard files, which contain no folder.

    Raises:
        ParseError: TOO_LARGE or MALFORMED.
    """
    if len(data) > INDEX_MAX:
        raise ParseError(CoreCode.TOO_LARGE, f"{what}: {len(data)} bytes, at most {INDEX_MAX}")
    weight_map = _json_object(data, what).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        _bad(what, "no weight_map")
    found: dict[str, str] = {}
    for name, file in weight_map.items():
        if not isinstance(file, str) or not file or "/" in file or "\\" in file:
            _bad(what, f"tensor {name[:80]!r} points at no file of this model")
        found[name] = file
    if len(set(found.values())) > SHARDS_MAX:
        raise ParseError(CoreCode.TOO_LARGE, f"{what}: more than {SHARDS_MAX} shards")
    return found
