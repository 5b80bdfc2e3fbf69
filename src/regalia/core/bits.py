"""Single bits of integer fields."""

from __future__ import annotations


def bit(field: int, index: int) -> bool:
    """Whether the bit is one."""
    return bool((field >> index) & 1)
