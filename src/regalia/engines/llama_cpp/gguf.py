"""Strict parser of the head of a GGUF file, which is already in memory.

The file is checked before llama.cpp reads it, as that library trusts sizes more than it should and
ends the whole process where it does not. All numbers are little-endian:

    "GGUF"  version u32  tensors u64  values u64
    values: key, type u32, value
    tensors: name, dimensions u32, sizes u64 each, type u32, offset u64
    padding to the alignment, then the data, where tensors follow each other with the same padding

A text is a length in 64 bits and UTF-8; an array is a type, a length in 64 bits, and its items.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from enum import IntEnum
from math import prod
from typing import TYPE_CHECKING, NoReturn

from regalia.core.codec import MIB
from regalia.core.errors import CoreCode, IntegrityError, ParseError, UsageError
from regalia.engines.codes import EngineCode
from regalia.engines.safetensors import LFS_POINTER

if TYPE_CHECKING:
    from collections.abc import Iterator

MAGIC = b"GGUF"
VERSIONS = (2, 3)
HEAD_MAX = 512 * MIB  # bytes before the data
VALUES_MAX = 1 << 16
TENSORS_MAX = 200_000
ITEMS_MAX = 1 << 24  # items of one array
KEY_MAX = 1 << 10  # bytes
NAME_MAX = 63  # bytes; ggml's own limit
TEXT_MAX = 4 * MIB  # bytes of one text
RANK_MAX = 4  # ggml's own limit
DIMENSION_MAX = 1 << 48
ALIGNMENT_MAX = 1 << 16
_ALIGNMENT = 32  # bytes, unless the file says otherwise

ARCHITECTURE, KIND = "general.architecture", "general.type"
ALIGNMENT, SPLITS = "general.alignment", "split.count"
TEMPLATE, PRE = "tokenizer.chat_template", "tokenizer.ggml.pre"


class ValueType(IntEnum):
    """Types of values."""

    U8 = 0
    I8 = 1
    U16 = 2
    I16 = 3
    U32 = 4
    I32 = 5
    F32 = 6
    BOOL = 7
    TEXT = 8
    ARRAY = 9
    U64 = 10
    I64 = 11
    F64 = 12


_FORMATS = {
    ValueType.U8: "<B",
    ValueType.I8: "<b",
    ValueType.U16: "<H",
    ValueType.I16: "<h",
    ValueType.U32: "<I",
    ValueType.I32: "<i",
    ValueType.F32: "<f",
    ValueType.BOOL: "<?",
    ValueType.U64: "<Q",
    ValueType.I64: "<q",
    ValueType.F64: "<d",
}

# Elements and bytes in a block of each type of tensors in ggml.h that files have. Tests ask the
# library and the format's own package.
BLOCKS = {
    0: (1, 4),  # F32
    1: (1, 2),  # F16
    2: (32, 18),  # Q4_0
    3: (32, 20),  # Q4_1
    6: (32, 22),  # Q5_0
    7: (32, 24),  # Q5_1
    8: (32, 34),  # Q8_0
    10: (256, 84),  # Q2_K
    11: (256, 110),  # Q3_K
    12: (256, 144),  # Q4_K
    13: (256, 176),  # Q5_K
    14: (256, 210),  # Q6_K
    16: (256, 66),  # IQ2_XXS
    17: (256, 74),  # IQ2_XS
    18: (256, 98),  # IQ3_XXS
    19: (256, 50),  # IQ1_S
    20: (32, 18),  # IQ4_NL
    21: (256, 110),  # IQ3_S
    22: (256, 82),  # IQ2_S
    23: (256, 136),  # IQ4_XS
    24: (1, 1),  # I8
    25: (1, 2),  # I16
    26: (1, 4),  # I32
    27: (1, 8),  # I64
    28: (1, 8),  # F64
    29: (256, 56),  # IQ1_M
    30: (1, 2),  # BF16
    34: (256, 54),  # TQ1_0
    35: (256, 66),  # TQ2_0
    39: (32, 17),  # MXFP4
    40: (64, 36),  # NVFP4
    41: (128, 18),  # Q1_0
}


@dataclass(frozen=True, slots=True)
class Head:
    """What is used of a file's head.

    Attributes:
        values: numbers, texts and truth values by key; arrays are checked and left out.
        tensors: number of tensors.
        data: offset of the data.
    """

    values: dict[str, object] = field(default_factory=dict)
    tensors: int = 0
    data: int = 0

    def text(self, key: str) -> str | None:
        """A value that is a text; None if there is none."""
        value = self.values.get(key)
        return value if isinstance(value, str) else None

    def number(self, key: str) -> int | None:
        """A value that is a natural number; None if there is none."""
        value = self.values.get(key)
        return value if isinstance(value, int) and not isinstance(value, bool) else None


def parse_gguf(data: memoryview, *, what: str) -> Head:
    """Parse the head of a file, and check that its tensors lie in it, one after the other.

    Args:
        data: the whole file, untrusted. Only single values are copied.
        what: name of the file for error messages.

    Raises:
        ParseError: TOO_LARGE or MALFORMED.
        IntegrityError: ENGINE_MODEL_INCOMPLETE, it is a Git LFS pointer or is cut off.
        UsageError: ENGINE_MODEL_UNSUPPORTED, a version or a type that is not known here.
    """
    if data[: len(LFS_POINTER)] == LFS_POINTER:
        raise IntegrityError(
            EngineCode.ENGINE_MODEL_INCOMPLETE,
            f"{what} is a Git LFS pointer; run git lfs pull in the owner's folder",
        )
    return _Reader(data, what).head()


class _Reader:
    """Reads from the front; every size is seen to fit before anything is made of it."""

    def __init__(self, data: memoryview, what: str) -> None:
        self._data = data
        self._what = what
        self._end = min(len(data), HEAD_MAX)
        self._at = 0

    def head(self) -> Head:
        if bytes(self._take(len(MAGIC))) != MAGIC:
            self._bad("it does not begin like a GGUF file")
        version = self._number("<I")
        if version not in VERSIONS:
            raise UsageError(
                EngineCode.ENGINE_MODEL_UNSUPPORTED,
                f"{self._what}: version {version} of GGUF, and known are {list(VERSIONS)}",
            )
        tensors = self._count(TENSORS_MAX, "tensors")
        values = dict(self._values(self._count(VALUES_MAX, "values")))
        alignment = values.get(ALIGNMENT, _ALIGNMENT)
        if not isinstance(alignment, int) or not self._is_alignment(alignment):
            self._bad(f"{ALIGNMENT} is no power of two within limits")
        sizes = self._tensors(tensors, alignment)
        start = self._at + -self._at % alignment
        if start + sizes > len(self._data):
            raise IntegrityError(
                EngineCode.ENGINE_MODEL_INCOMPLETE,
                f"{self._what} is cut off: {len(self._data)} bytes of {start + sizes}",
            )
        if len(self._data) - start - sizes >= alignment:
            self._bad("there is something after the last tensor")
        return Head(values, tensors, start)

    @staticmethod
    def _is_alignment(value: int) -> bool:
        return 0 < value <= ALIGNMENT_MAX and value & (value - 1) == 0

    def _values(self, count: int) -> Iterator[tuple[str, object]]:
        seen: set[str] = set()
        for _ in range(count):
            key = self._text(KEY_MAX)
            if not key or key in seen:
                self._bad(f"key {key[:80]!r} is empty or appears twice")
            seen.add(key)
            kind = self._kind()
            if kind is ValueType.ARRAY:
                self._skip_array()
            elif kind is ValueType.TEXT:
                yield key, self._text(TEXT_MAX)
            else:
                yield key, self._number(_FORMATS[kind])

    def _skip_array(self) -> None:
        kind = self._kind()
        if kind is ValueType.ARRAY:
            self._bad("an array of arrays")
        count = self._count(ITEMS_MAX, "items of an array")
        if kind is not ValueType.TEXT:
            self._take(count * struct.calcsize(_FORMATS[kind]))
            return
        for _ in range(count):
            self._take(self._number("<Q"))

    def _tensors(self, count: int, alignment: int) -> int:
        """Check the table of tensors. Returns the bytes of all of them together."""
        names: set[str] = set()
        end = padded = 0
        for _ in range(count):
            name = self._text(NAME_MAX)
            if not name or name in names:
                self._bad(f"tensor name {name!r} is empty or appears twice")
            names.add(name)
            rank = self._number("<I")
            if not 0 < rank <= RANK_MAX:
                self._bad(f"tensor {name!r} has {rank} dimensions")
            shape = [self._number("<Q") for _ in range(rank)]
            size = self._size(name, self._number("<I"), shape)
            if self._number("<Q") != padded:
                self._bad(f"a gap or an overlap before tensor {name!r}")
            end = padded + size
            padded = end + -end % alignment
        return end

    def _size(self, name: str, kind: int, shape: list[int]) -> int:
        if kind not in BLOCKS:
            raise UsageError(
                EngineCode.ENGINE_MODEL_UNSUPPORTED,
                f"{self._what}: tensor {name!r} is of type {kind}, which is not known here",
            )
        if not all(0 < item <= DIMENSION_MAX for item in shape) or prod(shape) > DIMENSION_MAX:
            self._bad(f"the shape of tensor {name!r} is out of bounds")
        elements, size = BLOCKS[kind]
        if shape[0] % elements:
            self._bad(f"a row of tensor {name!r} is no whole number of blocks")
        return prod(shape) // elements * size

    # Pieces ------------------------------------------------------------------------------------

    def _take(self, size: int) -> memoryview:
        if size > self._end - self._at:
            if len(self._data) > HEAD_MAX:
                raise ParseError(
                    CoreCode.TOO_LARGE, f"{self._what}: a head of more than {HEAD_MAX} bytes"
                )
            self._bad("its head reaches past the end of the file")
        self._at += size
        return self._data[self._at - size : self._at]

    def _number(self, form: str) -> int:
        found: int = struct.unpack(form, self._take(struct.calcsize(form)))[0]
        return found

    def _count(self, most: int, what: str) -> int:
        found = self._number("<Q")
        if found > most:
            raise ParseError(CoreCode.TOO_LARGE, f"{self._what}: {found} {what}, at most {most}")
        return found

    def _kind(self) -> ValueType:
        found = self._number("<I")
        try:
            return ValueType(found)
        except ValueError:
            self._bad(f"a value of unknown type {found}")

    def _text(self, most: int) -> str:
        size = self._number("<Q")
        if size > most:
            raise ParseError(CoreCode.TOO_LARGE, f"{self._what}: a text of {size} bytes")
        try:
            return str(self._take(size), "utf-8")
        except UnicodeDecodeError as exc:
            raise ParseError(CoreCode.MALFORMED, f"{self._what}: a text is not UTF-8") from exc

    def _bad(self, why: str) -> NoReturn:
        raise ParseError(CoreCode.MALFORMED, f"{self._what}: {why}")
