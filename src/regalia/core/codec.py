"""Canonical encodings that all formats share. Spec: docs/spec/conventions.md.

* JSON: UTF-8, object members sorted by code point, no white space, integers only, no
  duplicates. ``parse_json`` re-encodes and compares, so it accepts only the canonical encoding.
* Base64: RFC 4648, section 4, with padding, canonical. Hex: lower case. A struct's member of type
  ``bytes`` is base64 in JSON, and the comparison ensures that it is canonical.
* ``lp``: every part is preceded by its length as a 4-byte big-endian integer, so different tuples
  of byte strings give different outputs.
"""

from __future__ import annotations

import base64
import binascii
import struct
from typing import TypeVar

import msgspec

from regalia.core.errors import CoreCode, ParseError

T = TypeVar("T")

MIB = 1 << 20
_U32_MAX = (1 << 32) - 1
_U32 = struct.Struct(">I")


def _bytes_only(value: object) -> object:
    # Called for types that msgspec cannot encode itself; none of them has a canonical form.
    raise TypeError(f"{type(value).__name__} has no canonical JSON form")


def canonical_json(value: object) -> bytes:
    """Encode a value (struct, dict, list, str, int, bool, None) in canonical JSON."""
    return msgspec.json.encode(value, order="sorted", enc_hook=_bytes_only)


def parse_json(data: bytes, kind: type[T], *, limit: int, what: str) -> T:
    """Decode canonical JSON into ``kind``.

    Args:
        data: raw, untrusted.
        kind: a msgspec struct type that forbids unknown fields, or a plain type.
        limit: maximum size in bytes, checked before decoding.
        what: name of the document for error messages.

    Raises:
        ParseError: TOO_LARGE or MALFORMED.
    """
    at_most(data, limit, what=what)
    try:
        value = msgspec.json.decode(data, type=kind)
        canonical = canonical_json(value) == data
    except (msgspec.MsgspecError, UnicodeError, RecursionError, TypeError) as exc:
        raise ParseError(CoreCode.MALFORMED, f"{what}: {exc}") from exc
    if not canonical:
        raise ParseError(CoreCode.MALFORMED, f"{what}: not in canonical JSON form")
    return value


def b64(data: bytes | bytearray | memoryview) -> str:
    """Encode in standard base64 with padding."""
    return base64.b64encode(data).decode("ascii")


def unb64(text: str, *, what: str, size: int | None = None, limit: int = 16 * MIB) -> bytes:
    """Decode canonical base64.

    Args:
        text: untrusted.
        what: name of the value for error messages.
        size: required number of decoded bytes; None for any number up to ``limit``.
        limit: maximum number of decoded bytes; the text's length is checked before decoding.

    Raises:
        ParseError: MALFORMED or TOO_LARGE.
    """
    if len(text) > (limit + 2) // 3 * 4:
        raise ParseError(CoreCode.TOO_LARGE, f"{what}: base64 of more than {limit} bytes")
    try:
        data = binascii.a2b_base64(text, strict_mode=True)
    except ValueError as exc:
        raise ParseError(CoreCode.MALFORMED, f"{what}: not base64") from exc
    # Strict mode refuses other alphabets and wrong padding. Only unused bits in the last group of
    # four characters can still differ, so it is enough to re-encode that group.
    if b64(data[(len(data) - 1) // 3 * 3 :]) != text[-4:]:
        raise ParseError(CoreCode.MALFORMED, f"{what}: base64 is not canonical")
    # The length of the text says the size but for the two bytes that padding stands for.
    at_most(data, limit, what=what)
    return exact(data, size, what=what) if size is not None else data


def unhex(text: str, *, what: str, size: int | None = None) -> bytes:
    """Decode lower-case hex.

    Args:
        text: untrusted.
        what: name of the value for error messages.
        size: required number of decoded bytes; None for any number.

    Raises:
        ParseError: MALFORMED.
    """
    try:
        data = bytes.fromhex(text)
    except ValueError as exc:
        raise ParseError(CoreCode.MALFORMED, f"{what}: not hex") from exc
    if data.hex() != text:
        raise ParseError(CoreCode.MALFORMED, f"{what}: hex must be lower case without spaces")
    return exact(data, size, what=what) if size is not None else data


def decimal(text: str, *, what: str, maximum: int) -> int:
    """Decode a number in decimal digits, without sign or leading zeros.

    Args:
        text: untrusted.
        what: name of the value for error messages.
        maximum: greatest number that is accepted.

    Raises:
        ParseError: MALFORMED.
    """
    # The size comes first: int() takes long for many digits, and refuses more than 4,300 of them
    # with an exception that no caller expects.
    if len(text) <= len(str(maximum)) and text.isascii() and text.isdigit():
        number = int(text)
        if str(number) == text and number <= maximum:
            return number
    raise ParseError(
        CoreCode.MALFORMED, f"{what}: {text[:32]!r} is no decimal number up to {maximum}"
    )


def exact(data: bytes, size: int, *, what: str) -> bytes:
    """Return ``data`` if it has exactly ``size`` bytes, without padding or truncating it.

    Args:
        data: untrusted.
        size: required number of bytes.
        what: name of the value for error messages.

    Raises:
        ParseError: MALFORMED.
    """
    if len(data) != size:
        raise ParseError(CoreCode.MALFORMED, f"{what}: want {size} bytes, got {len(data)}")
    return data


def at_most(data: bytes, limit: int, *, what: str) -> bytes:
    """Return ``data`` if it has at most ``limit`` bytes.

    Args:
        data: untrusted.
        limit: maximum number of bytes.
        what: name of the value for error messages.

    Raises:
        ParseError: TOO_LARGE.
    """
    if len(data) > limit:
        raise ParseError(CoreCode.TOO_LARGE, f"{what}: {len(data)} bytes, at most {limit}")
    return data


def lp(*parts: bytes) -> bytes:
    """Concatenate parts, each preceded by its length (4 bytes, big-endian).

    Raises:
        ValueError: a part has 4 GiB or more, which is a bug of the caller.
    """
    out: list[bytes] = []
    for part in parts:
        if len(part) > _U32_MAX:
            raise ValueError("part too long for a 4-byte length")
        out += (_U32.pack(len(part)), part)
    return b"".join(out)
