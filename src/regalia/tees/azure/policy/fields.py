"""The fields of Azure's sections: the paravisor's platform, and the VM above it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from regalia.appraisal.field_kinds import allow_or_deny, one_of, required_or_any
from regalia.appraisal.finding import listing, shown
from regalia.appraisal.policy_codes import PolicyCode
from regalia.appraisal.policy_field import fields_within, with_choices
from regalia.appraisal.policy_words import WORDS
from regalia.tees.boot.policy.fields import FIELDS as BOOT_FIELDS
from regalia.tees.boot.policy.fields import pcrs_field
from regalia.tees.intel.policy.plugin import TDX
from regalia.tees.snp.policy.plugin import SNP

if TYPE_CHECKING:
    from regalia.appraisal.policy_field import Field, PinChoices
    from regalia.tees.azure.claims import AzureSnpClaims, AzureTdxClaims

    AzureClaims = AzureSnpClaims | AzureTdxClaims


def _config_of_the_paravisor(choices: PinChoices) -> PinChoices:
    """HOST_DATA and MRCONFIGID are the paravisor's launch, not the runtime's configuration."""
    return replace(choices, config=True)


PCRS: tuple[Field[AzureClaims, Any], ...] = fields_within(
    "",
    lambda claims: claims.vtpm.pcrs,
    [
        pcrs_field(
            "The vTPM", "the paravisor may boot other software than yours, as far as boot lets it."
        )
    ],
)
BOOT: tuple[Field[AzureClaims, Any], ...] = fields_within(
    "boot", lambda claims: claims.vtpm.boot, BOOT_FIELDS
)

VM_FIELDS: tuple[Field[AzureClaims, Any], ...] = (
    required_or_any(
        "secure_boot",
        met=lambda claims: claims.vm.secure_boot,
        code=PolicyCode.VM_CONFIGURATION_DENIED,
        what="Secure Boot is off",
        required="Secure Boot must be on.",
        unrestricted="Secure Boot may be off.",
        risk="anybody who can write the VM's disk chooses what boots, as far as pcrs lets it.",
        content="what the paravisor says of the VM's configuration",
    ),
    required_or_any(
        "tpm",
        met=lambda claims: claims.vm.tpm_enabled,
        code=PolicyCode.VM_CONFIGURATION_DENIED,
        what="the vTPM is off",
        required="The vTPM must be on.",
        unrestricted="The vTPM may be off.",
        risk="the paravisor says itself that what it quotes is not measured.",
        content="whether the paravisor says that the vTPM is on",
        baseline=lambda _: "required",
    ),
    allow_or_deny(
        "console",
        absent=lambda claims: not claims.vm.console_enabled,
        code=PolicyCode.VM_CONFIGURATION_DENIED,
        what="the serial console is on",
        allowed="The host's serial console may be on.",
        denied="The host's serial console must be off.",
        risk="whoever runs the host reads what the VM prints, and types where it asks.",
        content="the host's serial console. `allow` counts as left open",
    ),
    one_of(
        "vm_ids",
        entry=WORDS,
        have=lambda claims: claims.vm.vm_unique_id,
        code=PolicyCode.INSTANCE_NOT_ALLOWED,
        what=lambda have, values, _: f"VM {shown(have)}; accepted: {listing(values)}",
        fix=lambda have: (
            f"Run in an enrolled VM, or add {shown(have)} to vm_ids after checking whose it is."
        ),
        content="vmUniqueId, as Azure writes it",
        noun="VMs",
        unrestricted="Any VM is accepted.",
        risk="the VM may run in anybody's Azure subscription.",
        pinned="machine",
        # A person's machines are chips and platforms: the paravisor's fields name them.
        baseline=lambda _: "any",
    ),
    *PCRS,
    *BOOT,
)

SNP_PARAVISOR: tuple[Field[AzureSnpClaims, Any], ...] = fields_within(
    "paravisor", lambda claims: claims.snp, with_choices(SNP.fields, _config_of_the_paravisor)
)
TDX_PARAVISOR: tuple[Field[AzureTdxClaims, Any], ...] = fields_within(
    "paravisor", lambda claims: claims.tdx, with_choices(TDX.fields, _config_of_the_paravisor)
)
VM: tuple[Field[AzureClaims, Any], ...] = fields_within("vm", lambda claims: claims, VM_FIELDS)

SNP_FIELDS: tuple[Field[AzureSnpClaims, Any], ...] = (*SNP_PARAVISOR, *VM)
TDX_FIELDS: tuple[Field[AzureTdxClaims, Any], ...] = (*TDX_PARAVISOR, *VM)
