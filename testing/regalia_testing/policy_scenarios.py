"""The policy scenario of every TEE: a healthy platform, and a policy that accepts exactly it."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from regalia.wire.evidence import Tee
from regalia_testing.policy_scenario import PolicyScenario
from regalia_testing.tees.azure.policy import azure_snp_scenario, azure_tdx_scenario
from regalia_testing.tees.intel.policy import sgx_scenario, tdx_scenario
from regalia_testing.tees.nitro.policy import nitro_scenario
from regalia_testing.tees.tpm.policy import tpm_scenario

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

POLICY_SCENARIOS: Mapping[Tee, Callable[[], PolicyScenario]] = MappingProxyType(
    {
        Tee.SEV_SNP: PolicyScenario,
        Tee.TDX: tdx_scenario,
        Tee.SGX: sgx_scenario,
        Tee.TPM: lambda: tpm_scenario(PolicyScenario()),
        Tee.NITRO: nitro_scenario,
        Tee.AZURE_SNP: azure_snp_scenario,
        Tee.AZURE_TDX: azure_tdx_scenario,
    }
)
