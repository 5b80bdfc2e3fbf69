"""Rules about a TD or an enclave that are more than one claim against one field.

Numbers in the docstrings are the checks of docs/spec/policy.md, section "Order of evaluation".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from regalia.appraisal.finding import finding
from regalia.appraisal.policy_codes import PolicyCode
from regalia.appraisal.policy_plugin import RuleInput, judges
from regalia.tees.intel.claims import SgxClaims, TdxClaims
from regalia.tees.intel.policy.section import Sgx, Tdx

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regalia.appraisal.finding import Finding

TdxRuleInput = RuleInput[Tdx, TdxClaims]
SgxRuleInput = RuleInput[Sgx, SgxClaims]


@judges("mrtd", "rtmrs.rtmr1", "rtmrs.rtmr2")
def td_workload(case: TdxRuleInput) -> Iterator[Finding]:
    """(16) What runs: firmware in MRTD, kernel and what it starts in RTMR1 and RTMR2."""
    rtmrs = case.section.rtmrs
    if "any" in (case.section.mrtd, rtmrs.rtmr1, rtmrs.rtmr2):
        yield finding(
            PolicyCode.WORKLOAD_UNPINNED,
            "mrtd, rtmr1 or rtmr2 is open: firmware alone does not say which kernel it starts",
            "List the accepted values of mrtd, rtmr1 and rtmr2.",
        )


@judges("mrenclaves", "mrsigners", "isv_prod_ids")
def enclave_workload(case: SgxRuleInput) -> Iterator[Finding]:
    """(16) What runs: MRENCLAVE, or a product of a signer from some security version on."""
    section = case.section
    if section.mrenclaves == "any" and "any" in (section.mrsigners, section.isv_prod_ids):
        yield finding(
            PolicyCode.WORKLOAD_UNPINNED,
            "mrenclaves is open, and mrsigners and isv_prod_ids do not both take its place",
            "List the accepted values of mrenclaves, or of mrsigners and isv_prod_ids.",
        )
