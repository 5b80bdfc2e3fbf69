"""Rules about a machine with a TPM that are more than one claim against one field."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regalia.appraisal.policy_plugin import RuleInput, judges
from regalia.tees.boot.policy.rules import workload_findings
from regalia.tees.tpm.claims import TpmClaims
from regalia.tees.tpm.policy.section import Tpm

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regalia.appraisal.finding import Finding

TpmRuleInput = RuleInput[Tpm, TpmClaims]


@judges("pcrs", "boot.boot_images")
def workload(case: TpmRuleInput) -> Iterator[Finding]:
    """What booted must be held to something."""
    return workload_findings(case.section.pcrs, case.section.boot)
