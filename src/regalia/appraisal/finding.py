"""Findings of policy rules, and how values from outside are shown in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from regalia.appraisal.policy_codes import PolicyCode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from regalia.core.errors import Code

_SHOWN_MAX = 160  # characters
_LISTED_MAX = 8  # entries


@dataclass(frozen=True, slots=True)
class Finding:
    """One rule that the claims do not meet.

    Attributes:
        code: the stable reason.
        what: one sentence with the values seen and wanted.
        fix: what would make this finding go away.
    """

    code: Code
    what: str
    fix: str


def finding(code: Code, what: str, fix: str | None = None) -> Finding:
    """A finding; without a more exact ``fix`` the code's own is given.

    Args:
        code: the stable reason.
        what: one sentence with the values seen and wanted.
        fix: what would make the finding go away.
    """
    return Finding(code, what, code.fix if fix is None else fix)


def empty(path: str) -> Finding:
    """The finding about a list that accepts nothing."""
    return finding(PolicyCode.EMPTY_RULE, f"{path} is an empty list, which accepts nothing")


def shown(text: str) -> str:
    """Text from outside for a message: printable and short, whatever it was.

    A runtime configuration is written by the attester's operator and findings go to terminals
    and into the log, so neither control characters nor length may get through.
    """
    if len(text) <= _SHOWN_MAX and text.isascii() and text.isprintable():
        return text
    quoted = ascii(text[:_SHOWN_MAX])
    return quoted if len(quoted) <= _SHOWN_MAX else f"{quoted[:_SHOWN_MAX]}..."


def listing(values: Sequence[str]) -> str:
    """A list for a message; a long one is cut and says so."""
    if not values:
        return "none"
    head = ", ".join(shown(value) for value in values[:_LISTED_MAX])
    rest = len(values) - _LISTED_MAX
    return head if rest <= 0 else f"{head} and {rest} more"


def in_full(values: Sequence[str]) -> str:
    """All of a list from a policy, for the person who decides about it. Printable, never cut."""
    tame = [value if value.isascii() and value.isprintable() else ascii(value) for value in values]
    return ", ".join(tame) if tame else "none"
