"""The steps of an appraisal, for people and for results: what was asked, seen and wanted."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Source(StrEnum):
    """Who stands behind a value."""

    HARDWARE_PROVEN = "hardware_proven"  # signed by a key that the vendor's root vouches for
    VERIFIER_DERIVED = "verifier_derived"  # computed here, from proven values and collateral
    OPERATOR_ASSERTED = "operator_asserted"  # somebody's word: placement, enrolment, wildcards


@dataclass(frozen=True, slots=True)
class Check:
    """One numbered check of a verifier.

    Attributes:
        name: stable, ``<tee>/<check>``.
        title: what must hold, one clause.
        meaning: for a newcomer: what it protects from, one or two sentences.
        source: who stands behind the value that was seen.
    """

    name: str
    title: str
    meaning: str
    source: Source


UNKNOWN = "unknown"  # what a check has seen that nobody could make


class Outcome(StrEnum):
    """How a check ended."""

    PASS = "pass"  # noqa: S105 - no password
    FAIL = "fail"
    OPEN = "open"  # not made, or not in full, and a policy's word lets that be


@dataclass(frozen=True, slots=True)
class Step:
    """A check that was made, or left open.

    Attributes:
        seen: what the evidence says, for people.
        wanted: what it must say, likewise.
        code: the refusal's; empty if there was none.
        in_full: false if a part of the check could not be made, or none of it.
    """

    check: Check
    seen: str
    wanted: str
    code: str
    in_full: bool = True

    @property
    def outcome(self) -> Outcome:
        """Only what was made in full and held has passed."""
        if self.code:
            return Outcome.FAIL
        return Outcome.PASS if self.in_full and self.seen != UNKNOWN else Outcome.OPEN

    @property
    def passed(self) -> bool:
        """Whether it was made in full and held."""
        return self.outcome is Outcome.PASS
