"""The wire format of protocol buffers, as strictly as a file in ONNX needs it.

A message is a sequence of fields; each begins with a varint ``number << 3 | kind``. Values are
views on the message, so nothing is copied, and no length is believed before it is seen to fit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from regalia.core.errors import CoreCode, ParseError

if TYPE_CHECKING:
    from collections.abc import Iterator

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # kinds; groups (3 and 4) have long been abolished
_VARINT_MAX = 10  # bytes
_NUMBER_MAX = (1 << 29) - 1
_SIZES = {FIXED64: 8, FIXED32: 4}


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a message.

    Attributes:
        number: as the schema has it.
        kind: VARINT, FIXED64, BYTES or FIXED32.
        integer: value of a varint; 0 for other kinds.
        data: content of the field; empty for a varint.
        at: offset of ``data`` in the message.
        whole: the field with its tag and length.
    """

    number: int
    kind: int
    integer: int
    data: memoryview
    at: int
    whole: memoryview


def read_varint(data: memoryview, at: int, what: str) -> tuple[int, int]:
    """A varint of at most 64 bits, and the offset after it.

    Args:
        data: raw, untrusted.
        at: offset of its first byte.
        what: name for error messages.

    Raises:
        ParseError: MALFORMED.
    """
    value = 0
    for place, byte in enumerate(data[at : at + _VARINT_MAX]):
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:  # noqa: PLR2004 - the bit that says that another byte follows
            if value >> 64:
                break
            return value, at + place + 1
    raise ParseError(CoreCode.MALFORMED, f"{what}: a number is cut off or too long")


def fields(data: memoryview, what: str) -> Iterator[Field]:
    """Yield the fields of a message in their order.

    Args:
        data: the message, raw and untrusted.
        what: name for error messages.

    Raises:
        ParseError: MALFORMED.
    """
    at = 0
    while at < len(data):
        begin = at
        tag, at = read_varint(data, at, what)
        number, kind = tag >> 3, tag & 7
        if not 0 < number <= _NUMBER_MAX:
            raise ParseError(CoreCode.MALFORMED, f"{what}: a field without a number")
        integer, size = 0, _SIZES.get(kind, 0)
        if kind == VARINT:
            integer, at = read_varint(data, at, what)
        elif kind == BYTES:
            size, at = read_varint(data, at, what)
        elif kind not in _SIZES:
            raise ParseError(CoreCode.MALFORMED, f"{what}: a field of unknown kind {kind}")
        if size > len(data) - at:
            raise ParseError(CoreCode.MALFORMED, f"{what}: a field reaches past the end")
        yield Field(number, kind, integer, data[at : at + size], at, data[begin : at + size])
        at += size


def varint(value: int) -> bytes:
    """Encode a natural number of at most 64 bits."""
    found = bytearray()
    while value > 0x7F:  # noqa: PLR2004 - seven bits to a byte
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


def length_delimited(number: int, content: bytes) -> bytes:
    """Encode a field of kind BYTES.

    Args:
        number: of the field.
        content: its value.
    """
    return varint(number << 3 | BYTES) + varint(len(content)) + content
