"""The fields of a VM above its paravisor, in the order of their struct."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from regalia.appraisal.field_kinds import Demand, OneOf, Switch, seen
from regalia.appraisal.policy_codes import PolicyCode
from regalia.appraisal.policy_field import left_open
from regalia.appraisal.policy_plugin import Part
from regalia.appraisal.policy_words import WORDS
from regalia.tees.azure.claims import AzureSnpClaims, AzureTdxClaims
from regalia.tees.boot.policy.fields import pcrs_field
from regalia.tees.boot.policy.plugin import BOOT as BOOT_SECTION

if TYPE_CHECKING:
    from regalia.appraisal.policy_field import Field

AzureClaims = AzureSnpClaims | AzureTdxClaims
BOOT: Part[AzureClaims] = Part("boot", BOOT_SECTION, lambda claims: claims.vtpm.boot)

VM_FIELDS: tuple[Field[AzureClaims, Any], ...] = (
    Demand[AzureClaims](
        "secure_boot",
        lambda claims: claims.vm.secure_boot,
        PolicyCode.VM_CONFIGURATION_DENIED,
    ).words(
        "what the paravisor says of the VM's configuration",
        "Secure Boot is off",
        "Secure Boot must be on.",
        "Secure Boot may be off.",
        "anybody who can write the VM's disk chooses what boots, as far as pcrs lets it.",
    ),
    Demand[AzureClaims](
        "tpm",
        lambda claims: claims.vm.tpm_enabled,
        PolicyCode.VM_CONFIGURATION_DENIED,
        baseline=lambda _: "required",
    ).words(
        "whether the paravisor says that the vTPM is on",
        "the vTPM is off",
        "The vTPM must be on.",
        "The vTPM may be off.",
        "the paravisor says itself that what it quotes is not measured.",
    ),
    Switch[AzureClaims](
        "console",
        lambda claims: not claims.vm.console_enabled,
        PolicyCode.VM_CONFIGURATION_DENIED,
    ).words(
        "the host's serial console. `allow` counts as left open",
        "the serial console is on",
        "The host's serial console must be off.",
        "The host's serial console may be on.",
        "whoever runs the host reads what the VM prints, and types where it asks.",
    ),
    OneOf[AzureClaims]
    .machines(
        "vm_ids",
        WORDS,
        lambda claims: claims.vm.vm_unique_id,
        seen("VM {}"),
        run="in an enrolled VM",
        check="whose it is",
        # A person's machines are chips and platforms: the paravisor's fields name them.
        baseline=left_open,
    )
    .words(
        "vmUniqueId, as Azure writes it",
        "VMs",
        "Any VM is accepted.",
        "the VM may run in anybody's Azure subscription.",
    ),
    pcrs_field(
        "The vTPM",
        "the paravisor may boot other software than yours, as far as boot lets it.",
        lambda claims: claims.vtpm.pcrs,
    ),
    *BOOT.fields,
)
