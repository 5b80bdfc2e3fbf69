"""The policy half of Azure's confidential VMs: the platform's own, and the VM above it."""

from __future__ import annotations

from dataclasses import replace
from operator import getitem
from typing import TYPE_CHECKING, Any

from regalia.appraisal.condition_types import (
    SAID_FOR_ALL,
    TEXT,
    because,
    derived,
    record_of,
    registers,
)
from regalia.appraisal.config_binding import BINDINGS
from regalia.appraisal.policy_plugin import Part, PolicyPlugin, Section, judges
from regalia.tees.azure.claims import AzureSnpClaims, AzureTdxClaims, AzureVtpm
from regalia.tees.azure.claims import AzureVm as VmClaims
from regalia.tees.azure.policy.fields import BOOT, VM_FIELDS
from regalia.tees.azure.policy.section import AzureSnp, AzureTdx, AzureVm
from regalia.tees.boot.policy.plugin import BOOT_CONDITIONS, workload_findings
from regalia.tees.boot.policy.section import PCR_COUNT
from regalia.tees.intel.policy.plugin import TDX
from regalia.tees.snp.policy.plugin import SNP
from regalia.wire.evidence import Tee

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regalia.appraisal.condition_types import Reading
    from regalia.appraisal.finding import Finding
    from regalia.appraisal.policy_field import PinChoices
    from regalia.appraisal.policy_plugin import RuleInput
    from regalia.tees.azure.policy.fields import AzureClaims


@judges("pcrs", "boot.boot_images")
def workload(case: RuleInput[AzureVm, AzureClaims]) -> Iterator[Finding]:
    """What booted must be held to something. The paravisor's measurement says nothing of it."""
    return workload_findings(case.section.pcrs, case.section.boot)


def _config_of_the_paravisor(choices: PinChoices) -> PinChoices:
    """HOST_DATA and MRCONFIGID are the paravisor's launch, not the runtime's configuration."""
    return replace(choices, config=True)


VM: Part[Any] = Part(
    "vm",
    Section(
        section=AzureVm,
        fields=VM_FIELDS,
        order=("secure_boot", "tpm", "console", "vm_ids", workload, "pcrs", BOOT),
    ),
    lambda claims: claims,
)
SNP_PARAVISOR: Part[AzureSnpClaims] = Part(
    "paravisor", SNP, lambda claims: claims.snp, _config_of_the_paravisor
)
TDX_PARAVISOR: Part[AzureTdxClaims] = Part(
    "paravisor", TDX, lambda claims: claims.tdx, _config_of_the_paravisor
)

LEFT_OUT = {
    **SAID_FOR_ALL,
    **because("its members are read below", "vm", "vtpm"),
    **because("its members stand where those of its TEE do", "snp", "tdx"),
}
_VM = derived(VmClaims, left_out=because("not every paravisor says it", "tpm_persisted"))
_VTPM = derived(
    AzureVtpm,
    left_out={
        **because("differs with every quote", "extra_data", "clock"),
        **because("of the paravisor, whose measurement says all of it", "safe", "firmware_version"),
    },
    readings={
        "KeyFingerprint": TEXT,
        "Mapping[int, bytes]": registers(range(PCR_COUNT), getitem),
        "BootFacts | None": BOOT_CONDITIONS,
    },
)
_MEMBERS: dict[str, Reading[Any]] = {
    **{name: each.of(lambda claims: claims.vm) for name, each in _VM.items()},
    **{name: each.of(lambda claims: claims.vtpm) for name, each in _VTPM.items()},
}
_AZURE: Reading[AzureClaims] = record_of(_MEMBERS)

AZURE_SNP: PolicyPlugin[AzureSnp, AzureSnpClaims] = PolicyPlugin(
    tee=Tee.AZURE_SNP,
    name="azure_snp",
    section=AzureSnp,
    claims=AzureSnpClaims,
    fields=(*SNP_PARAVISOR.fields, *VM.fields),
    order=(SNP_PARAVISOR, VM),
    conditions={
        **{name: each.of(lambda claims: claims.snp) for name, each in SNP.conditions.items()},
        "azure": _AZURE,
    },
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
    fields=(*TDX_PARAVISOR.fields, *VM.fields),
    order=(TDX_PARAVISOR, VM),
    conditions={
        **{name: each.of(lambda claims: claims.tdx) for name, each in TDX.conditions.items()},
        "azure": _AZURE,
    },
    left_out=LEFT_OUT,
    machines="paravisor.ppids",
    binding=BINDINGS[Tee.AZURE_TDX],
    revocation="paravisor.revocation",
)
