"""The policy half of Azure's confidential VMs: the platform's own, and the VM above it."""

from __future__ import annotations

from regalia.appraisal.config_binding import BINDINGS
from regalia.appraisal.policy_plugin import PolicyPlugin, Section, rules_within
from regalia.tees.azure.claims import AzureSnpClaims, AzureTdxClaims
from regalia.tees.azure.policy.conditions import LEFT_OUT, SNP_CONDITIONS, TDX_CONDITIONS
from regalia.tees.azure.policy.fields import SNP_FIELDS, TDX_FIELDS, VM_FIELDS
from regalia.tees.azure.policy.rules import workload
from regalia.tees.azure.policy.section import AzureSnp, AzureTdx, AzureVm
from regalia.tees.boot.policy.plugin import BOOT
from regalia.tees.intel.policy.plugin import TDX
from regalia.tees.snp.policy.plugin import SNP
from regalia.wire.evidence import Tee

VM: Section[AzureVm, AzureSnpClaims | AzureTdxClaims] = Section(
    section=AzureVm,
    fields=VM_FIELDS,
    order=(
        "secure_boot",
        "tpm",
        "console",
        "vm_ids",
        workload,
        "pcrs",
        rules_within("boot", BOOT, lambda vm: vm.boot, lambda claims: claims.vtpm.boot),
    ),
    cross_check=lambda vm, path: BOOT.cross_check(vm.boot, f"{path}.boot"),
)

AZURE_SNP: PolicyPlugin[AzureSnp, AzureSnpClaims] = PolicyPlugin(
    tee=Tee.AZURE_SNP,
    name="azure_snp",
    section=AzureSnp,
    claims=AzureSnpClaims,
    fields=SNP_FIELDS,
    order=(
        rules_within("paravisor", SNP, lambda whole: whole.paravisor, lambda claims: claims.snp),
        rules_within("vm", VM, lambda whole: whole.vm, lambda claims: claims),
    ),
    cross_check=lambda whole, path: VM.cross_check(whole.vm, f"{path}.vm"),
    conditions=SNP_CONDITIONS,
    left_out=LEFT_OUT,
    machines="paravisor.chip_ids",
    binding=BINDINGS[Tee.AZURE_SNP],
    revocation="paravisor.revocation",
)

AZURE_TDX: PolicyPlugin[AzureTdx, AzureTdxClaims] = PolicyPlugin(
    tee=Tee.AZURE_TDX,
    name="azure_tdx",
    section=AzureTdx,
    claims=AzureTdxClaims,
    fields=TDX_FIELDS,
    order=(
        rules_within("paravisor", TDX, lambda whole: whole.paravisor, lambda claims: claims.tdx),
        rules_within("vm", VM, lambda whole: whole.vm, lambda claims: claims),
    ),
    cross_check=lambda whole, path: VM.cross_check(whole.vm, f"{path}.vm"),
    conditions=TDX_CONDITIONS,
    left_out=LEFT_OUT,
    machines="paravisor.ppids",
    binding=BINDINGS[Tee.AZURE_TDX],
    revocation="paravisor.revocation",
)
