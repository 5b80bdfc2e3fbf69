"""Single bits of integer fields."""

from __future__ import annotations


def bit(field: int, index: int) -> bool:
    """Whether the bit is one.

    Args:
        field: an unsigned integer.
        index: the bit's number; 0 is the lowest.
    """
    return bool((field >> index) & 1)
