"""One explanation for every field of a policy. A test compares with the document."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from regalia.appraisal.finding import in_full
from regalia.appraisal.policy_field import Explanation, accepted
from regalia.policy.device_set import device_set_words
from regalia.policy.registry import DEVICES_PATH, POLICY_PLUGINS

if TYPE_CHECKING:
    from collections.abc import Mapping


def _hardware(value: str) -> str:
    return f"The evidence must come from {value} hardware."


def _grace(value: int) -> str:
    if value == 0:
        return "Collateral out of date is not accepted."
    return f"Collateral may be out of date by {value} days; the verdict is then a warning."


def _egress(values: list[str]) -> str:
    if not values:
        return "The workload's configuration may list no outbound address."
    return f"The workload's configuration may list only these addresses: {in_full(values)}."


def _approvers(values: list[str]) -> str:
    if not values:
        return "There are no approvers."
    return f"Approvers: {in_full(values)}."


def _threshold(value: int) -> str:
    if value == 0:
        return "A release needs no person's approval."
    return f"A release needs {value} approvers' signatures."


def _conditions(values: list[str]) -> str:
    if not values:
        return "There are no further conditions."
    return f"All of these must be true: {in_full(values)}."


# For fields of the entries of lists, by path with ``[]`` for any index.
ENTRY_EXPLANATIONS: Mapping[str, Explanation] = MappingProxyType(
    {
        each.path: each
        for plugin in POLICY_PLUGINS
        for field in plugin.fields
        for each in field.entry_explanations(plugin.path)
    }
)

EXPLANATIONS: tuple[Explanation, ...] = (
    Explanation("format", "The document's format is {}.".format),
    Explanation("name", "The policy is called {}.".format),
    Explanation("version", "It is version {}; a broker never goes back to an older one.".format),
    Explanation("model.id", "It is about {}.".format),
    Explanation("model.version_minimum", "The model's version must be at least {}.".format),
    Explanation(
        "platform.hardware",
        _hardware,
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
        _egress,
        "The workload's configuration may list any outbound address.",
        "every address is a way out for weights and prompts.",
    ),
    Explanation("holders_max", "At most {} runtimes hold the key at the same time.".format),
    Explanation("lease_s", "A lease lasts {} s; then the runtime attests again or wipes.".format),
    Explanation("custody", accepted("custody of the model key during a release")),
    Explanation("approvals.threshold", _threshold),
    Explanation("approvals.approvers", _approvers),
    Explanation("conditions", _conditions),
)
