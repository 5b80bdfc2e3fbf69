"""One field of a policy in one place: its words, its check, its comparison, its pinned value."""

from __future__ import annotations

from dataclasses import dataclass, replace
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

import msgspec

from regalia.appraisal.finding import in_full
from regalia.appraisal.policy_words import typed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from regalia.appraisal.finding import Finding

C_contra = TypeVar("C_contra", contravariant=True)  # claims
V = TypeVar("V")  # the field's value in a policy
S = TypeVar("S", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True)
class Explanation:
    """How one field reads to a person.

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


@dataclass(frozen=True, slots=True, kw_only=True)
class PinChoices:
    """What an owner decides when a policy is pinned from known-good claims.

    Attributes:
        machine: accept this one chip or machine only.
        config: accept this one runtime configuration only.
    """

    machine: bool
    config: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineWords:
    """What a person may add to the baseline, by name.

    Attributes:
        hardware: genuine, or simulated and nothing else.
        revocation: ``any`` leaves it out, and the result says so.
        machines: ids of chips or machines in the person's own custody, lower-case hex. Empty:
            any, but for products that are accepted by name only.
        grace_days: days that collateral may be out of date.
        revocation_asked: whether the person said so; else a vendor without lists needs none.
    """

    hardware: Literal["genuine", "dangerous_simulated"]
    revocation: Literal["required", "any"]
    machines: Sequence[str]
    grace_days: int
    revocation_asked: bool = False


def left_open(*_: object) -> Any:  # noqa: ANN401 - a value of every field that can be left open
    """The value ``any``, whatever the claims or the choices."""
    return "any"


@dataclass(frozen=True, slots=True, kw_only=True)
class Field(Generic[C_contra, V]):
    """Everything that is known of one field of a section.

    Attributes:
        name: the member of the section's struct; dotted for a member of a part of it.
        type: of the value, as the table in docs/spec/policy.md has it.
        content: what the value is about, for the same table.
        required: from a value to the sentence that explains it.
        unrestricted: the sentence for a value that demands nothing.
        risk: what such a value risks. Both are empty if no value leaves the field open.
        open_value: a value other than ``"any"`` that demands nothing; None if there is none.
        entries: explanations of what the entries of a list may leave open, by member.
        check: raises ParseError MALFORMED for a value, named by its path, that is not well-formed.
        pin: the value that known-good claims meet.
        baseline: the value in the built-in policy ``baseline``.
        compare: findings about the claims, from value, claims and path. None if a rule of the TEE
            judges the field, alone or together with others.
    """

    name: str
    type: str
    content: str
    # Any: a value that is "any" is never explained by it, and the type cannot say so.
    required: Callable[[Any], str]
    unrestricted: str = ""
    risk: str = ""
    open_value: object = None
    entries: tuple[Explanation, ...] = ()
    check: Callable[[V, str], None] = typed
    pin: Callable[[C_contra, PinChoices], V]
    baseline: Callable[[BaselineWords], V] = left_open
    compare: Callable[[V, C_contra, str], Iterator[Finding]] | None = None

    def value(self, section: msgspec.Struct) -> V:
        """The field's value in a section."""
        found: V = attrgetter(self.name)(section)
        return found

    def explanation(self, path: str) -> Explanation:
        """How the field reads in a section that stands at ``path``."""
        return Explanation(f"{path}.{self.name}", self.required, self.unrestricted, self.risk)

    def entry_explanations(self, path: str) -> Iterator[Explanation]:
        """Those about members of the field's entries, with ``[]`` for any index."""
        for each in self.entries:
            yield replace(each, path=f"{path}.{self.name}[].{each.path}")


def assemble(kind: type[S], values: Mapping[str, object], within: str = "") -> S:
    """A struct from its fields' values by dotted name.

    Args:
        kind: of the struct.
        values: by dotted name.
        within: beginning of the names, for a nested struct.

    Raises:
        TypeError: a member has no value, which is a mistake in the fields.
    """
    members: dict[str, object] = {}
    for member in msgspec.structs.fields(kind):
        name = f"{within}{member.name}"
        if name in values:
            members[member.name] = values[name]
        elif isinstance(member.type, type) and issubclass(member.type, msgspec.Struct):
            members[member.name] = assemble(member.type, values, f"{name}.")
        else:
            raise TypeError(f"{kind.__name__}: nothing gives a value to {name}")
    return kind(**members)
