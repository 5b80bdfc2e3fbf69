"""The policy half of the example accelerator."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regalia.appraisal.condition_types import SAID_FOR_ALL, derived, record_of
from regalia.appraisal.finding import finding
from regalia.appraisal.policy_codes import PolicyCode
from regalia.appraisal.policy_plugin import PolicyPlugin, judges
from regalia.tees.accelerator.claims import AcceleratorClaims
from regalia.tees.accelerator.names import CONFIG_BINDING
from regalia.tees.accelerator.policy.fields import FIELDS
from regalia.tees.accelerator.policy.section import Accelerator
from regalia.wire.evidence import Tee

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regalia.appraisal.finding import Finding
    from regalia.appraisal.policy_plugin import RuleInput


@judges("measurements")
def workload(case: RuleInput[Accelerator, AcceleratorClaims]) -> Iterator[Finding]:
    """What runs. A policy that leaves it open is none."""
    if case.section.measurements == "any":
        yield finding(PolicyCode.WORKLOAD_UNPINNED, "measurements is open: any program may run")


ACCELERATOR = PolicyPlugin(
    tee=Tee.EXAMPLE_ACCELERATOR,
    name="accelerator",
    section=Accelerator,
    claims=AcceleratorClaims,
    fields=FIELDS,
    order=("revocation", "chip_ids", "firmware_minimum", workload, "measurements", "configs"),
    # Every claim, under its own name, but for those that all TEEs have.
    conditions={"accelerator": record_of(derived(AcceleratorClaims, left_out=SAID_FOR_ALL))},
    left_out=SAID_FOR_ALL,
    machines="chip_ids",
    binding=CONFIG_BINDING,
)
