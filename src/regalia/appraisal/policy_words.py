"""Checks of single values in policy documents, shared by the sections of all TEEs.

Every refusal names the field by its path.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

from regalia.core.codec import unhex
from regalia.core.errors import CoreCode, ParseError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)

ENTRIES_MAX = 1024  # of any list
WORD_MAX = 128  # characters of a name, region, site, tier, CSP id

_WORD = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")


def bad(path: str, why: str) -> ParseError:
    """The refusal of one field.

    Args:
        path: of the field in the policy.
        why: it is refused.
    """
    return ParseError(CoreCode.MALFORMED, f"policy, {path}: {why}")


def each(values: Sequence[T] | Literal["any"], path: str, check: Callable[[T, str], None]) -> None:
    """Check every entry of a list, its length, and that nothing stands in it twice.

    Args:
        values: the list, or the wildcard, which passes.
        path: of the list in the policy.
        check: of one entry; raises ParseError.

    Raises:
        ParseError: MALFORMED.
    """
    if values == "any":
        return
    if len(values) > ENTRIES_MAX:
        raise bad(path, f"{len(values)} entries, at most {ENTRIES_MAX}")
    for index, value in enumerate(values):
        check(value, f"{path}[{index}]")
        if value in values[:index]:
            raise bad(f"{path}[{index}]", "stands in the list twice")


def typed(value: object, path: str) -> None:
    """The type of the document's field says everything already.

    Args:
        value: of the field.
        path: of the field in the policy.
    """


def word(value: str, path: str) -> None:
    """A printable name that is not the wildcard.

    Args:
        value: untrusted.
        path: of the field in the policy.
    """
    if value == "any":
        raise bad(path, 'in a list "any" is no wildcard; write "any" in place of the list')
    if len(value) > WORD_MAX or _WORD.fullmatch(value) is None:
        raise bad(path, f"want 1 to {WORD_MAX} printable ASCII characters, no space at the ends")


def hex_bytes(size: int) -> Callable[[str, str], None]:
    """Lower-case hex of exactly ``size`` bytes."""

    def check(value: str, path: str) -> None:
        unhex(value, what=f"policy, {path}", size=size)

    return check


@dataclass(frozen=True, slots=True)
class Entry(Generic[T_contra]):
    """What the entries of a list are.

    Attributes:
        type: as the table in docs/spec/policy.md has it.
        check: raises ParseError MALFORMED for an entry, named by its path.
    """

    type: str
    check: Callable[[T_contra, str], None]


WORDS: Entry[str] = Entry("words", word)


def hex_entry(size: int) -> Entry[str]:
    """Entries of exactly ``size`` bytes."""
    return Entry(f"hex{size}", hex_bytes(size))


def literals(*words: str) -> Entry[str]:
    """Entries that the document's type already holds to these words."""
    return Entry(", ".join(f"`{word}`" for word in words), typed)


def numbers(bounds: str) -> Entry[int]:
    """Entries that the document's type already holds to these bounds."""
    return Entry(bounds, typed)
