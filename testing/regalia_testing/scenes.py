"""The policy scene of every TEE: a healthy platform, and a policy that accepts exactly it."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from regalia.wire.evidence import Tee
from regalia_testing.policy_scene import Scene
from regalia_testing.tees.azure.policy import azure_snp_scene, azure_tdx_scene
from regalia_testing.tees.intel.policy import sgx_scene, tdx_scene
from regalia_testing.tees.nitro.policy import nitro_scene
from regalia_testing.tees.tpm.policy import tpm_scene

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

SCENES: Mapping[Tee, Callable[[], Scene]] = MappingProxyType(
    {
        Tee.SEV_SNP: Scene,
        Tee.TDX: tdx_scene,
        Tee.SGX: sgx_scene,
        Tee.TPM: lambda: tpm_scene(Scene()),
        Tee.NITRO: nitro_scene,
        Tee.AZURE_SNP: azure_snp_scene,
        Tee.AZURE_TDX: azure_tdx_scene,
    }
)
