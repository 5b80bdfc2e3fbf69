"""Rules about an Azure VM above its paravisor. The platform below has the rules of its own TEE.

Letters in the docstrings are the checks of docs/spec/policy.md, section "Azure VMs".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from regalia.appraisal.finding import Finding, empty, finding, listing, shown
from regalia.appraisal.policy_codes import PolicyCode
from regalia.tees.azure.policy.section import SNP_PATH, TDX_PATH
from regalia.tees.boot.policy.rules import boot_findings, register_findings, workload_findings
from regalia.tees.intel.policy.rules import tdx_findings
from regalia.tees.intel.policy.section import TDX_PATH as TDX_ALONE
from regalia.tees.snp.policy.rules import snp_findings
from regalia.tees.snp.policy.section import PATH as SNP_ALONE

if TYPE_CHECKING:
    from regalia.tees.azure.claims import AzureSnpClaims, AzureTdxClaims, AzureVtpm
    from regalia.tees.azure.claims import AzureVm as VmClaims
    from regalia.tees.azure.policy.section import AzureSnp, AzureTdx, AzureVm


@dataclass(frozen=True, slots=True)
class VmRuleInput:
    """What every rule here looks at."""

    rule: AzureVm
    vm: VmClaims
    vtpm: AzureVtpm
    path: str  # of the rule


VmRule = Callable[[VmRuleInput], Iterator[Finding]]


def azure_snp_findings(section: AzureSnp, claims: AzureSnpClaims) -> Iterator[Finding]:
    """All findings about the paravisor's platform, then about the VM."""
    for each in snp_findings(section.paravisor, claims.snp):
        yield replace(each, what=each.what.replace(SNP_ALONE, f"{SNP_PATH}.paravisor"))
    yield from vm_findings(VmRuleInput(section.vm, claims.vm, claims.vtpm, f"{SNP_PATH}.vm"))


def azure_tdx_findings(section: AzureTdx, claims: AzureTdxClaims) -> Iterator[Finding]:
    """Likewise, on TDX."""
    for each in tdx_findings(section.paravisor, claims.tdx):
        yield replace(each, what=each.what.replace(TDX_ALONE, f"{TDX_PATH}.paravisor"))
    yield from vm_findings(VmRuleInput(section.vm, claims.vm, claims.vtpm, f"{TDX_PATH}.vm"))


def vm_findings(case: VmRuleInput) -> Iterator[Finding]:
    """All findings about the VM, in the order of the rules."""
    for each in VM_RULES:
        yield from each(case)


def configuration(case: VmRuleInput) -> Iterator[Finding]:
    """(a) What the paravisor says of the VM's configuration."""
    wrong = [
        (case.rule.secure_boot != "any" and not case.vm.secure_boot, "Secure Boot is off"),
        (case.rule.tpm != "any" and not case.vm.tpm_enabled, "the vTPM is off"),
        (case.rule.console != "allow" and case.vm.console_enabled, "the serial console is on"),
    ]
    for is_wrong, what in wrong:
        if is_wrong:
            yield finding(PolicyCode.VM_CONFIGURATION_DENIED, what)


def vm_id(case: VmRuleInput) -> Iterator[Finding]:
    """(b) Enrolled VMs."""
    accepted = case.rule.vm_ids
    if accepted == "any":
        return
    name = case.vm.vm_unique_id
    if not accepted:
        yield empty(f"{case.path}.vm_ids")
    elif name not in accepted:
        yield finding(
            PolicyCode.INSTANCE_NOT_ALLOWED,
            f"VM {shown(name)}; accepted: {listing(accepted)}",
            f"Run in an enrolled VM, or add {shown(name)} to vm_ids after checking whose it is.",
        )


def workload(case: VmRuleInput) -> Iterator[Finding]:
    """(c) What booted must be held to something. The paravisor's measurement says nothing of it."""
    yield from workload_findings(case.rule.pcrs, case.rule.boot)


def registers(case: VmRuleInput) -> Iterator[Finding]:
    """(d) Every listed register has an accepted value."""
    yield from register_findings(case.rule.pcrs, case.vtpm.pcrs, f"{case.path}.pcrs")


def boot(case: VmRuleInput) -> Iterator[Finding]:
    """(e) What the event log shows."""
    yield from boot_findings(case.rule.boot, case.vtpm.boot, f"{case.path}.boot")


VM_RULES: tuple[VmRule, ...] = (configuration, vm_id, workload, registers, boot)
