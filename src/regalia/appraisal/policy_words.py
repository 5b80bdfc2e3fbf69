"""Checks of single values in policy documents, shared by the sections of all TEEs.

Every refusal names the field by its path.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal, TypeVar

from regalia.core.codec import unhex
from regalia.core.errors import CoreCode, ParseError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")

ENTRIES_MAX = 1024  # of any list
WORD_MAX = 128  # characters of a name, region, site, tier, CSP id

_WORD = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")


def bad(path: str, why: str) -> ParseError:
    """The refusal of one field."""
    return ParseError(CoreCode.MALFORMED, f"policy, {path}: {why}")


def each(values: Sequence[T] | Literal["any"], path: str, check: Callable[[T, str], None]) -> None:
    """Check every entry of a list, its length, and that nothing stands in it twice."""
    if values == "any":
        return
    if len(values) > ENTRIES_MAX:
        raise bad(path, f"{len(values)} entries, at most {ENTRIES_MAX}")
    for index, value in enumerate(values):
        check(value, f"{path}[{index}]")
        if value in values[:index]:
            raise bad(f"{path}[{index}]", "stands in the list twice")


def any_text(value: str, path: str) -> None:
    """The type already allows only a few words."""


def any_number(value: int, path: str) -> None:
    """The type already bounds it."""


def word(value: str, path: str) -> None:
    """A printable name that is not the wildcard."""
    if value == "any":
        raise bad(path, 'in a list "any" is no wildcard; write "any" in place of the list')
    if len(value) > WORD_MAX or _WORD.fullmatch(value) is None:
        raise bad(path, f"want 1 to {WORD_MAX} printable ASCII characters, no space at the ends")


def hex_bytes(size: int) -> Callable[[str, str], None]:
    """Lower-case hex of exactly ``size`` bytes."""

    def check(value: str, path: str) -> None:
        unhex(value, what=f"policy, {path}", size=size)

    return check
