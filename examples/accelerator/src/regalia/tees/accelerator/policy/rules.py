"""Rules about an accelerator that are more than one claim against one field."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regalia.appraisal.finding import finding
from regalia.appraisal.policy_codes import PolicyCode
from regalia.appraisal.policy_plugin import RuleInput, judges
from regalia.tees.accelerator.claims import AcceleratorClaims
from regalia.tees.accelerator.policy.section import Accelerator

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regalia.appraisal.finding import Finding

AcceleratorRuleInput = RuleInput[Accelerator, AcceleratorClaims]


@judges("measurements")
def workload(case: AcceleratorRuleInput) -> Iterator[Finding]:
    """What runs. A policy that leaves it open is none."""
    if case.section.measurements == "any":
        yield finding(PolicyCode.WORKLOAD_UNPINNED, "measurements is open: any program may run")
