"""Policies and verdicts in sentences, for a person who decides whether to sign or what to fix."""

from __future__ import annotations

import re
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import msgspec

from regalia.appraisal.claims import Hardware
from regalia.appraisal.finding import in_full
from regalia.appraisal.policy_field import Explanation, accepted
from regalia.policy.condition_truth import cannot_fail
from regalia.policy.device_set import device_explanations, device_set_words
from regalia.policy.documents import Platform, wildcards
from regalia.policy.registry import DEVICES_PATH, POLICY_PLUGINS
from regalia.policy.verdict import Allow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from regalia.appraisal.finding import Finding
    from regalia.policy.documents import ClientPolicy, ReleasePolicy
    from regalia.policy.verdict import Verdict


@dataclass(frozen=True, slots=True)
class Statement:
    """What one field of a policy demands.

    Attributes:
        path: the field, e.g. ``platform.snp.measurements``.
        value: the field's value, in full: whoever signs must see all of it.
        says: one sentence.
        risk: what leaving it open risks; None when it is not open.
    """

    path: str
    value: str
    says: str
    risk: str | None


class _Alone(msgspec.Struct, frozen=True):
    """A platform section by itself, in the place that it has in a policy."""

    platform: Platform


def platform_statements(platform: Platform) -> tuple[Statement, ...]:
    """Those about the rules of a platform section that are left open."""
    return tuple(each for each in statements(_Alone(platform)) if each.risk is not None)


def statements(
    policy: ReleasePolicy | ClientPolicy | Platform | _Alone,
) -> tuple[Statement, ...]:
    """One for every field, in the order of the document; then what entries of lists leave open."""
    if isinstance(policy, Platform):
        return statements(_Alone(policy))
    open_paths = tuple(path.partition("=")[0] for path in wildcards(policy))
    out: list[Statement] = []
    for each in _explanations(policy):
        value = _field(policy, each.path)
        if value is _ABSENT:
            continue
        if value is msgspec.UNSET:  # an optional list accepts nothing when it is absent
            value = []
        is_open = each.path in open_paths
        says = each.unrestricted if is_open else each.required(value)
        out.append(Statement(each.path, _value(value), says, each.risk if is_open else None))
    for path in open_paths:
        within = _ENTRY_EXPLANATIONS.get(_INDEX.sub("[]", path))
        if within is not None:
            out.append(Statement(path, "any", f"{path}: {within.unrestricted}", within.risk))
    out += _open_conditions(policy)
    return tuple(out)


def _open_conditions(policy: ReleasePolicy | ClientPolicy | _Alone) -> Iterator[Statement]:
    """Those about conditions that demand nothing, since they cannot fail."""
    for index, source in enumerate(getattr(policy, "conditions", ())):
        if cannot_fail(source):
            path = f"conditions[{index}]"
            yield Statement(
                path,
                in_full([source]),
                f"{path} cannot fail.",
                "it is true of every machine, so what it seems to demand is not asked.",
            )


def explain_policy(policy: ReleasePolicy | ClientPolicy | Platform) -> tuple[str, ...]:
    """Sentences: what the policy demands, then everything that it leaves open and the risk."""
    said = statements(policy)
    out = ["A platform section by itself."]
    if not isinstance(policy, Platform):
        out = [f"Policy {policy.name!r} ({policy.format})."]
    out += [each.says for each in said]
    left_open = [each for each in said if each.risk is not None]
    if not left_open:
        return (*out, "Nothing is left open.")
    out.append(f"Left open: {len(left_open)}.")
    out += [f"OPEN {each.path} = {each.value}: {each.risk}" for each in left_open]
    return tuple(out)


def explain_verdict(verdict: Verdict) -> tuple[str, ...]:
    """Sentences: the decision, every reason with its meaning and its fix, and what was open."""
    reasons = () if isinstance(verdict, Allow) else verdict.reasons
    return explain_findings(reasons, verdict.hardware, verdict.wildcards)


def explain_findings(
    reasons: Sequence[Finding], hardware: Hardware, open_rules: Sequence[str]
) -> tuple[str, ...]:
    """The same of findings without a verdict, as a platform section gives them.

    Args:
        reasons: rules that the claims do not meet; none of them means that all are met.
        hardware: genuine or simulated.
        open_rules: paths of the rules that were left open.
    """
    out = [] if reasons else ["ALLOW: the claims meet every rule of the policy."]
    if reasons:
        count = len(reasons)
        out.append(f"DENY: {count} reason{'' if count == 1 else 's'}.")
        for number, finding in enumerate(reasons, start=1):
            out.append(f"{number}. {finding.code.name}: {finding.what}.")
            out.append(f"   Why it matters: {finding.code.why}")
            out.append(f"   What would fix it: {finding.fix}")
    if hardware is not Hardware.GENUINE:
        out.append(
            "hardware: simulated. This evidence protects nothing from whoever runs the host."
        )
    if open_rules:
        out.append(f"Not checked, because the policy leaves it open: {in_full(open_rules)}.")
    return tuple(out)


_ABSENT = object()
_INDEX = re.compile(r"\[\d+\]")


def _explanations(policy: ReleasePolicy | ClientPolicy | _Alone) -> Iterator[Explanation]:
    """All of them; those of the device set's entries follow the one about the set."""
    for each in EXPLANATIONS:
        yield each
        if each.path == DEVICES_PATH:
            yield from device_explanations(policy.platform.devices)


def _field(policy: msgspec.Struct, path: str) -> object:
    """Follow a dotted path; a field that this kind of policy does not have is ``_ABSENT``."""
    value: object = policy
    for part in path.split("."):
        name, _, index = part.partition("[")
        value = getattr(value, name, _ABSENT)
        if index and isinstance(value, list):
            value = value[int(index[:-1])]
    return value


def _entry(value: object) -> str:
    return msgspec.json.encode(value).decode() if isinstance(value, msgspec.Struct) else str(value)


def _value(value: object) -> str:
    if isinstance(value, msgspec.Struct | dict):
        return in_full([msgspec.json.encode(value).decode()])
    if isinstance(value, list):
        return in_full([_entry(item) for item in value]) if value else "[]"
    return in_full([str(value)])


# -- how fields read that are not a TEE's ---------------------------------------------------------


def _grace(value: int) -> str:
    if value == 0:
        return "Collateral out of date is not accepted."
    return f"Collateral may be out of date by {value} days; the verdict is then a warning."


def _listed(text: str, empty: str) -> Callable[[list[str]], str]:
    """A sentence with ``{}`` for the entries of a list, and another for an empty one."""
    return lambda values: text.format(in_full(values)) if values else empty


# For fields of the entries of lists, by path with ``[]`` for any index.
_ENTRY_EXPLANATIONS: Mapping[str, Explanation] = MappingProxyType(
    {
        each.path: each
        for plugin in POLICY_PLUGINS
        for field in plugin.fields
        for each in field.entry_explanations(plugin.path)
    }
)

# One for every other field, in the order of the document. A test compares with the document.
EXPLANATIONS: tuple[Explanation, ...] = (
    Explanation("format", "The document's format is {}.".format),
    Explanation("name", "The policy is called {}.".format),
    Explanation("version", "It is version {}; a broker never goes back to an older one.".format),
    Explanation("model.id", "It is about {}.".format),
    Explanation("model.version_minimum", "The model's version must be at least {}.".format),
    Explanation(
        "platform.hardware",
        "The evidence must come from {} hardware.".format,
        "Only SIMULATED evidence is accepted.",
        "anybody with the throw-away root's key can forge it, and the host can read the weights.",
    ),
    *(each for plugin in POLICY_PLUGINS for each in plugin.explanations(plugin.path)),
    Explanation(DEVICES_PATH, device_set_words),
    Explanation("platform.dangerous_collateral_grace_days", _grace),
    Explanation("freshness.challenge_max_age_s", "The challenge must be at most {} s old.".format),
    Explanation(
        "placement.regions",
        accepted("regions"),
        "Any region is accepted.",
        "the model may run in any country.",
    ),
    Explanation(
        "placement.sites",
        accepted("sites"),
        "Any site is accepted.",
        "the model may run in a building that nobody has looked at.",
    ),
    Explanation(
        "placement.tiers",
        accepted("tiers"),
        "Any tier is accepted.",
        "the model may run with any provider in the chain.",
    ),
    Explanation(
        "runtime.owner_key",
        "The runtime must trust exactly this owner: {}.".format,
        "The runtime may trust any owner's key.",
        "a runtime set up for another owner's policies and models passes.",
    ),
    Explanation(
        "runtime.log_key",
        "The runtime must trust exactly this transparency log: {}.".format,
        "The runtime may trust any transparency log.",
        "releases may be logged where you do not look.",
    ),
    Explanation(
        "runtime.egress",
        _listed(
            "The workload's configuration may list only these addresses: {}.",
            "The workload's configuration may list no outbound address.",
        ),
        "The workload's configuration may list any outbound address.",
        "every address is a way out for weights and prompts.",
    ),
    Explanation(
        "runtime.opens",
        _listed(
            "The workload's configuration may open only these surfaces of the engine: {}.",
            "The workload's configuration may open no surface of the engine.",
        ),
        "The workload's configuration may open any surface of the engine.",
        "probabilities of tokens show weights, and caches that callers share show prompts.",
    ),
    Explanation(
        "runtime.adapters",
        _listed(
            "Only these adapters may be merged into the model: {}.",
            "No other adapter may be merged into the model.",
        ),
        "Any adapter of the owner may be merged into the model.",
        "an adapter changes every answer, and the model's own name stays the same.",
    ),
    Explanation("holders_max", "At most {} runtimes hold the key at the same time.".format),
    Explanation("lease_s", "A lease lasts {} s; then the runtime attests again or wipes.".format),
    Explanation("custody", accepted("custody of the model key during a release")),
    Explanation(
        "approvals.threshold",
        lambda least: (
            f"A release needs {least} approvers' signatures."
            if least
            else "A release needs no person's approval."
        ),
    ),
    Explanation("approvals.approvers", _listed("Approvers: {}.", "There are no approvers.")),
    Explanation(
        "signatures",
        lambda wanted: (
            "Manifest, policy, approvals and log must be signed with ML-DSA-65 too."
            if wanted == "post-quantum"
            else "Classical signatures suffice, which do not outlast quantum computers."
        ),
    ),
    Explanation(
        "conditions",
        _listed("All of these must be true: {}.", "There are no further conditions."),
    ),
)
