"""Kinds of policy fields: what follows from how a field is compared with its one claim.

A field is made in two steps: the first says what is compared, and ``words`` what people read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, Protocol, Self, TypeVar

from regalia.appraisal.claims import Revocation
from regalia.appraisal.finding import empty, finding, listing, shown
from regalia.appraisal.policy_codes import PolicyCode
from regalia.appraisal.policy_field import Field, accepted
from regalia.appraisal.policy_words import each, hex_entry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from regalia.appraisal.finding import Finding
    from regalia.appraisal.policy_field import BaselineWords, PinChoices
    from regalia.appraisal.policy_words import Entry
    from regalia.core.errors import Code

    # Any: the entries of one list are all texts or all numbers, as its document's type says.
    Accepted = Sequence[Any] | Literal["any"]
    What = Callable[[Any, Sequence[Any], Any], str]

C = TypeVar("C")  # claims

# When a list is pinned to the one value that was measured: always, or as the owner chooses.
Pinned = Literal["always", "machine", "config", "never"]

_UNRESTRICTED: tuple[object, ...] = ("any",)
NUMBERS = "0 … 2⁵³\N{MINUS SIGN}1"
CONFIG_RISK = "the operator may change placement and egress as far as the other rules let them."


def any_config(whose: str = "") -> str:
    """The sentence for ``any`` in place of runtime configurations, such as those of `` a TD``."""
    return f"Any runtime configuration{whose} is accepted that meets the rules below."


def among(noun: str) -> What:
    """A finding's sentence about a list that is too long to be shown."""
    return lambda have, values, _: f"{have} is not among the {len(values)} accepted {noun}"


def seen(text: str) -> What:
    """A finding's sentence that shows the list; ``text`` has ``{}`` for the claim."""
    return lambda have, values, _: (
        f"{text.format(shown(str(have)))}; accepted: {listing([str(each) for each in values])}"
    )


# No slots: ``OneOf[SnpClaims](...)`` sets an attribute on the new object, which typing expects to
# fail with AttributeError only; frozen classes with slots fail with TypeError.
@dataclass(frozen=True)
class OneOf(Generic[C]):
    """A list of accepted values of one claim.

    Attributes:
        name: of the field in its section, dotted inside a part.
        entry: what stands in the list.
        have: the claim, in the form that entries have.
        code: of the finding.
        what: the finding's sentence, from the claim, the accepted values and all claims.
        fix: for the finding, from the claim.
        can_match: false for a claim that says nothing, and never matches an entry.
        every: all values there are, for a list that cannot be left open: the baseline has them.
        pinned: when a pinned policy has the measured value; otherwise it leaves the field open.
        pin: in place of what follows from ``pinned``.
        baseline: in place of ``any``, or of the machines that a person names.
    """

    name: str
    entry: Entry[Any]
    have: Callable[[C], str | int]
    code: Code
    what: What
    fix: Callable[[Any], str | None] = lambda _: None
    can_match: Callable[[Any], bool] = lambda _: True
    every: Sequence[object] = ()
    pinned: Pinned = "always"
    pin: Callable[[C, PinChoices], Accepted] | None = None
    baseline: Callable[[BaselineWords], Accepted] | None = None

    @classmethod
    def digests(  # noqa: PLR0913, D417 - a field has so many sides; ``OneOf`` describes the others
        cls,
        name: str,
        have: Callable[[C], bytes],
        code: Code,
        size: int,
        *,
        noun: str = "{}",
        pinned: Pinned = "always",
        pin: Callable[[C, PinChoices], Accepted] | None = None,
    ) -> Self:
        """Accepted values of a measured claim. Other arguments as ``OneOf``.

        Args:
            size: of the claim in bytes.
            noun: how a finding names the list, with ``{}`` for the field's name.
        """
        what = among(noun.format(name.rpartition(".")[2]))
        return cls(
            name,
            hex_entry(size),
            lambda claims: have(claims).hex(),
            code,
            what,
            pinned=pinned,
            pin=pin,
        )

    @classmethod
    def machines(  # noqa: PLR0913, D417 - as above
        cls,
        name: str,
        entry: Entry[str],
        have: Callable[[C], str],
        what: What,
        *,
        run: str = "on an enrolled machine",
        check: str = "where it stands",
        can_match: Callable[[str], bool] = lambda _: True,
        unnamed: str = "",
        baseline: Callable[[BaselineWords], Accepted] | None = None,
    ) -> Self:
        """Accepted chips or machines, which an owner may pin. Other arguments as ``OneOf``.

        Args:
            run: where to run instead.
            check: what to look at before the machine is added to the list.
            unnamed: what to do where the evidence names none, as ``can_match`` tells.
        """

        def fix(value: str) -> str:
            if not can_match(value):
                return unnamed
            return f"Run {run}, or add {shown(value)} to {name} after checking {check}."

        return cls(
            name,
            entry,
            have,
            PolicyCode.INSTANCE_NOT_ALLOWED,
            what,
            fix,
            can_match,
            pinned="machine",
            baseline=baseline,
        )

    def words(
        self,
        content: str,
        noun: str | Callable[[list[Any]], str],
        unrestricted: str = "",
        risk: str = "",
    ) -> Field[C, Any]:
        """The field with its words.

        Args:
            content: what the list is about, for the table of the specification.
            noun: the accepted values in the plural, or the explanation of a list.
            unrestricted: the explanation of ``any``, in place of one that follows from ``noun``.
            risk: of ``any``; empty if the list cannot be left open.
        """
        if risk and not unrestricted and isinstance(noun, str):
            unrestricted = f"Any {noun} are accepted."
        return Field(
            name=self.name,
            type=f"list of {self.entry.type}{', or any' if risk else ''}",
            content=content,
            required=accepted(noun) if isinstance(noun, str) else noun,
            unrestricted=unrestricted,
            risk=risk,
            check=lambda values, path: each(values, path, self.entry.check),
            pin=self.pin or self._measured,
            baseline=self.baseline or self._machines_or_every,
            compare=self._find_if_closed if risk else self._find,
        )

    def _find_if_closed(self, values: Accepted, claims: C, path: str) -> Iterator[Finding]:
        return iter(()) if values in _UNRESTRICTED else self._find(values, claims, path)

    def _find(self, values: Accepted, claims: C, path: str) -> Iterator[Finding]:
        value = self.have(claims)
        if not values:
            yield empty(path)
        # Built by hand it may be a text, which as a list of letters matches nothing.
        elif not self.can_match(value) or value not in list(values):
            yield finding(self.code, self.what(value, values, claims), self.fix(value))

    def _measured(self, claims: C, choices: PinChoices) -> Accepted:
        return [self.have(claims)] if is_pinned(self.pinned, choices) else "any"

    def _machines_or_every(self, words: BaselineWords) -> Accepted:
        return list(words.machines if self.pinned == "machine" else self.every) or "any"


def is_pinned(pinned: Pinned, choices: PinChoices) -> bool:
    """Whether the owner's choices fix a value of this kind.

    Args:
        pinned: when the field is pinned.
        choices: the owner's.
    """
    return pinned == "always" or (pinned != "never" and bool(getattr(choices, pinned)))


@dataclass(frozen=True)
class Minimum(Generic[C]):
    """The lowest accepted number. Attributes as those of ``OneOf``."""

    name: str
    have: Callable[[C], int]
    code: Code

    def words(  # noqa: PLR0913 - as above
        self,
        content: str,
        required: str,
        what: str,
        *,
        fix: str | None = None,
        unrestricted: str = "",
        risk: str = "",
    ) -> Field[C, int]:
        """The field with its words.

        Args:
            content: what the number is, for the table of the specification.
            required: the explanation, with ``{}`` for the minimum.
            what: the finding's sentence, with ``{}`` for the claim and for the minimum.
            fix: for the finding.
            unrestricted: the explanation of 0, if 0 counts as left open.
            risk: of 0, if it does.
        """

        def compare(least: int, claims: C, _: str) -> Iterator[Finding]:
            value = self.have(claims)
            if value < least:
                yield finding(self.code, what.format(value, least), fix)

        return Field(
            name=self.name,
            type=NUMBERS,
            content=content,
            required=required.format,
            unrestricted=unrestricted,
            risk=risk,
            open_value=0 if risk else None,
            pin=lambda claims, _: self.have(claims),
            baseline=lambda _: 0,
            compare=compare,
        )


@dataclass(frozen=True)
class Demand(Generic[C]):
    """A thing that must hold, unless the policy leaves it open.

    Attributes:
        name: of the field in its section, dotted inside a part.
        holds: whether it does, by the claims.
        code: of the finding.
        pin: in place of the strict word where it holds, and the lenient one elsewhere.
        baseline: in place of the lenient word.
    """

    strict: ClassVar[str] = "required"
    lenient: ClassVar[str] = "any"
    type: ClassVar[str] = "`required`, or any"

    name: str
    holds: Callable[[C], bool]
    code: Code
    pin: Callable[[C, PinChoices], str] | None = None
    baseline: Callable[[BaselineWords], str] | None = None

    def words(  # noqa: PLR0913 - as above
        self,
        content: str,
        what: str | Callable[[C], str],
        required: str,
        unrestricted: str,
        risk: str = "",
        *,
        fix: str | None = None,
    ) -> Field[C, Any]:
        """The field with its words.

        Args:
            content: what it is, for the table of the specification.
            what: the finding's sentence.
            required: the explanation of the strict word.
            unrestricted: the explanation of the lenient word.
            risk: of the lenient word; empty if it does not count as left open.
            fix: for the finding.
        """
        strict, lenient = self.strict, self.lenient

        def compare(value: str, claims: C, _: str) -> Iterator[Finding]:
            if value != lenient and not self.holds(claims):
                yield finding(self.code, what if isinstance(what, str) else what(claims), fix)

        return Field(
            name=self.name,
            type=self.type,
            content=content,
            required=lambda value: unrestricted if value == lenient else required,
            unrestricted=unrestricted if risk else "",
            risk=risk,
            open_value=lenient if risk and lenient != "any" else None,
            pin=self.pin or (lambda claims, _: strict if self.holds(claims) else lenient),
            baseline=self.baseline or (lambda _: lenient),
            compare=compare,
        )


class Switch(Demand[C]):
    """A thing that must not be, unless the policy allows it: ``holds`` says that it is not."""

    strict = "deny"
    lenient = "allow"
    type = "`allow`, `deny`"


class Revocable(Protocol):
    """Claims that say what is known of revocation: all of them."""

    @property
    def revocation(self) -> Revocation:
        """Of the certificates."""


def _if_checked(claims: Revocable, _: PinChoices) -> str:
    """Late lists are no standard for the next evidence, so only a complete check is pinned."""
    return "required" if claims.revocation is Revocation.CHECKED else "any"


def revocation_known(  # noqa: PLR0913 - as above
    what: str,
    risk: str,
    *,
    about: str = "",
    content: str = "whether all certificates are known not to be revoked",
    pin: Callable[[Revocable, PinChoices], str] = _if_checked,
    baseline: Callable[[BaselineWords], str] = lambda words: words.revocation,
) -> Field[Revocable, Any]:
    """The field ``revocation``, which every section has.

    Args:
        what: the finding's sentence.
        risk: of leaving it open.
        about: whose certificates, for the explanations: `` for TDs``.
        content: for the table of the specification.
        pin: in place of ``required`` after a complete check.
        baseline: in place of the word that a person chose.
    """
    known: Demand[Revocable] = Demand(
        "revocation",
        lambda claims: claims.revocation is not Revocation.UNKNOWN,
        PolicyCode.REVOCATION_UNKNOWN,
        pin,
        baseline,
    )
    return known.words(
        content,
        what,
        f"It must be known that no certificate{about} is revoked.",
        f"Certificates{about} need not be checked for revocation.",
        risk,
    )
