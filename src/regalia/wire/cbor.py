"""CBOR (RFC 8949), the part that evidence uses, in one spelling only.

Preferred serialization (section 4.1): definite lengths, the shortest form of every head. Maps
have no duplicate keys, and keys are integers or text. Their order is kept and not checked: AWS's
documents list their fields in the order of a structure, not in the order of their bytes. There
are no tags, floats, undefined or other simple values. So ``encode_cbor(decode_cbor(b)) == b``.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, TypeAlias

from regalia.core.errors import CoreCode, ParseError
from regalia.wire.evidence_codes import EvidenceCode

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Key: TypeAlias = int | str
Cbor: TypeAlias = "int | bytes | str | bool | list[Cbor] | dict[Key, Cbor] | None"

DEPTH_MAX = 8  # arrays and maps within one another

_UNSIGNED, _NEGATIVE, _BYTES, _TEXT, _ARRAY, _MAP, _TAG, _SIMPLE = range(8)
_FALSE, _TRUE, _NULL = 20, 21, 22
_HEADS = {24: (1, 24), 25: (2, 1 << 8), 26: (4, 1 << 16), 27: (8, 1 << 32)}  # size, least value
_IN_HEAD = 24  # values below this stand in the head's own byte
_SIMPLES: Mapping[int, bool | None] = {_FALSE: False, _TRUE: True, _NULL: None}
_U64 = 1 << 64


def decode_cbor(data: bytes, *, limit: int, what: str) -> Cbor:
    """Decode exactly one item.

    Args:
        data: raw, untrusted.
        limit: largest accepted size in bytes, checked before decoding.
        what: the name of the thing, for messages.

    Raises:
        ParseError: TOO_LARGE, MALFORMED, or TRAILING_DATA for bytes behind the item.
    """
    if len(data) > limit:
        raise ParseError(CoreCode.TOO_LARGE, f"{what}: {len(data)} bytes, at most {limit}")
    value, end = decode_cbor_at_start(data, what=what)
    if end != len(data):
        raise ParseError(
            EvidenceCode.TRAILING_DATA, f"{what}: {len(data) - end} bytes behind the end"
        )
    return value


def decode_cbor_at_start(data: bytes, *, what: str) -> tuple[Cbor, int]:
    """The first item, and where it ends; for buffers that are larger than what is in them.

    Args:
        data: raw, untrusted.
        what: names the document in the error.

    Raises:
        ParseError: MALFORMED.
    """
    reader = _Reader(data, what)
    return reader.item(DEPTH_MAX), reader.at


class _Reader:
    """A position in the bytes."""

    __slots__ = ("at", "data", "what")

    def __init__(self, data: bytes, what: str) -> None:
        self.data = data
        self.what = what
        self.at = 0

    def item(self, depth: int) -> Cbor:
        """The next item, with at most ``depth`` levels of arrays and maps."""
        major, value = self._head()
        if major == _BYTES:
            return self._take(value)
        if major in (_ARRAY, _MAP):
            return self._container(major, value, depth)
        if major == _TEXT:
            return self._text(value)
        if major == _SIMPLE:
            return _SIMPLES[value]
        return value if major == _UNSIGNED else -1 - value

    def _container(self, major: int, value: int, depth: int) -> Cbor:
        if depth == 0:
            raise self._malformed(f"more than {DEPTH_MAX} levels deep")
        if value > len(self.data) - self.at:  # every element takes a byte
            raise self._malformed("an array or map is longer than the data")
        if major == _ARRAY:
            return [self.item(depth - 1) for _ in range(value)]
        return self._map(value, depth - 1)

    def _map(self, size: int, depth: int) -> dict[Key, Cbor]:
        out: dict[Key, Cbor] = {}
        for _ in range(size):
            key = self.item(0)
            if isinstance(key, bool) or not isinstance(key, int | str):
                raise self._malformed("a map's key is neither an integer nor text")
            if key in out:
                raise self._malformed(f"the key {str(key)[:80]!r} stands twice in a map")
            out[key] = self.item(depth)
        return out

    def _head(self) -> tuple[int, int]:
        """Major type and argument."""
        at = self.at
        if at >= len(self.data):
            raise self._malformed("it ends too early")
        initial = self.data[at]
        self.at = at + 1
        major, value = initial >> 5, initial & 0x1F
        if major >= _TAG and (major == _TAG or value not in _SIMPLES):
            raise self._malformed(f"the initial byte {initial:#04x} is not accepted here")
        if value < _IN_HEAD:
            return major, value
        if value not in _HEADS:
            raise self._malformed("an indefinite length or a reserved head")
        size, least = _HEADS[value]
        value = int.from_bytes(self._take(size), "big")
        if value < least:
            raise self._malformed("a head is not in its shortest form")
        return major, value

    def _text(self, size: int) -> str:
        try:
            return self._take(size).decode("utf-8")
        except UnicodeDecodeError as exc:
            raise self._malformed("a text is not UTF-8") from exc

    def _take(self, size: int) -> bytes:
        end = self.at + size
        if end > len(self.data):
            raise self._malformed("it ends too early")
        taken = self.data[self.at : end]
        self.at = end
        return taken

    def _malformed(self, why: str) -> ParseError:
        return ParseError(CoreCode.MALFORMED, f"{self.what}: byte {self.at}: {why}")


def encode_cbor(value: Cbor | Mapping[str, Cbor] | Mapping[int, Cbor] | Sequence[Cbor]) -> bytes:
    """Inverse of ``decode_cbor``; maps keep their order.

    Raises:
        TypeError: a value has no encoding here.
        ValueError: an integer needs more than 64 bits.
    """
    out = bytearray()
    _encode(value, out)
    return bytes(out)


def _encode(value: object, out: bytearray) -> None:
    if value is None or isinstance(value, bool):
        simple = _NULL if value is None else _TRUE if value else _FALSE
        out.append(_SIMPLE << 5 | simple)
    elif isinstance(value, int):
        out += _head(_UNSIGNED, value) if value >= 0 else _head(_NEGATIVE, -1 - value)
    elif isinstance(value, bytes):
        out += _head(_BYTES, len(value)) + value
    elif isinstance(value, str):
        encoded = value.encode("utf-8")
        out += _head(_TEXT, len(encoded)) + encoded
    elif isinstance(value, list | tuple):
        out += _head(_ARRAY, len(value))
        for each in value:
            _encode(each, out)
    elif isinstance(value, dict):
        out += _head(_MAP, len(value))
        for key, each in value.items():
            if isinstance(key, bool) or not isinstance(key, int | str):
                raise TypeError("a map's key is an integer or text")
            _encode(key, out)
            _encode(each, out)
    else:
        raise TypeError(f"{type(value).__name__} has no CBOR encoding here")


def _head(major: int, value: int) -> bytes:
    if value < _IN_HEAD:
        return bytes((major << 5 | value,))
    if value >= _U64:
        raise ValueError("an integer of more than 64 bits")
    for code, form, end in ((24, ">BB", 1 << 8), (25, ">BH", 1 << 16), (26, ">BI", 1 << 32)):
        if value < end:
            return struct.pack(form, major << 5 | code, value)
    return struct.pack(">BQ", major << 5 | 27, value)
