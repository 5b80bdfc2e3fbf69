"""What the policy half of a TEE or of a kind of device gives to ``regalia.policy``."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from regalia.appraisal.policy_doc import Doc
from regalia.appraisal.policy_field import PinChoices, assemble

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from regalia.appraisal.condition_types import Reading
    from regalia.appraisal.config_binding import ConfigBinding
    from regalia.appraisal.finding import Finding
    from regalia.appraisal.policy_field import BaselineWords, Explanation, Field
    from regalia.wire.evidence import DeviceKind, Tee

# Members of an entry of the device set that say which devices it is about.
IDENTIFYING = ("kind", "count", "models")

S = TypeVar("S", bound=Doc)  # the section's struct
C = TypeVar("C")  # claims


@dataclass(frozen=True, slots=True)
class RuleInput(Generic[S, C]):
    """What every rule looks at.

    Attributes:
        section: what the policy demands.
        claims: from a verifier.
        path: where the section stands in the policy.
    """

    section: S
    claims: C
    path: str


@dataclass(frozen=True, slots=True)
class Rule(Generic[S, C]):
    """A comparison that is more than one claim against one field.

    Attributes:
        judges: names of the fields that it holds the claims against.
        find: everything that is wrong.
        compares: those of the fields whose own comparison it runs.
    """

    judges: tuple[str, ...]
    find: Callable[[RuleInput[S, C]], Iterator[Finding]]
    compares: tuple[str, ...] = ()


def judges(
    *names: str,
) -> Callable[[Callable[[RuleInput[S, C]], Iterator[Finding]]], Rule[S, C]]:
    """Make a rule of a function, and say which fields it judges."""
    return lambda find: Rule(names, find)


@dataclass(frozen=True, slots=True, kw_only=True)
class Section(Generic[S, C]):
    """A struct of a policy, its fields, and the rules in the order of evaluation.

    Attributes:
        section: the struct.
        fields: one for every member of the struct, in its order; those of a nested struct each by
            itself.
        order: every field's comparison by the field's name, the rules of the TEE's own, and parts.
        cross_check: raises ParseError MALFORMED where fields do not fit together.

    Raises:
        TypeError: ``order`` names what is no field, or a field that compares nothing.
    """

    section: type[S]
    fields: tuple[Field[C, Any], ...]
    order: tuple[str | Rule[S, C] | Part[C], ...]
    cross_check: Callable[[S, str], None] = lambda _section, _path: None
    compiled: tuple[Rule[S, C], ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        by_name = {each.name: each for each in self.fields}

        def rule(each: str | Rule[S, C] | Part[C]) -> Rule[S, C]:
            if isinstance(each, str):
                return _comparison(by_name.get(each), each)
            return each.rule if isinstance(each, Part) else each

        object.__setattr__(self, "compiled", tuple(rule(each) for each in self.order))

    def rules(self, given: RuleInput[S, C]) -> Iterator[Finding]:
        """All findings about the claims, in the order of evaluation."""
        for rule in self.compiled:
            yield from rule.find(given)

    def check(self, section: S, path: str) -> None:
        """Raise ParseError MALFORMED at the first field that is not well-formed.

        Args:
            section: of a policy, untrusted.
            path: where it stands in the policy.
        """
        for each in self.fields:
            each.check(each.value(section), f"{path}.{each.name}")
        self.check_together(section, path)

    def check_together(self, section: S, path: str) -> None:
        """The part of ``check`` that looks at several fields at once. Args as ``check``."""
        self.cross_check(section, path)
        for each in self.order:
            if isinstance(each, Part):
                each.section.check_together(getattr(section, each.name), f"{path}.{each.name}")

    def pin(self, claims: C, choices: PinChoices) -> S:
        """The section that these claims meet.

        Args:
            claims: verified and known to be good.
            choices: the owner's.
        """
        return assemble(
            self.section, {each.name: each.pin(claims, choices) for each in self.fields}
        )

    def baseline(self, words: BaselineWords) -> S:
        """The section of the built-in policy ``baseline``."""
        return assemble(self.section, {each.name: each.baseline(words) for each in self.fields})

    def explanations(self, path: str) -> tuple[Explanation, ...]:
        """One for every field of the section that stands at ``path``."""
        return tuple(each.explanation(path) for each in self.fields)


def _comparison(found: Field[C, Any] | None, name: str) -> Rule[S, C]:
    compare = None if found is None else found.compare
    if compare is None:
        raise TypeError(f"{name} is no field that compares a claim by itself")
    value = attrgetter(name)

    def find(given: RuleInput[S, C]) -> Iterator[Finding]:
        return compare(value(given.section), given.claims, f"{given.path}.{name}")

    return Rule((name,), find, (name,))


@dataclass(frozen=True, slots=True)
class Part(Generic[C]):
    """A section that stands within another one, as the other one sees it.

    Attributes:
        name: of the member that it is.
        section: the struct, its fields and rules.
        claims: from the whole section's claims to those that the part is about.
        choose: from the owner's choices to those by which the part is pinned.
    """

    name: str
    section: Section[Any, Any]
    claims: Callable[[C], Any]
    choose: Callable[[PinChoices], PinChoices] = lambda choices: choices

    @property
    def fields(self) -> tuple[Field[C, Any], ...]:
        """Those of the part, under their names in the whole."""
        return tuple(self._within(each) for each in self.section.fields)

    def _within(self, each: Field[Any, Any]) -> Field[C, Any]:
        compare = each.compare
        return replace(
            each,
            name=f"{self.name}.{each.name}",
            pin=lambda claims, choices: each.pin(self.claims(claims), self.choose(choices)),
            compare=compare
            and (lambda value, claims, path: compare(value, self.claims(claims), path)),
        )

    @property
    def rule(self) -> Rule[Any, C]:
        """All rules of the part, as one of the whole."""

        def find(given: RuleInput[Any, C]) -> Iterator[Finding]:
            section, path = getattr(given.section, self.name), f"{given.path}.{self.name}"
            return self.section.rules(RuleInput(section, self.claims(given.claims), path))

        compiled = self.section.compiled
        return Rule(
            tuple(f"{self.name}.{name}" for rule in compiled for name in rule.judges),
            find,
            tuple(f"{self.name}.{name}" for rule in compiled for name in rule.compares),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyPlugin(Section[S, C]):
    """The policy half of a TEE.

    Attributes:
        tee: whose.
        name: of the section in ``platform``.
        claims: what the TEE's verifier gives.
        conditions: members of ``claims`` that conditions may speak of.
        left_out: claims that conditions do not see, each with the reason.
        machines: the field that lists accepted machines.
        binding: where the hardware records the runtime configuration.
        revocation: the field that says whether revocation must be known.
        weakened: whether the vendor itself lists weaknesses of an otherwise genuine platform.
        isolated: whether the TEE keeps the host out of the workload's memory.
    """

    tee: Tee
    name: str
    claims: type[C]
    conditions: dict[str, Reading[C]]
    left_out: Mapping[str, str]
    machines: str
    binding: ConfigBinding
    revocation: str = "revocation"
    weakened: Callable[[C], bool] = lambda _claims: False
    isolated: bool = True

    @property
    def path(self) -> str:
        """Where the section stands in a policy."""
        return f"platform.{self.name}"

    def needs_revocation(self, section: S) -> bool:
        """Whether it must be known that no certificate is revoked."""
        return bool(attrgetter(self.revocation)(section) != "any")

    def lists_machines(self, section: S) -> bool:
        """Whether only listed machines are accepted."""
        return bool(attrgetter(self.machines)(section) != "any")


class DeviceEntry(Protocol):
    """What every entry of the device set says, whoever makes the devices."""

    @property
    def kind(self) -> str:
        """Of the devices."""

    @property
    def count(self) -> int:
        """Exactly so many."""

    @property
    def models(self) -> list[str]:
        """By which the entry lists its devices."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DevicePolicyPlugin(Section[S, C]):
    """The policy half of a kind of device: the section is one entry of ``platform.devices``.

    Every entry has ``kind``, ``count`` and ``models``, which say which devices it is about; the
    set as a whole is judged by ``regalia.policy.device_set``. The explanations go on after the
    words "Device entry 0".

    Attributes:
        kinds: whose.
        claims: what the devices' verifier gives.
        model: the model by which entries list the device.
        conditions: lists in ``claims.devices``, each from one text of every device.
        left_out: claims that conditions do not see, each with the reason.
        warnings: what an accepted device leaves to be desired, beside what is said of all.
    """

    kinds: tuple[DeviceKind, ...]
    claims: type[C]
    model: Callable[[C], str]
    conditions: dict[str, Reading[C]]
    left_out: Mapping[str, str]
    warnings: Callable[[C], Iterable[Finding]] = lambda _claims: ()

    def pin_entry(self, devices: Sequence[C], choices: PinChoices) -> S:
        """The entry that all of these devices meet. They are of one kind and model.

        Args:
            devices: verified and known to be good.
            choices: the owner's.
        """
        values = {
            each.name: _accepting_all([each.pin(device, choices) for device in devices])
            for each in self.fields
        }
        return assemble(self.section, values | {"count": len(devices)})

    def baseline_entry(self, devices: Sequence[C], words: BaselineWords) -> S:
        """The entry of the baseline for these devices, which are of one kind and model.

        Args:
            devices: verified.
            words: the user's words for the baseline.
        """
        nobody = PinChoices(machine=False, config=False)
        values = {
            each.name: (
                each.pin(devices[0], nobody) if each.name in IDENTIFYING else each.baseline(words)
            )
            for each in self.fields
        }
        return assemble(self.section, values | {"count": len(devices)})


def _accepting_all(values: Sequence[Any]) -> object:
    """A field's value that accepts what each of the values accepts; they are of one field."""
    if any(value == "any" for value in values):
        return "any"
    if isinstance(values[0], list):
        return sorted({entry for value in values for entry in value})
    return values[0]
