"""What conditions may say of an Azure VM, under ``claims.azure``, beside the platform's fields."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regalia.appraisal.condition_types import all_text, record
from regalia.tees.tpm.policy.fields import BOOT_FIELDS, boot_values

if TYPE_CHECKING:
    from regalia.appraisal.condition_types import Fields, Values
    from regalia.tees.azure.claims import AzureSnpClaims, AzureTdxClaims

_PCRS = range(24)

AZURE_FIELDS: Fields = record(
    secure_boot="bool",
    console_enabled="bool",
    tpm_enabled="bool",
    vm_unique_id="text",
    root_cert_thumbprint="text",
    user_data="text",
    ak="text",
    pcrs=record(**all_text(f"pcr{index}" for index in _PCRS)),
    boot=BOOT_FIELDS,
    reset_count="int",
    restart_count="int",
)


def azure_values(claims: AzureSnpClaims | AzureTdxClaims) -> Values:
    """Values of ``AZURE_FIELDS``. Bytes are lower-case hex."""
    vm, vtpm = claims.vm, claims.vtpm
    return {
        "secure_boot": vm.secure_boot,
        "console_enabled": vm.console_enabled,
        "tpm_enabled": vm.tpm_enabled,
        "vm_unique_id": vm.vm_unique_id,
        "root_cert_thumbprint": vm.root_cert_thumbprint,
        "user_data": vm.user_data.hex(),
        "ak": str(vtpm.ak),
        "pcrs": {f"pcr{index}": vtpm.pcrs[index].hex() for index in _PCRS},
        "boot": boot_values(vtpm.boot),
        "reset_count": vtpm.reset_count,
        "restart_count": vtpm.restart_count,
    }
