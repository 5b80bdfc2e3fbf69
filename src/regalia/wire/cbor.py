"""The subset of CBOR (RFC 8949) that evidence uses: decoded by ``cbor2``, in one encoding only.

Accepted is preferred serialization (section 4.1): definite lengths, and the shortest form of every
head. Maps have no duplicate keys, and keys are integers or text. The order of keys is kept and not
checked, because AWS's documents list their fields in the order of a structure and not in bytewise
order. Tags, floats, undefined and other simple values are refused. Therefore
``encode_cbor(decode_cbor(b)) == b``, which is how lengths, heads and duplicates are checked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias, TypeVar

import cbor2
import msgspec

from regalia.core.errors import CoreCode, ParseError
from regalia.wire.evidence_codes import EvidenceCode

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

Key: TypeAlias = int | str
Cbor: TypeAlias = "int | bytes | str | bool | list[Cbor] | dict[Key, Cbor] | None"
T = TypeVar("T")

DEPTH_MAX = 8  # levels of nested arrays and maps

_SCALARS = frozenset({int, bytes, str, bool, type(None)})
_KEYS = frozenset({int, str})  # not bool, which is a subclass of int in Python
_OPEN_MAP, _BREAK = 0xBF, 0xFF  # a map of indefinite length, and its end
_SHORT_MAP_MAX = 23  # entries of a map whose head is one byte
_U64 = 1 << 64
_OTHER_ENCODING = "a key stands twice, or a length or number is not in its one encoding"


class _NoTags(dict[int, "Callable[[object, bool], NoReturn]"]):
    """For cbor2: every tag is refused before it can mean anything, whatever cbor2 knows of it."""

    def __missing__(self, tag: int) -> Callable[[object, bool], NoReturn]:
        def refuse(_value: object, _immutable: bool) -> NoReturn:  # noqa: FBT001 - cbor2's own way
            raise ValueError(f"tag {tag} is not accepted here")

        return refuse


_NO_TAGS = _NoTags()


def decode_cbor(data: bytes, *, limit: int, what: str) -> Cbor:
    """Decode exactly one data item.

    Args:
        data: raw, untrusted.
        limit: maximum size in bytes, checked before decoding.
        what: name of the data for error messages.

    Raises:
        ParseError: TOO_LARGE, MALFORMED, or TRAILING_DATA for bytes after the item.
    """
    _require_size(data, limit, what)
    value, end = decode_cbor_at_start(data, what=what)
    _require_end(data, end, what)
    return value


def decode_cbor_at_start(data: bytes, *, what: str) -> tuple[Cbor, int]:
    """Decode the first data item of a buffer that may be larger than the item.

    Args:
        data: raw, untrusted.
        what: name of the data for error messages.

    Returns:
        The item, and the offset of the first byte after it.

    Raises:
        ParseError: MALFORMED.
    """
    value, encoded = _decode(data, what)
    try:
        _require_subset(value)
    except TypeError as exc:
        raise _malformed(what, str(exc)) from exc
    if not data.startswith(encoded):
        raise _malformed(what, _OTHER_ENCODING)
    return value, len(encoded)


def parse_cbor(data: bytes, kind: type[T], *, limit: int, what: str) -> T:
    """Decode exactly one data item of a given type.

    The outermost map may be of indefinite length, as AWS's hypervisor writes it; everything in it
    has its one encoding.

    Args:
        data: raw, untrusted.
        kind: what ``msgspec`` must be able to make of it without converting anything.
        limit: maximum size in bytes, checked before decoding.
        what: name of the data for error messages.

    Raises:
        ParseError: TOO_LARGE, MALFORMED, or TRAILING_DATA for bytes after the item.
    """
    _require_size(data, limit, what)
    value, encoded = _decode(data, what)
    if data[0] == _OPEN_MAP and len(value) <= _SHORT_MAP_MAX:
        encoded = bytes((_OPEN_MAP,)) + encoded[1:] + bytes((_BREAK,))
    if not data.startswith(encoded):
        raise _malformed(what, _OTHER_ENCODING)
    _require_end(data, len(encoded), what)
    try:
        return msgspec.convert(value, kind, builtin_types=(bytes,))
    except msgspec.ValidationError as exc:
        raise _malformed(what, str(exc)) from exc


def _decode(data: bytes, what: str) -> tuple[Any, bytes]:
    """What ``data`` begins with, and how that is encoded."""
    try:
        value = cbor2.loads(data, semantic_decoders=_NO_TAGS, max_depth=DEPTH_MAX)
        return value, cbor2.dumps(value)
    except cbor2.CBORError as exc:
        raise _malformed(what, str(exc)) from exc


def _require_size(data: bytes, limit: int, what: str) -> None:
    if len(data) > limit:
        raise ParseError(CoreCode.TOO_LARGE, f"{what}: {len(data)} bytes, at most {limit}")


def _require_end(data: bytes, end: int, what: str) -> None:
    if end != len(data):
        raise ParseError(
            EvidenceCode.TRAILING_DATA, f"{what}: {len(data) - end} bytes behind the end"
        )


def _malformed(what: str, why: str) -> ParseError:
    return ParseError(CoreCode.MALFORMED, f"{what}: {why}")


def encode_cbor(value: Cbor | Mapping[str, Cbor] | Mapping[int, Cbor] | Sequence[Cbor]) -> bytes:
    """Encode a data item. Inverse of ``decode_cbor``. Maps keep the order of their keys.

    Raises:
        TypeError: a value has no encoding here.
        ValueError: an integer needs more than 64 bits.
    """
    _require_subset(value)
    return cbor2.dumps(value)


def _require_subset(value: object) -> None:
    """Raise TypeError or ValueError for a value that this subset does not have."""
    if isinstance(value, dict):
        if not _KEYS.issuperset(map(type, value)):
            raise TypeError("a map's key is an integer or text")
        for each in (*value, *value.values()):
            _require_subset(each)
    elif isinstance(value, list | tuple):
        for each in value:
            _require_subset(each)
    elif type(value) not in _SCALARS:
        raise TypeError(f"{type(value).__name__} has no CBOR encoding here")
    elif isinstance(value, int) and not -_U64 <= value < _U64:
        raise ValueError("an integer of more than 64 bits")
