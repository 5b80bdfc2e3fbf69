"""Azure's sections of a policy. Spec: docs/spec/policy.md, sections "platform.azure_…"."""

from __future__ import annotations

from typing import Literal

from regalia.appraisal.policy_doc import Doc, Unrestricted
from regalia.appraisal.policy_words import each, word
from regalia.tees.boot.policy.section import Boot, Pcrs, check_boot, check_pcrs
from regalia.tees.intel.policy.section import Tdx, check_tdx
from regalia.tees.snp.policy.section import Snp, check_snp

SNP_PATH = "platform.azure_snp"
TDX_PATH = "platform.azure_tdx"


class AzureVm(Doc, frozen=True, kw_only=True):
    """What the VM above the paravisor must be."""

    secure_boot: Literal["required", "any"]
    tpm: Literal["required", "any"]
    console: Literal["deny", "allow"]  # the host's serial console into the VM
    vm_ids: list[str] | Unrestricted  # vmUniqueId, as Azure writes it
    pcrs: Pcrs
    boot: Boot  # what the vTPM's event log shows


class AzureSnp(Doc, frozen=True, kw_only=True):
    """An Azure VM on SEV-SNP: the paravisor's platform, and the VM above it."""

    paravisor: Snp
    vm: AzureVm

    @property
    def revocation(self) -> Literal["required", "any"]:
        """The platform's word."""
        return self.paravisor.revocation

    @property
    def chip_ids(self) -> list[str] | Unrestricted:
        """The platform's machines."""
        return self.paravisor.chip_ids


class AzureTdx(Doc, frozen=True, kw_only=True):
    """An Azure VM on TDX: the paravisor's platform, and the VM above it."""

    paravisor: Tdx
    vm: AzureVm

    @property
    def revocation(self) -> Literal["required", "any"]:
        """The platform's word."""
        return self.paravisor.revocation

    @property
    def ppids(self) -> list[str] | Unrestricted:
        """The platform's machines."""
        return self.paravisor.ppids


def check_azure_snp(section: AzureSnp) -> None:
    """Raise ParseError MALFORMED at the first rule that the section breaks."""
    check_snp(section.paravisor, f"{SNP_PATH}.paravisor")
    check_azure_vm(section.vm, f"{SNP_PATH}.vm")


def check_azure_tdx(section: AzureTdx) -> None:
    """Likewise, on TDX."""
    check_tdx(section.paravisor, f"{TDX_PATH}.paravisor")
    check_azure_vm(section.vm, f"{TDX_PATH}.vm")


def check_azure_vm(vm: AzureVm, path: str) -> None:
    """Likewise, of the VM."""
    each(vm.vm_ids, f"{path}.vm_ids", word)
    check_boot(vm.boot, f"{path}.boot")
    check_pcrs(vm.pcrs, f"{path}.pcrs")
