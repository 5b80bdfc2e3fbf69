"""The built-in policy ``baseline``: what every owner demands of any TEE, and nothing else.

No debug mode, no migration, no provisional firmware, revocation known, genuine hardware. Whose
workload runs is not judged: an owner's policy says that. It is for looking at evidence before a
policy exists, never for a release.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from regalia.policy.documents import Platform, collateral_words
from regalia.tees.azure.policy.section import AzureSnp, AzureTdx, AzureVm
from regalia.tees.boot.policy.section import Boot
from regalia.tees.intel.policy.section import NOT_OUT_OF_DATE, Rtmrs, Sgx, TdAttributes, Tdx
from regalia.tees.nitro.policy.section import Nitro
from regalia.tees.nvidia.claims import NvidiaClaims
from regalia.tees.nvidia.policy.section import Device
from regalia.tees.snp.names import PRODUCTS
from regalia.tees.snp.policy.section import GuestPolicy, Snp
from regalia.tees.tpm.policy.section import Tpm
from regalia.wire.evidence import DeviceKind, Tee

if TYPE_CHECKING:
    from collections.abc import Sequence

    from regalia.appraisal.claims import DeviceClaims

NAME = "baseline"
POLICY_ID = "regalia:baseline/v1"

Word = Literal["required", "any"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineWords:
    """What a person may add to the baseline, by name.

    Attributes:
        hardware: genuine, or simulated and nothing else.
        revocation: ``any`` leaves it out, and the result says so.
        machines: ids of chips or machines in the person's own custody, lower-case hex. Empty:
            any, but for products that are accepted by name only.
        grace_days: days that collateral may be out of date.
    """

    hardware: Literal["genuine", "dangerous_simulated"]
    revocation: Word
    machines: Sequence[str]
    grace_days: int


def baseline(words: BaselineWords) -> Platform:
    """Sections for every TEE."""
    return Platform(
        hardware=words.hardware,
        snp=_snp(words),
        tpm=_tpm(words),
        tdx=_tdx(words),
        sgx=_sgx(words),
        nitro=_nitro(words),
        azure_snp=AzureSnp(paravisor=_snp(words), vm=_AZURE_VM),
        azure_tdx=AzureTdx(paravisor=_tdx(words), vm=_AZURE_VM),
        devices=[],
        dangerous_collateral_grace_days=words.grace_days,
    )


def _tpm(words: BaselineWords) -> Tpm:
    return Tpm(
        bindings=["enrolment", "ak-certificate"],
        eks=list(words.machines) or "any",
        manufacturers="any",
        firmware_minimum="any",
        pcrs="any",
        boot=_ANY_BOOT,
        same_boot="any",
        revocation=words.revocation,
    )


def baseline_devices(platform: Platform, devices: Sequence[DeviceClaims]) -> list[Device]:
    """Entries that accept the devices at hand, as many as there are, in any state but debug.

    Whether revocation may stay unknown is what the SNP section says: the baseline has one word.
    """
    counted = Counter(
        (device.kind, device.model) for device in devices if isinstance(device, NvidiaClaims)
    )
    revocation, _ = collateral_words(platform, Tee.SEV_SNP)
    return [
        Device(
            kind="nvidia-switch" if kind is DeviceKind.NVIDIA_SWITCH else "nvidia-gpu",
            count=count,
            models=[model],
            features="any",
            driver_versions="any",
            driver_minimum="any",
            vbios_versions="any",
            identities="any",
            rim="any",
            revocation=revocation,
        )
        for (kind, model), count in counted.items()
    ]


def _nitro(words: BaselineWords) -> Nitro:
    """AWS's own procedure uses no revocation lists, so none are demanded here."""
    return Nitro(
        pcr0="any",
        pcr1="any",
        pcr2="any",
        pcr3="any",
        pcr8="any",
        pcr16="any",
        instances=list(words.machines) or "any",
        document_max_age_s=300,
        revocation="any",
    )


_ANY_BOOT = Boot(
    event_log="any",
    secure_boot="any",
    boot_images="any",
    loader_texts="any",
    loader_digests="any",
    unknown_events="allow",
)
_AZURE_VM = AzureVm(
    secure_boot="any",
    tpm="required",
    console="allow",
    vm_ids="any",
    pcrs="any",
    boot=_ANY_BOOT,
)


def _snp(words: BaselineWords) -> Snp:
    return Snp(
        products=list(PRODUCTS),
        measurements="any",
        host_data="any",
        id_blocks="any",
        vmpl=[0, 1, 2, 3],
        guest_policy=GuestPolicy(
            abi_minor_min=0,
            abi_major_min=0,
            smt="allow",
            single_socket="any",
            cxl="allow",
            mem_aes_256_xts="any",
            rapl_dis="any",
            ciphertext_hiding="any",
            page_swap_disable="any",
        ),
        platform_info_required=[],
        tcb_minimum="any",
        firmware_minimum="any",
        provisional_firmware="deny",
        mitigations_required="any",
        report_version_minimum=0,
        signing_keys=["vcek", "vlek"],
        csp_ids="any",
        chip_ids=list(words.machines) or "any",
        revocation=words.revocation,
    )


def _intel(words: BaselineWords) -> dict[str, Any]:
    """No status that says out of date: Intel itself lists what is wrong with such platforms."""
    return {
        "tcb_statuses": list(NOT_OUT_OF_DATE),
        "advisories_denied": [],
        "tcb_evaluation_data_number_minimum": 0,
        "quote_version_minimum": 0,
        "ppids": list(words.machines) or "any",
        "dynamic_platform": "allow",
        "cached_keys": "allow",
        "smt": "allow",
        "revocation": words.revocation,
    }


def _tdx(words: BaselineWords) -> Tdx:
    return Tdx(
        **_intel(words),
        mrtd="any",
        rtmrs=Rtmrs(rtmr0="any", rtmr1="any", rtmr2="any", rtmr3="any"),
        mr_config_id="any",
        mr_owner="any",
        mr_owner_config="any",
        mr_seam="any",
        mr_signer_seam="any",
        xfam="any",
        attributes=TdAttributes(
            sept_ve_disable="required",
            perfmon="allow",
            pks="allow",
            kl="allow",
            lass="allow",
            icssd="allow",
            tpa="allow",
        ),
        service_td="deny",
        event_log="any",
    )


def _sgx(words: BaselineWords) -> Sgx:
    return Sgx(
        **_intel(words),
        mrenclaves="any",
        mrsigners="any",
        isv_prod_ids="any",
        isv_svn_minimum=0,
        config_ids="any",
        config_svn_minimum=0,
        xfrm="any",
        provision_key="allow",
    )
