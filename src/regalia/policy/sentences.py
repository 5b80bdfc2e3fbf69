"""One sentence for every field of a policy, closed and open. A test compares with the document."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from regalia.appraisal.explanation import Sentence, accepted
from regalia.appraisal.finding import in_full
from regalia.tees.azure.policy import words as sentences_azure
from regalia.tees.intel.policy import words as sentences_intel
from regalia.tees.nitro.policy import words as sentences_nitro
from regalia.tees.nvidia.policy.section import PATH as DEVICES_PATH
from regalia.tees.nvidia.policy.words import device_set
from regalia.tees.snp.policy import words as sentences_snp
from regalia.tees.tpm.policy import words as sentences_tpm

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
ENTRY_SENTENCES: Mapping[str, Sentence] = MappingProxyType(
    {each.path: each for each in (*sentences_snp.ENTRY_SENTENCES, *sentences_azure.ENTRY_SENTENCES)}
)

SENTENCES: tuple[Sentence, ...] = (
    Sentence("format", "The document's format is {}.".format),
    Sentence("name", "The policy is called {}.".format),
    Sentence("version", "It is version {}; a broker never goes back to an older one.".format),
    Sentence("model.id", "It is about {}.".format),
    Sentence("model.version_minimum", "The model's version must be at least {}.".format),
    Sentence(
        "platform.hardware",
        _hardware,
        "Only SIMULATED evidence is accepted.",
        "anybody with the throw-away root's key can forge it, and the host can read the weights.",
    ),
    *sentences_snp.SENTENCES,
    *sentences_nitro.SENTENCES,
    *sentences_azure.SENTENCES,
    *sentences_intel.SENTENCES,
    *sentences_tpm.SENTENCES,
    Sentence(DEVICES_PATH, device_set),
    Sentence("platform.dangerous_collateral_grace_days", _grace),
    Sentence("freshness.challenge_max_age_s", "The challenge must be at most {} s old.".format),
    Sentence(
        "placement.regions",
        accepted("regions"),
        "Any region is accepted.",
        "the model may run in any country.",
    ),
    Sentence(
        "placement.sites",
        accepted("sites"),
        "Any site is accepted.",
        "the model may run in a building that nobody has looked at.",
    ),
    Sentence(
        "placement.tiers",
        accepted("tiers"),
        "Any tier is accepted.",
        "the model may run with any provider in the chain.",
    ),
    Sentence(
        "runtime.owner_key",
        "The runtime must trust exactly this owner: {}.".format,
        "The runtime may trust any owner's key.",
        "a runtime set up for another owner's policies and models passes.",
    ),
    Sentence(
        "runtime.log_key",
        "The runtime must trust exactly this transparency log: {}.".format,
        "The runtime may trust any transparency log.",
        "releases may be logged where you do not look.",
    ),
    Sentence(
        "runtime.egress",
        _egress,
        "The workload's configuration may list any outbound address.",
        "every address is a way out for weights and prompts.",
    ),
    Sentence("holders_max", "At most {} runtimes hold the key at the same time.".format),
    Sentence("lease_s", "A lease lasts {} s; then the runtime attests again or wipes.".format),
    Sentence("custody", accepted("custody of the model key during a release")),
    Sentence("approvals.threshold", _threshold),
    Sentence("approvals.approvers", _approvers),
    Sentence("conditions", _conditions),
)
