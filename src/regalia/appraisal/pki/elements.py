"""DER of vendors' own extensions (ITU-T X.690), read element by element.

Strict: definite lengths in their shortest form, one-byte tags, nothing left over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from regalia.core.errors import CoreCode, ParseError

if TYPE_CHECKING:
    from collections.abc import Iterator

INTEGER = 0x02
OCTET_STRING = 0x04
OBJECT_IDENTIFIER = 0x06
SEQUENCE = 0x30
CONTEXT = 0x80  # [n] IMPLICIT, primitive
CONTEXT_CONSTRUCTED = 0xA0

_LONG_LENGTH = 0x80
_LENGTH_BYTES_MAX = 2
_HIGH_TAG = 0x1F


def elements(data: bytes, *, what: str) -> Iterator[tuple[int, bytes, bytes]]:
    """(tag, contents, whole encoding) of each element in ``data``, one after the other.

    Args:
        data: raw, untrusted.
        what: for messages.

    Raises:
        ParseError: MALFORMED.
    """
    at, end = 0, len(data)
    while at < end:
        start, stop = _bounds(data, at, what)
        yield data[at], data[start:stop], data[at:stop]
        at = stop


def one(data: bytes, tag: int, *, what: str) -> bytes:
    """The contents of the one element that ``data`` is. Raises ParseError MALFORMED.

    Args:
        data: DER, untrusted.
        tag: that the element must have.
        what: names the element in the error.
    """
    found = list(elements(data, what=what))
    if len(found) != 1 or found[0][0] != tag:
        raise _malformed(what)
    return found[0][1]


def _bounds(data: bytes, at: int, what: str) -> tuple[int, int]:
    """Where the contents of the element at ``at`` begin and end."""
    if len(data) < at + 2 or data[at] & _HIGH_TAG == _HIGH_TAG:
        raise _malformed(what)
    size, start = data[at + 1], at + 2
    if size & _LONG_LENGTH:
        width = size & ~_LONG_LENGTH
        if not 0 < width <= _LENGTH_BYTES_MAX or len(data) < start + width:
            raise _malformed(what)
        size = int.from_bytes(data[start : start + width], "big")
        start += width
        if size < (_LONG_LENGTH if width == 1 else 1 << 8 * (width - 1)):
            raise _malformed(what)
    if start + size > len(data):
        raise _malformed(what)
    return start, start + size


def _malformed(what: str) -> ParseError:
    return ParseError(CoreCode.MALFORMED, f"{what}: not the DER that its specification says")
