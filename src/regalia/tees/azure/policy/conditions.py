"""What conditions may say of an Azure VM, under ``claims.azure``, beside the platform's fields."""

from __future__ import annotations

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
from regalia.tees.azure.claims import AzureVm, AzureVtpm
from regalia.tees.boot.policy.conditions import BOOT
from regalia.tees.boot.policy.section import PCR_COUNT
from regalia.tees.intel.policy.conditions import TDX_CONDITIONS as TDX
from regalia.tees.snp.policy.conditions import CONDITIONS as SNP

if TYPE_CHECKING:
    from regalia.appraisal.condition_types import Reading
    from regalia.tees.azure.claims import AzureSnpClaims, AzureTdxClaims

LEFT_OUT = {
    **SAID_FOR_ALL,
    **because("its members are read below", "vm", "vtpm"),
    **because("its members stand where those of its TEE do", "snp", "tdx"),
}
_VM = derived(AzureVm, left_out=because("not every paravisor says it", "tpm_persisted"))
_VTPM = derived(
    AzureVtpm,
    left_out={
        **because("differs with every quote", "extra_data", "clock"),
        **because("of the paravisor, whose measurement says all of it", "safe", "firmware_version"),
    },
    readings={
        "KeyFingerprint": TEXT,
        "Mapping[int, bytes]": registers(range(PCR_COUNT), getitem),
        "BootFacts | None": BOOT,
    },
)
_MEMBERS: dict[str, Reading[Any]] = {
    **{name: each.of(lambda claims: claims.vm) for name, each in _VM.items()},
    **{name: each.of(lambda claims: claims.vtpm) for name, each in _VTPM.items()},
}
AZURE: Reading[AzureSnpClaims | AzureTdxClaims] = record_of(_MEMBERS)

SNP_CONDITIONS: dict[str, Reading[AzureSnpClaims]] = {
    **{name: each.of(lambda claims: claims.snp) for name, each in SNP.items()},
    "azure": AZURE,
}
TDX_CONDITIONS: dict[str, Reading[AzureTdxClaims]] = {
    **{name: each.of(lambda claims: claims.tdx) for name, each in TDX.items()},
    "azure": AZURE,
}
