"""Access to single bits of integer fields."""

from __future__ import annotations


def bit(field: int, index: int) -> bool:
    """Whether a bit is set.

    Args:
        field: an unsigned integer.
        index: number of the bit; 0 is the least significant.
    """
    return bool((field >> index) & 1)
