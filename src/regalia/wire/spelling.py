"""Bytes as tools spell them in text: hex, base64, PEM, lists of numbers.

Nobody signs these spellings, so all that mean the same bytes are read. What is strict is what the
bytes themselves are parsed with.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

BYTE_MAX = 255
_UTF8_MARK = b"\xef\xbb\xbf"
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_BEGIN, _END, _DASHES = b"-----BEGIN ", b"-----END ", b"-----"
_ENCODED_BEGIN, _FORM_BEGIN = b"BEGIN%20", b"BEGIN+"  # percent-encoded, as in a URL or a form
_HEX_TOKENS = re.compile(rb"(?:0[xX])?((?:[0-9A-Fa-f]{2})+)")
_BETWEEN_TOKENS = re.compile(rb"[\s,:;]+")
_BRACKETS = b"{}[]()\"'"
_ENCODED_BYTE = re.compile(rb"%([0-9A-Fa-f]{2})")
_BASE64 = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=")
_URL_SAFE = bytes.maketrans(b"-_", b"+/")
_SEQUENCE = 0x30
_LONG_FORM = 0x80
_LENGTH_SIZE_MAX = 4  # bytes
_LAYERS_MAX = 3  # spellings around each other
_BYTES_MEMBERS = ("py/b64", "data", "$binary", "base64", "bytes")


def plain_text(data: bytes) -> bytes:
    """Text without a byte order mark and white space around it; UTF-16 becomes UTF-8.

    Bytes that are no text come back as they are.
    """
    if data.startswith(_UTF16_MARKS):
        try:
            text = data.decode("utf-16")
        except UnicodeDecodeError:
            return data
        return text.strip().encode() if text.isascii() else data
    return data.removeprefix(_UTF8_MARK).strip()


def from_hex(text: bytes) -> bytes | None:
    """Bytes of hex digits, or None.

    ``0x`` may stand before all of it or before each byte; white space, commas and colons may
    stand between bytes, and brackets around them.
    """
    tokens = [each for each in _BETWEEN_TOKENS.split(text.strip(_BRACKETS + b" \t\r\n")) if each]
    matches = [_HEX_TOKENS.fullmatch(each) for each in tokens]
    digits = [match[1] for match in matches if match is not None]
    if not tokens or len(digits) != len(tokens):
        joined = b"".join(tokens)  # lines may be cut within a byte
        match = _HEX_TOKENS.fullmatch(joined) if joined.isalnum() else None
        return None if match is None else binascii.unhexlify(match[1])
    return binascii.unhexlify(b"".join(digits))


def from_base64(text: bytes) -> bytes | None:
    """Bytes of base64 in either alphabet, with or without padding, or None."""
    plain = b"".join(text.strip(b"\"' \t\r\n").split()).translate(_URL_SAFE)
    if not plain or not _BASE64.issuperset(plain):
        return None
    plain = plain.rstrip(b"=")
    try:
        return base64.b64decode(plain + b"=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None


def from_pem(text: bytes) -> list[tuple[str, bytes]]:
    """(label, body) of the PEM blocks in a text (RFC 7468), whatever stands around them.

    The text may be percent-encoded, as Intel's service writes it into a header, and its line ends
    may be a backslash and an n, as they are once a JSON text was pasted. A block that is cut
    short or is not base64 is left out.
    """
    text = _unquoted(text)
    text = text.replace(b"\\r", b"").replace(b"\\n", b"\n")
    blocks: list[tuple[str, bytes]] = []
    for block in text.split(_BEGIN)[1:]:
        label, _, rest = block.partition(_DASHES)
        body, end, _ = rest.partition(_END + label + _DASHES)
        der = from_base64(body) if end else None
        if der is not None:
            blocks.append((label.decode("ascii", "replace"), der))
    return blocks


def is_pem(text: bytes) -> bool:
    """Whether a text has the beginning of a PEM block, percent-encoded or not."""
    return _BEGIN in text or _BEGIN in _unquoted(text)


def _unquoted(text: bytes) -> bytes:
    """Percent-encoding taken off, if the text has a PEM block so encoded."""
    if _FORM_BEGIN in text:
        text = text.replace(b"+", b" ")
    elif _ENCODED_BEGIN not in text:
        return text
    return _ENCODED_BYTE.sub(lambda found: binascii.unhexlify(found[1]), text)


def from_text(text: bytes) -> bytes | None:
    """Bytes of hex, base64, or one PEM block; None if it is neither. Hex goes first."""
    if is_pem(text):
        blocks = from_pem(text)
        return blocks[0][1] if len(blocks) == 1 else None
    found = from_hex(text)
    return from_base64(text) if found is None else found


def from_numbers(values: Sequence[object]) -> bytes | None:
    """Bytes of a list of numbers from 0 to 255; None if it is none, or empty."""
    if not values or not all(
        type(value) is int and 0 <= value <= BYTE_MAX  # bool is a subclass of int
        for value in values
    ):
        return None
    return bytes(value for value in values if isinstance(value, int))


def split_der(data: bytes) -> tuple[bytes, ...]:
    """The ASN.1 sequences that a file holds one behind the other; none if it is no such file."""
    found: list[bytes] = []
    at = 0
    while at < len(data):
        end = _der_end(data, at)
        if end is None:
            return ()
        found.append(data[at:end])
        at = end
    return tuple(found)


def _der_end(data: bytes, at: int) -> int | None:
    """Where the sequence that begins here ends (X.690, 8.1.3)."""
    if data[at : at + 1] != bytes([_SEQUENCE]) or at + 2 > len(data):
        return None
    size, at = data[at + 1], at + 2
    if size >= _LONG_FORM:
        count = size - _LONG_FORM
        if not 1 <= count <= _LENGTH_SIZE_MAX:
            return None
        size, at = int.from_bytes(data[at : at + count], "big"), at + count
    return at + size if at + size <= len(data) else None


def certificates_in(data: bytes) -> tuple[bytes, ...]:
    """Everything in a file that could be a certificate or a revocation list, in DER.

    PEM, percent-encoded or not; DER, one or several behind each other; either of them in hex or
    base64. They are not parsed here. None if there are none.
    """
    for _ in range(_LAYERS_MAX):  # base64 of PEM is how NVIDIA's tools write chains
        text = plain_text(data)
        if is_pem(text):
            return tuple(der for _, der in from_pem(text))
        found = split_der(data)
        if found:
            return found
        decoded = from_text(text)
        if decoded is None:
            return ()
        data = decoded
    return ()


def from_json_value(value: object) -> bytes | None:
    """Bytes that a member of a JSON document stands for, or None.

    Text as ``from_text``; a list of numbers; or an object around one of them, as serializers of
    other languages write bytes (``{"py/b64": …}``, ``{"type": "Buffer", "data": […]}``).
    """
    if isinstance(value, str):
        return from_text(plain_text(value.encode("utf-8", "replace")))
    if isinstance(value, list):
        return from_numbers(value)
    if isinstance(value, dict):
        for name in _BYTES_MEMBERS:
            if name in value:
                return from_json_value(value[name])
    return None


def certificates_in_json(value: object) -> tuple[bytes, ...]:
    """``certificates_in`` of every text and list of numbers in a JSON value, in its order."""
    if isinstance(value, str):
        return certificates_in(value.encode("utf-8", "replace"))
    if isinstance(value, list):
        raw = from_numbers(value)
        if raw is not None:
            return certificates_in(raw)
        return tuple(der for each in value for der in certificates_in_json(each))
    if isinstance(value, dict):
        return tuple(der for each in value.values() for der in certificates_in_json(each))
    return ()
