"""Parses a TensorProto: name, type, shape, and where the numbers are."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from math import prod
from typing import TYPE_CHECKING, NoReturn

from regalia.core.errors import CoreCode, ParseError
from regalia.engines.onnx.wire import VARINT, fields, read_varint

if TYPE_CHECKING:
    from regalia.engines.onnx.wire import Field

RANK_MAX = 8
DIMENSION_MAX = 1 << 48
NAME_MAX = 512  # bytes

# Names in numpy and sizes in bytes of TensorProto.DataType.
ELEMENTS = {
    1: ("float32", 4),
    2: ("uint8", 1),
    3: ("int8", 1),
    4: ("uint16", 2),
    5: ("int16", 2),
    6: ("int32", 4),
    7: ("int64", 8),
    9: ("bool", 1),
    10: ("float16", 2),
    11: ("float64", 8),
    12: ("uint32", 4),
    13: ("uint64", 8),
}


class _Number(IntEnum):
    """Fields of the message."""

    DIMS = 1
    TYPE = 2
    NAME = 8
    RAW = 9
    EXTERNAL = 13
    LOCATION = 14


_SINGLE = (_Number.TYPE, _Number.NAME, _Number.RAW, _Number.LOCATION)
_TYPED = (4, 5, 6, 7, 10, 11)  # numbers as fields of their own type
_EXTERNAL = 1  # value of LOCATION


@dataclass(frozen=True, slots=True)
class Tensor:
    """What a TensorProto says.

    Attributes:
        name: empty in the attribute of a node.
        kind: element type; a key of ``ELEMENTS`` if it is known here.
        shape: sizes.
        raw: numbers as raw bytes; None if there are none.
        typed: bytes of numbers as fields of their own type.
        external: entries that say where in another file the numbers are.
        in_file: whether they are in another file.
    """

    name: str
    kind: int
    shape: tuple[int, ...]
    raw: Field | None
    typed: int
    external: dict[str, str]
    in_file: bool

    @property
    def size(self) -> int:
        """Bytes that type and shape want. The type must be known."""
        return prod(self.shape) * ELEMENTS[self.kind][1]


def parse_tensor(data: memoryview, what: str) -> Tensor:
    """Parse a TensorProto.

    Args:
        data: raw, untrusted.
        what: name of the file for error messages.

    Raises:
        ParseError: MALFORMED.
    """
    single: dict[int, Field] = {}
    shape: list[int] = []
    external: dict[str, str] = {}
    typed = 0
    for item in fields(data, what):
        if item.number in _SINGLE:
            if item.number in single:
                _bad(what, "a field of a tensor appears twice")
            single[item.number] = item
        elif item.number == _Number.DIMS:
            shape += _sizes(item, what)
            if len(shape) > RANK_MAX:
                _bad(what, f"a tensor has more than {RANK_MAX} dimensions")
        elif item.number == _Number.EXTERNAL:
            key, value = _entry(item, what)
            if key in external:
                _bad(what, "a field of a tensor appears twice")
            external[key] = value
        elif item.number in _TYPED:
            typed += len(item.whole)
    location = _integer(single, _Number.LOCATION)
    _check_values(location, shape, external, what)
    name = single.get(_Number.NAME)
    return Tensor(
        name=_text(name, what) if name else "",
        kind=_integer(single, _Number.TYPE),
        shape=tuple(shape),
        raw=single.get(_Number.RAW),
        typed=typed,
        external=external,
        in_file=location == _EXTERNAL,
    )


def _check_values(location: int, shape: list[int], external: dict[str, str], what: str) -> None:
    if location > _EXTERNAL or (external and location != _EXTERNAL):
        _bad(what, "a tensor lies in an unknown place")
    if max(shape, default=0) > DIMENSION_MAX:
        _bad(what, "a dimension is out of bounds")


def _integer(single: dict[int, Field], number: int) -> int:
    found = single.get(number)
    return found.integer if found else 0


def _sizes(item: Field, what: str) -> list[int]:
    if item.kind == VARINT:
        return [item.integer]
    sizes: list[int] = []
    at = 0
    while at < len(item.data) and len(sizes) <= RANK_MAX:
        size, at = read_varint(item.data, at, what)
        sizes.append(size)
    return sizes


def _text(item: Field, what: str) -> str:
    if len(item.data) > NAME_MAX:
        _bad(what, "a name is too long")
    try:
        return str(item.data, "utf-8")
    except UnicodeDecodeError as exc:
        raise ParseError(CoreCode.MALFORMED, f"{what}: a name is not UTF-8") from exc


def _entry(item: Field, what: str) -> tuple[str, str]:
    parts = {part.number: _text(part, what) for part in fields(item.data, what)}
    return parts.get(1, ""), parts.get(2, "")


def _bad(what: str, why: str) -> NoReturn:
    raise ParseError(CoreCode.MALFORMED, f"{what}: {why}")
