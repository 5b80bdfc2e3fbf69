"""Variable-length integers of QUIC (RFC 9000, section 16): 1, 2, 4 or 8 bytes, big-endian.

The two top bits of the first byte say which. We write and accept the shortest form only.
"""

from __future__ import annotations

from regalia.core.errors import Code, ParseError

MAX = (1 << 62) - 1
_SIZES = (1, 2, 4, 8)


class VarintCode(Code):
    """Refusals of integers."""

    VARINT_NOT_MINIMAL = (
        "Two spellings of one number would let somebody in the path mark a message.",
        "Use a peer that writes the shortest form of every integer.",
    )


def encode_varint(value: int) -> bytes:
    """Shortest form. ValueError outside 0 to 2^62 - 1."""
    for prefix, size in enumerate(_SIZES):
        if 0 <= value < 1 << (8 * size - 2):
            return (value | prefix << (8 * size - 2)).to_bytes(size)
    raise ValueError(f"{value} does not fit a variable-length integer")


def read_varint(data: bytes | bytearray, offset: int = 0, *, what: str) -> tuple[int, int] | None:
    """Read one integer at ``offset``.

    Args:
        data: untrusted.
        offset: where the integer begins, in bytes.
        what: names the value in the error.

    Returns:
        The value and the offset behind it; None while bytes are missing.

    Raises:
        ParseError: VARINT_NOT_MINIMAL.
    """
    if offset >= len(data):
        return None
    size = _SIZES[data[offset] >> 6]
    raw = data[offset : offset + size]
    if len(raw) < size:
        return None
    value = int.from_bytes(raw) & ((1 << (8 * size - 2)) - 1)
    if encode_varint(value) != raw:
        raise ParseError(
            VarintCode.VARINT_NOT_MINIMAL, f"{what}: {value} is written in {size} bytes"
        )
    return value, offset + size
