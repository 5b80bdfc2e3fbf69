"""How one field of a policy reads to a person."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from regalia.appraisal.finding import in_full

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class Explanation:
    """How one field reads.

    Attributes:
        path: the field.
        required: from the field's value to a sentence.
        unrestricted: the sentence when the field demands nothing.
        risk: what that risks. Both are empty for fields that cannot be left open.
    """

    path: str
    # Any: each function knows the type of its own field; the test calls all of them.
    required: Callable[[Any], str]
    unrestricted: str = ""
    risk: str = ""


def accepted(noun: str) -> Callable[[list[Any]], str]:
    """A sentence for a list of accepted values; an empty one denies everything."""

    def say(values: list[Any]) -> str:
        if not values:
            return f"No {noun} is accepted: this policy denies everything."
        return f"Accepted {noun}: {in_full([str(value) for value in values])}."

    return say
