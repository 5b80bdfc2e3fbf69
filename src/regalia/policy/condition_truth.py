"""Conditions that cannot fail: they demand nothing, so a policy leaves open what they stand for.

This looks for what follows from the text alone: no field is read, comparisons of a thing with
itself, and alternatives of which one always holds. Not every such condition is found, and none is
called so that could fail.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

from regalia.core.errors import ParseError
from regalia.policy.condition_grammar import tokens_of
from regalia.policy.conditions import evaluate

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Words = tuple[str, ...]
    # From the truth of the parts by their text to that of the whole.
    Formula = Callable[[Mapping[Words, bool]], bool]

PARTS_MAX = 10  # 1,024 cases; a condition of more parts is not looked at
_OPEN, _CLOSE = "([", ")]"
_RELATIONS = ("==", "!=", "<", "<=", ">", ">=", "in")
# A relation as the negation of another, so that `a < b || a >= b` has one part.
_NEGATED = {"!=": "==", ">=": "<", ">": "<="}
_EMPTY_TEXT = ("''", '""')
_ANY_PATTERN = ("''", '""', "'.*'", '".*"', "'^'", "'$'", "'^.*$'", '"^.*$"')


def cannot_fail(source: str) -> bool:
    """Whether a condition is true whatever the claims are. One that is malformed denies."""
    reader = _Reader()
    try:
        words = tuple(tokens_of(source))
    except ParseError:
        return False
    formula = reader.either(words)
    free = [part for part in reader.parts if reader.parts[part] is None]
    if len(free) > PARTS_MAX:
        return False
    known = {part: value for part, value in reader.parts.items() if value is not None}
    cases = product((False, True), repeat=len(free))
    return all(formula(known | dict(zip(free, case, strict=True))) for case in cases)


class _Reader:
    """Takes a condition apart into ``||``, ``&&``, ``!`` and the parts between them."""

    def __init__(self) -> None:
        self.parts: dict[Words, bool | None] = {}  # None: it depends on the claims

    def either(self, words: Words) -> Formula:
        """One of the alternatives holds."""
        each = [self._both(part) for part in _split(words, "||")]
        return lambda case: any(formula(case) for formula in each)

    def _both(self, words: Words) -> Formula:
        each = [self._one(part) for part in _split(words, "&&")]
        return lambda case: all(formula(case) for formula in each)

    def _one(self, words: Words) -> Formula:
        if _relation(words) is None and words[:1] == ("!",):
            inner = self._one(words[1:])
            return lambda case: not inner(case)
        if words[:1] == ("(",) and _end(words, 0) == len(words) - 1:
            return self.either(words[1:-1])
        at = _relation(words)
        if at is not None and words[at] in _NEGATED:
            positive = (*words[:at], _NEGATED[words[at]], *words[at + 1 :])
            inner = self._part(positive)
            return lambda case: not inner(case)
        return self._part(words)

    def _part(self, words: Words) -> Formula:
        self.parts.setdefault(words, _known(words))
        return lambda case: case[words]


def _known(words: Words) -> bool | None:
    """The truth of a part that no claim can change; None if one can."""
    at = _relation(words)
    if at is not None:
        left, right = words[:at], words[at + 1 :]
        if left == right:
            return words[at] in ("==", "<=")
        if words[at] == "<=" and left == ("0",):
            return True  # no field is negative
        if words[at] == "<" and right == ("0",):
            return False
        if words[at] == "in" and left in _split(right[1:-1], ",") and right[:1] == ("[",):
            return True
    elif _accepts_any_text(words) or _holds_for_all(words):
        return True
    return _constant(words)


def _constant(words: Words) -> bool | None:
    """Its value, if it names no field. A field of the claims has a dot."""
    try:
        return evaluate(" ".join(words), {})
    except ParseError:
        return None


def _accepts_any_text(words: Words) -> bool:
    """``field.startsWith('')`` and the like."""
    *_, dot, method, begin, argument, end = ("", "", "", "", "", *words)
    if (dot, begin, end) != (".", "(", ")"):
        return False
    if method == "matches":
        return argument in _ANY_PATTERN
    return method in ("startsWith", "endsWith", "contains") and argument in _EMPTY_TEXT


def _holds_for_all(words: Words) -> bool:
    """``list.all(x, body)`` whose body cannot fail."""
    for at in range(len(words)):
        if words[at : at + 3] == (".", "all", "(") and _end(words, at + 2) == len(words) - 1:
            return cannot_fail(" ".join(words[at + 5 : -1]))
    return False


def _relation(words: Words) -> int | None:
    """Where the comparison stands, outside of all parentheses."""
    depth = 0
    for at, word in enumerate(words):
        depth += (word in _OPEN) - (word in _CLOSE)
        if depth == 0 and word in _RELATIONS:
            return at
    return None


def _end(words: Sequence[str], start: int) -> int:
    """Where the parenthesis closes that opens at ``start``."""
    depth = 0
    for at in range(start, len(words)):
        depth += (words[at] in _OPEN) - (words[at] in _CLOSE)
        if depth == 0:
            return at
    return len(words)


def _split(words: Words, mark: str) -> list[Words]:
    """The parts between marks that stand outside of all parentheses."""
    out: list[list[str]] = [[]]
    depth = 0
    for word in words:
        depth += (word in _OPEN) - (word in _CLOSE)
        if depth == 0 and word == mark:
            out.append([])
        else:
            out[-1].append(word)
    return [tuple(part) for part in out]
