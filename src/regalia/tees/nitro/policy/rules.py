"""Rules about an AWS Nitro enclave that are more than one claim against one field.

Letters in the docstrings are the checks of docs/spec/policy.md, section "Nitro enclaves".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from regalia.appraisal.finding import finding
from regalia.appraisal.policy_codes import PolicyCode
from regalia.appraisal.policy_plugin import RuleInput, judges
from regalia.tees.nitro.claims import NitroClaims
from regalia.tees.nitro.policy.section import Nitro

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regalia.appraisal.finding import Finding

NitroRuleInput = RuleInput[Nitro, NitroClaims]


@judges("pcr0", "pcr8")
def workload(case: NitroRuleInput) -> Iterator[Finding]:
    """(d) What runs: the image, or whoever signed it. Neither is no policy."""
    if case.section.pcr0 == "any" and case.section.pcr8 == "any":
        yield finding(
            PolicyCode.WORKLOAD_UNPINNED,
            "pcr0 is open, and no listed signer of the image (pcr8) takes its place",
        )
