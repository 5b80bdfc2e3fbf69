"""Every small change of signed bytes and of sequences, for tests that none of them is accepted.

Mutants come with words that say what was changed, for the message of the test that one broke.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, TypeVar

from regalia.core.errors import RegaliaError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

Item = TypeVar("Item")
Mutant = TypeVar("Mutant")

BITS = 8


def every_flip(
    data: bytes, *, start: int = 0, end: int | None = None
) -> Iterator[tuple[str, bytes]]:
    """One bit of each byte of ``data[start:end]`` flipped; low bits and high ones take turns."""
    for at in range(len(data))[start:end]:
        altered = bytearray(data)
        altered[at] ^= 1 << at % BITS
        yield f"bit {at % BITS} of byte {at:#x} flipped", bytes(altered)


def dropped(items: Sequence[Item]) -> Iterator[tuple[str, tuple[Item, ...]]]:
    """Each item left out, one at a time."""
    for at in range(len(items)):
        yield f"item {at} dropped", (*items[:at], *items[at + 1 :])


def duplicated(items: Sequence[Item]) -> Iterator[tuple[str, tuple[Item, ...]]]:
    """Each item twice in a row, one at a time."""
    for at in range(len(items)):
        yield f"item {at} duplicated", (*items[: at + 1], *items[at:])


def reordered(items: Sequence[Item]) -> Iterator[tuple[str, tuple[Item, ...]]]:
    """Each pair of different items swapped."""
    for one, other in itertools.combinations(range(len(items)), 2):
        if items[one] == items[other]:
            continue
        swapped = list(items)
        swapped[one], swapped[other] = swapped[other], swapped[one]
        yield f"items {one} and {other} swapped", tuple(swapped)


def truncated(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Every proper prefix, and one byte too many."""
    for size in range(len(data)):
        yield f"cut to {size} bytes", data[:size]
    yield "one byte added", data + b"\x00"


def none_accepted(
    verify: Callable[[Mutant], object], mutants: Iterable[tuple[str, Mutant]]
) -> set[str]:
    """The codes with which all mutants are refused.

    The caller shows that the original is accepted. Whatever is not a ``RegaliaError`` passes
    through: hostile bytes end in refusals and in nothing else.

    Raises:
        AssertionError: a mutant was accepted, or there was none to try.
    """
    codes: set[str] = set()
    for what, mutant in mutants:
        try:
            verify(mutant)
        except RegaliaError as refusal:
            codes.add(refusal.code.name)
        else:
            raise AssertionError(f"accepted with {what}")
    if not codes:
        raise AssertionError("there was nothing to try")
    return codes
