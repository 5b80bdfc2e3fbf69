"""Rules about an Azure VM above its paravisor that are more than one claim against one field."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regalia.appraisal.policy_plugin import RuleInput, judges
from regalia.tees.azure.claims import AzureSnpClaims, AzureTdxClaims
from regalia.tees.azure.policy.section import AzureVm
from regalia.tees.boot.policy.rules import workload_findings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regalia.appraisal.finding import Finding

VmRuleInput = RuleInput[AzureVm, AzureSnpClaims | AzureTdxClaims]


@judges("pcrs", "boot.boot_images")
def workload(case: VmRuleInput) -> Iterator[Finding]:
    """What booted must be held to something. The paravisor's measurement says nothing of it."""
    return workload_findings(case.section.pcrs, case.section.boot)
