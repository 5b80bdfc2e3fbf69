"""Azure's sections of a policy. Spec: docs/spec/policy.md, sections "platform.azure_…"."""

from __future__ import annotations

from regalia.appraisal.policy_doc import Doc, Listed, Requirement, Switch
from regalia.tees.boot.policy.section import Boot, Pcrs
from regalia.tees.intel.policy.section import Tdx
from regalia.tees.snp.policy.section import Snp


class AzureVm(Doc, frozen=True, kw_only=True):
    """What the VM above the paravisor must be."""

    secure_boot: Requirement
    tpm: Requirement
    console: Switch  # the host's serial console into the VM
    vm_ids: Listed  # vmUniqueId, as Azure writes it
    pcrs: Pcrs
    boot: Boot  # what the vTPM's event log shows


class AzureSnp(Doc, frozen=True, kw_only=True):
    """An Azure VM on SEV-SNP: the paravisor's platform, and the VM above it."""

    paravisor: Snp
    vm: AzureVm


class AzureTdx(Doc, frozen=True, kw_only=True):
    """An Azure VM on TDX: the paravisor's platform, and the VM above it."""

    paravisor: Tdx
    vm: AzureVm
