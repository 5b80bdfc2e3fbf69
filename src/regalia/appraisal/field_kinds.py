"""Kinds of policy fields: what follows from how a field is compared with its one claim."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from regalia.appraisal.claims import Revocation
from regalia.appraisal.explanation import accepted
from regalia.appraisal.finding import empty, finding
from regalia.appraisal.policy_codes import PolicyCode
from regalia.appraisal.policy_field import Field
from regalia.appraisal.policy_words import each, typed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from regalia.appraisal.finding import Finding
    from regalia.appraisal.policy_field import BaselineWords, PinChoices
    from regalia.appraisal.policy_words import Entry
    from regalia.core.errors import Code

C = TypeVar("C")  # claims
T = TypeVar("T", str, int)  # an entry of a list

Requirement = Literal["required", "any"]
Switch = Literal["allow", "deny"]
# When a list is pinned to the one value that was measured: always, or as the owner chooses.
Pinned = Literal["always", "machine", "config", "never"]

_UNRESTRICTED: tuple[object, ...] = ("any",)
NUMBERS = "0 … 2⁵³\N{MINUS SIGN}1"


def one_of(  # noqa: PLR0913 - one field has so many sides; all are named
    name: str,
    *,
    entry: Entry[T],
    have: Callable[[C], T],
    code: Code,
    what: Callable[[T, Sequence[T], C], str],
    content: str,
    noun: str,
    unrestricted: str = "",
    risk: str = "",
    pinned: Pinned = "always",
    fix: Callable[[T], str] | None = None,
    can_match: Callable[[T], bool] = lambda _: True,
    required: Callable[[list[T]], str] | None = None,
    pin: Callable[[C, PinChoices], list[T] | Literal["any"]] | None = None,
    baseline: Callable[[BaselineWords], list[T] | Literal["any"]] | None = None,
) -> Field[C, Any]:
    """A list of accepted values of one claim.

    Args:
        name: of the field in its section, dotted inside a part.
        entry: what stands in the list.
        have: the claim, in the form that entries have.
        code: of the finding.
        what: the finding's sentence, from the claim, the accepted values and all claims.
        content: what the list is about, for the table of the specification.
        noun: the accepted values in the plural, for the explanation.
        unrestricted: the explanation of ``any``; empty if the field cannot be left open.
        risk: of ``any``.
        pinned: when a pinned policy has the measured value; otherwise it leaves the field open.
        fix: for the finding, from the claim.
        can_match: false for a claim that says nothing, and never matches an entry.
        required: the explanation of a list, in place of the usual one.
        pin: in place of what follows from ``pinned``.
        baseline: in place of ``any``, or of the machines that a person names.
    """

    def compare(values: Sequence[T], claims: C, path: str) -> Iterator[Finding]:
        if unrestricted and values in _UNRESTRICTED:
            return
        value = have(claims)
        if not values:
            yield empty(path)
        # Built by hand it may be a text, which as a list of letters matches nothing.
        elif not can_match(value) or value not in list(values):
            yield finding(code, what(value, values, claims), None if fix is None else fix(value))

    def measured(claims: C, choices: PinChoices) -> list[T] | Literal["any"]:
        return [have(claims)] if is_pinned(pinned, choices) else "any"

    return Field(
        name=name,
        type=f"list of {entry.type}{', or any' if unrestricted else ''}",
        content=content,
        required=accepted(noun) if required is None else required,
        unrestricted=unrestricted,
        risk=risk,
        check=lambda values, path: each(values, path, entry.check),
        pin=measured if pin is None else pin,
        baseline=_machines_or_any(pinned) if baseline is None else baseline,
        compare=compare,
    )


def is_pinned(pinned: Pinned, choices: PinChoices) -> bool:
    """Whether the owner's choices fix a value of this kind.

    Args:
        pinned: when the field is pinned.
        choices: the owner's.
    """
    fixed = {
        "always": True,
        "machine": choices.machine,
        "config": choices.config,
        "never": False,
    }
    return fixed[pinned]


def _machines_or_any(pinned: Pinned) -> Callable[[BaselineWords], Any]:
    if pinned != "machine":
        return lambda _: "any"
    return lambda words: list(words.machines) or "any"


def not_among(noun: str) -> Callable[[str, Sequence[str], object], str]:
    """The usual sentence of a finding about a list that is too long to be shown."""
    return lambda have, values, _: f"{have} is not among the {len(values)} accepted {noun}"


def minimum(  # noqa: PLR0913 - as above
    name: str,
    *,
    have: Callable[[C], int],
    code: Code,
    what: Callable[[int, int], str],
    required: str,
    content: str,
    fix: str | None = None,
    unrestricted: str = "",
    risk: str = "",
) -> Field[C, int]:
    """The lowest accepted number.

    Args:
        name: of the field in its section.
        have: the claim.
        code: of the finding.
        what: the finding's sentence, from the claim and the minimum.
        required: the explanation, with ``{}`` for the minimum.
        content: what the number is, for the table of the specification.
        fix: for the finding.
        unrestricted: the explanation of 0, if 0 counts as left open.
        risk: of 0, if it does.
    """

    def compare(least: int, claims: C, path: str) -> Iterator[Finding]:  # noqa: ARG001 - one shape
        value = have(claims)
        if value < least:
            yield finding(code, what(value, least), fix)

    return Field(
        name=name,
        type=NUMBERS,
        content=content,
        required=required.format,
        unrestricted=unrestricted,
        risk=risk,
        open_value=0 if risk else None,
        check=typed,
        pin=lambda claims, _: have(claims),
        baseline=lambda _: 0,
        compare=compare,
    )


def required_or_any(  # noqa: PLR0913 - as above
    name: str,
    *,
    met: Callable[[C], bool],
    code: Code,
    what: str | Callable[[C], str],
    required: str,
    unrestricted: str,
    risk: str,
    content: str,
    fix: str | None = None,
    pin: Callable[[C, PinChoices], Requirement] | None = None,
    baseline: Callable[[BaselineWords], Requirement] = lambda _: "any",
) -> Field[C, Requirement]:
    """A thing that must hold, unless the policy leaves it open.

    Args:
        name: of the field in its section, dotted inside a part.
        met: whether it holds.
        code: of the finding.
        what: the finding's sentence.
        required: the explanation of ``required``.
        unrestricted: the explanation of ``any``.
        risk: of ``any``.
        content: what it is, for the table of the specification.
        fix: for the finding.
        pin: in place of ``required`` where it holds and ``any`` elsewhere.
        baseline: in place of ``any``.
    """

    def compare(value: Requirement, claims: C, path: str) -> Iterator[Finding]:  # noqa: ARG001 - one shape
        if value != "any" and not met(claims):
            yield finding(code, _said(what, claims), fix)

    def seen(claims: C, _: PinChoices) -> Requirement:
        return "required" if met(claims) else "any"

    return Field(
        name=name,
        type="`required`, or any",
        content=content,
        required=lambda _: required,
        unrestricted=unrestricted,
        risk=risk,
        check=typed,
        pin=seen if pin is None else pin,
        baseline=baseline,
        compare=compare,
    )


def allow_or_deny(  # noqa: PLR0913 - as above
    name: str,
    *,
    absent: Callable[[C], bool],
    code: Code,
    what: str | Callable[[C], str],
    allowed: str,
    denied: str,
    risk: str = "",
    content: str,
    fix: str | None = None,
    baseline: Callable[[BaselineWords], Switch] = lambda _: "allow",
) -> Field[C, Switch]:
    """A thing that must not be, unless the policy allows it.

    Args:
        name: of the field in its section, dotted inside a part.
        absent: whether it is known not to be.
        code: of the finding.
        what: the finding's sentence.
        allowed: the explanation of ``allow``.
        denied: the explanation of ``deny``.
        risk: of ``allow``, if that counts as left open.
        content: what it is, for the table of the specification.
        fix: for the finding.
        baseline: in place of ``allow``.
    """

    def compare(value: Switch, claims: C, path: str) -> Iterator[Finding]:  # noqa: ARG001 - one shape
        if value != "allow" and not absent(claims):
            yield finding(code, _said(what, claims), fix)

    return Field(
        name=name,
        type="`allow`, `deny`",
        content=content,
        required=lambda value: allowed if value == "allow" else denied,
        unrestricted=allowed if risk else "",
        risk=risk,
        open_value="allow" if risk else None,
        check=typed,
        pin=lambda claims, _: "deny" if absent(claims) else "allow",
        baseline=baseline,
        compare=compare,
    )


def _said(what: str | Callable[[C], str], claims: C) -> str:
    return what if isinstance(what, str) else what(claims)


class Revocable(Protocol):
    """Claims that say what is known of revocation: all of them."""

    @property
    def revocation(self) -> Revocation:
        """Of the certificates."""


def _if_checked(claims: Revocable, _: PinChoices) -> Requirement:
    """Late lists are no standard for the next evidence, so only a complete check is pinned."""
    return "required" if claims.revocation is Revocation.CHECKED else "any"


def revocation_known(  # noqa: PLR0913 - as above
    *,
    what: str,
    risk: str,
    about: str = "",
    content: str = "whether all certificates are known not to be revoked",
    pin: Callable[[Revocable, PinChoices], Requirement] = _if_checked,
    baseline: Callable[[BaselineWords], Requirement] = lambda words: words.revocation,
) -> Field[Revocable, Requirement]:
    """The field ``revocation``, which every section has.

    Args:
        what: the finding's sentence.
        risk: of leaving it open.
        about: whose certificates, for the explanations: `` for TDs``.
        content: for the table of the specification.
        pin: in place of ``required`` after a complete check.
        baseline: in place of the word that a person chose.
    """
    return required_or_any(
        "revocation",
        met=lambda claims: claims.revocation is not Revocation.UNKNOWN,
        code=PolicyCode.REVOCATION_UNKNOWN,
        what=what,
        required=f"It must be known that no certificate{about} is revoked.",
        unrestricted=f"Certificates{about} need not be checked for revocation.",
        risk=risk,
        content=content,
        pin=pin,
        baseline=baseline,
    )
