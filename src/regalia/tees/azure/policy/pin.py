"""Azure's sections of a policy, from known-good claims."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regalia.appraisal.config_binding import TPM_PCR
from regalia.tees.azure.policy.section import AzureSnp, AzureTdx, AzureVm
from regalia.tees.intel.policy.pin import pin_tdx
from regalia.tees.snp.policy.pin import pin_snp
from regalia.tees.tpm.policy.pin import PINNED_PCRS, pin_boot

if TYPE_CHECKING:
    from regalia.tees.azure.claims import AzureSnpClaims, AzureTdxClaims


def pin_azure_snp(claims: AzureSnpClaims, *, pin_machine: bool, pin_config: bool) -> AzureSnp:
    """The section that these claims meet."""
    return AzureSnp(
        # HOST_DATA is the paravisor's launch, not the runtime's configuration: always pinned.
        paravisor=pin_snp(claims.snp, pin_machine=pin_machine, pin_config=True),
        vm=pin_azure_vm(claims, pin_machine=pin_machine, pin_config=pin_config),
    )


def pin_azure_tdx(claims: AzureTdxClaims, *, pin_machine: bool, pin_config: bool) -> AzureTdx:
    """Likewise, on TDX; MRCONFIGID is the paravisor's too."""
    return AzureTdx(
        paravisor=pin_tdx(claims.tdx, pin_machine=pin_machine, pin_config=True),
        vm=pin_azure_vm(claims, pin_machine=pin_machine, pin_config=pin_config),
    )


def pin_azure_vm(
    claims: AzureSnpClaims | AzureTdxClaims, *, pin_machine: bool, pin_config: bool
) -> AzureVm:
    """The part about the VM."""
    vm = claims.vm
    pinned = (*PINNED_PCRS, TPM_PCR) if pin_config else PINNED_PCRS
    return AzureVm(
        secure_boot="required" if vm.secure_boot else "any",
        tpm="required" if vm.tpm_enabled else "any",
        console="allow" if vm.console_enabled else "deny",
        vm_ids=[vm.vm_unique_id] if pin_machine else "any",
        boot=pin_boot(claims.vtpm.boot),
        pcrs={str(index): [claims.vtpm.pcrs[index].hex()] for index in pinned},
    )
