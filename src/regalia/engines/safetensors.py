"""The tables of safetensors files, read strictly from bytes that are already in memory.

A file is an 8-byte little-endian header length, a JSON object, and one data section:

    {"name": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [0, 12]}, "__metadata__": {...}}

Stricter than most readers: offsets must cover the data section exactly, without a gap or an
overlap, sizes must follow from type and shape, and no name may appear twice.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import prod
from typing import NoReturn

from regalia.core.codec import MIB
from regalia.core.errors import CoreCode, ParseError

LENGTH_SIZE = 8  # bytes, little-endian
HEADER_MAX = 32 * MIB  # bytes
TENSORS_MAX = 200_000
NAME_MAX = 512  # characters
RANK_MAX = 8
DIMENSION_MAX = 1 << 48
METADATA = "__metadata__"
INDEX_MAX = 32 * MIB  # bytes
SHARDS_MAX = 4096

ITEM_SIZES = {  # bytes
    "BOOL": 1,
    "U8": 1,
    "I8": 1,
    "F8_E5M2": 1,
    "F8_E4M3": 1,
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


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """One tensor's place in its file."""

    name: str
    dtype: str  # a key of ITEM_SIZES
    shape: tuple[int, ...]
    offset: int  # of the first byte, from the start of the file
    size: int  # bytes

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
    # bool is an int in Python, and not one in this format.
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= DIMENSION_MAX:
        _bad(what, "a size or an offset is not a natural number within limits")
    return value


def _entry(name: str, value: object, data_start: int, what: str) -> TensorEntry:
    where = f"{what}: tensor {name[:80]!r}"
    if not 0 < len(name) <= NAME_MAX:
        _bad(where, "the name is empty or too long")
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        _bad(where, "wants exactly dtype, shape and data_offsets")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in ITEM_SIZES:
        _bad(where, "the element type is not known")
    if not isinstance(shape, list) or len(shape) > RANK_MAX:
        _bad(where, f"the shape is not a list of at most {RANK_MAX} sizes")
    if not isinstance(offsets, list) or len(offsets) != 2:  # noqa: PLR2004 - begin and end
        _bad(where, "data_offsets is not a pair")
    sizes = tuple(_natural(item, where) for item in shape)
    begin, end = (_natural(item, where) for item in offsets)
    if end - begin != prod(sizes) * ITEM_SIZES[dtype]:
        _bad(where, "its offsets do not agree with its type and shape")
    return TensorEntry(name, dtype, sizes, data_start + begin, end - begin)


def _check_metadata(value: object, what: str) -> None:
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        _bad(what, "__metadata__ is not a map from text to text")


def parse_safetensors(data: memoryview, *, what: str) -> tuple[TensorEntry, ...]:
    """Read a file's tensor table.

    Args:
        data: the whole file, untrusted. Only the header is copied.
        what: the file's name, for messages.

    Returns:
        The tensors in the order of their offsets.

    Raises:
        ParseError: TOO_LARGE or MALFORMED.
    """
    if len(data) < LENGTH_SIZE:
        _bad(what, "too short for a safetensors file")
    length = int.from_bytes(data[:LENGTH_SIZE], "little")
    if length > HEADER_MAX:
        raise ParseError(
            CoreCode.TOO_LARGE, f"{what}: a header of {length} bytes, at most {HEADER_MAX}"
        )
    start = LENGTH_SIZE + length
    if start > len(data):
        _bad(what, "the header reaches past the end of the file")
    if length == 0 or data[LENGTH_SIZE] != ord("{"):
        _bad(what, "the header does not begin with an opening brace")
    header = _json_object(data[LENGTH_SIZE:start], what)
    if METADATA in header:
        _check_metadata(header.pop(METADATA), what)
    if len(header) > TENSORS_MAX:
        raise ParseError(CoreCode.TOO_LARGE, f"{what}: {len(header)} tensors")
    entries = [_entry(name, value, start, what) for name, value in header.items()]
    entries.sort(key=lambda entry: (entry.offset, entry.size))
    end = start
    for entry in entries:
        if entry.offset != end:
            _bad(what, f"a gap or an overlap before tensor {entry.name[:80]!r}")
        end += entry.size
    if end != len(data):
        _bad(what, "the data section is longer or shorter than its tensors")
    return tuple(entries)


def parse_index(data: memoryview, *, what: str) -> dict[str, str]:
    """Read ``model.safetensors.index.json``: which shard holds which tensor.

    Args:
        data: raw, untrusted.
        what: names the file in the error.

    Returns:
        Tensor name to shard file name. File names are plain names without a folder.

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
