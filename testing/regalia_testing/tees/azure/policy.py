"""The policy scenario on an Azure VM above SEV-SNP, and its defects."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from regalia.appraisal.claims import MINT, Hardware, Revocation
from regalia.appraisal.config_binding import TPM_PCR, expected_slot
from regalia.appraisal.policy_field import PinChoices
from regalia.core.types import Digest, KeyFingerprint
from regalia.tees.azure.claims import AzureSnpClaims, AzureTdxClaims, AzureVm, AzureVtpm
from regalia.tees.azure.policy.plugin import AZURE_TDX as AZURE_TDX_PLUGIN
from regalia.tees.azure.policy.section import AzureSnp
from regalia.tees.azure.policy.section import AzureVm as VmRule
from regalia.tees.boot.policy.section import Boot
from regalia.tees.intel.claims import TdxClaims
from regalia.tees.intel.names import SgxType, TcbStatus, TdAttributeBit
from regalia.wire.evidence import Tee
from regalia_testing.policy_scenario import (
    NOW,
    PolicyScenario,
    changed,
    demand,
    other_section,
    snp_section,
    steps,
)
from regalia_testing.tees.tpm.policy import COMMAND_LINE, FACTS, INITRD, KERNEL

if TYPE_CHECKING:
    from regalia_testing.policy_scenario import Break, Breaks

AZURE_SNP = "platform.azure_snp"
AZURE_TDX = "platform.azure_tdx"
_TD_REGISTERS = (
    "mr_seam",
    "mr_signer_seam",
    "mr_td",
    "mr_config_id",
    "mr_owner",
    "mr_owner_config",
    "rtmr0",
    "rtmr1",
    "rtmr2",
    "rtmr3",
)
VM_ID = "26F8BC30-774E-4290-8E7A-535F3B672AEE"


def azure_snp_scenario() -> PolicyScenario:
    """A healthy VM, and a policy whose only section accepts exactly it."""
    scenario = PolicyScenario()
    slot = expected_slot(Tee.AZURE_SNP, scenario.config.encode())
    pcrs = {index: bytes((index,)) * 32 for index in range(24)} | {TPM_PCR: slot}
    claims = AzureSnpClaims(
        evidence_digest=Digest.of(b"evidence"),
        vm=AzureVm(
            secure_boot=True,
            console_enabled=False,
            tpm_enabled=True,
            tpm_persisted=None,
            root_cert_thumbprint="",
            vm_unique_id=VM_ID,
            user_data=bytes(64),
        ),
        vtpm=AzureVtpm(
            ak=KeyFingerprint(b"\x0c" * 32),
            extra_data=b"\x66" * 32,
            pcrs=pcrs,
            clock=1,
            reset_count=2,
            restart_count=0,
            safe=True,
            firmware_version=1,
            boot=FACTS,
        ),
        snp=scenario.claims,
        mint=MINT,
    )
    section = AzureSnp(
        paravisor=snp_section(scenario.config),
        vm=VmRule(
            secure_boot="required",
            tpm="required",
            console="deny",
            vm_ids=[VM_ID],
            pcrs={"15": [slot.hex()], "4": ["04" * 32, "aa" * 32], "7": ["07" * 32]},
            boot=Boot(
                event_log="required",
                secure_boot="required",
                boot_images=[KERNEL.hex()],
                loader_texts=[COMMAND_LINE],
                loader_digests=[INITRD.hex()],
                unknown_events="deny",
            ),
        ),
    )
    return replace(other_section(scenario, "azure_snp", section), claims=claims)


def azure_tdx_scenario() -> PolicyScenario:
    """The same VM above a paravisor in a TD; the section is pinned from it."""
    scenario = azure_snp_scenario()
    registers: dict[str, Any] = dict.fromkeys(_TD_REGISTERS, bytes(48))
    registers["mr_td"] = b"\x1d" * 48
    tdx = TdxClaims(
        hardware=Hardware.GENUINE,
        revocation=Revocation.CHECKED,
        evidence_digest=Digest.of(b"quote"),
        quote_version=4,
        report_data=b"\x77" * 64,
        tcb_status=TcbStatus.UP_TO_DATE,
        current_tcb_status=TcbStatus.UP_TO_DATE,
        qe_status=TcbStatus.UP_TO_DATE,
        qe_isv_svn=8,
        advisory_ids=(),
        tcb_date="2026-01-01T00:00:00Z",
        tcb_evaluation_data_number=20,
        collateral_issued=NOW,
        collateral_next_update=NOW,
        fmspc=bytes(6),
        pce_id=bytes(2),
        cpu_svn=bytes(16),
        pce_svn=11,
        ppid=b"\x99" * 16,
        sgx_type=SgxType.SCALABLE,
        platform_instance_id=None,
        dynamic_platform=False,
        cached_keys=False,
        smt=False,
        tee_tcb_svn=bytes(16),
        tee_tcb_svn_2=None,
        module_status=None,
        seam_attributes=bytes(8),
        td_attributes=1 << TdAttributeBit.SEPT_VE_DISABLE,
        xfam=3,
        mr_service_td=None,
        td_id=None,
        event_log=None,
        mint=MINT,
        **registers,
    )
    claims = AzureTdxClaims(
        evidence_digest=Digest.of(b"evidence"),
        vm=scenario.claims.vm,
        vtpm=scenario.claims.vtpm,
        tdx=tdx,
        mint=MINT,
    )
    section = AZURE_TDX_PLUGIN.pin(claims, PinChoices(machine=True, config=True))
    platform = changed(scenario.policy.platform, "azure_snp", None)
    policy = changed(scenario.policy, "platform", changed(platform, "azure_tdx", section))
    return replace(scenario, claims=claims, policy=policy)


def td_below(**fields: Any) -> Break:  # noqa: ANN401 - any claim
    """Change claims of the paravisor's TD."""
    return lambda scenario: scenario.attest(tdx=replace(scenario.claims.tdx, mint=MINT, **fields))


def below(**fields: Any) -> Break:  # noqa: ANN401 - any claim
    """Change claims of the paravisor's platform."""
    return lambda scenario: scenario.attest(snp=replace(scenario.claims.snp, mint=MINT, **fields))


def vm(**fields: Any) -> Break:  # noqa: ANN401 - any claim
    """Change claims of the VM."""
    return lambda scenario: scenario.attest(vm=replace(scenario.claims.vm, **fields))


def boot(**fields: Any) -> Break:  # noqa: ANN401 - any fact
    """Change what the event log shows."""
    return lambda scenario: scenario.attest(
        vtpm=replace(scenario.claims.vtpm, boot=replace(FACTS, **fields))
    )


def no_log(scenario: PolicyScenario) -> PolicyScenario:
    """No event log came along."""
    return scenario.attest(vtpm=replace(scenario.claims.vtpm, boot=None))


def register(index: int, value: bytes) -> Break:
    """Another value of a register."""

    def alter(scenario: PolicyScenario) -> PolicyScenario:
        pcrs = {**scenario.claims.vtpm.pcrs, index: value}
        return scenario.attest(vtpm=replace(scenario.claims.vtpm, pcrs=pcrs))

    return alter


_ELSE = b"\xee" * 32
_PARAVISOR, _VM = f"{AZURE_SNP}.paravisor", f"{AZURE_SNP}.vm"

AZURE_TDX_DEFECTS: Breaks = MappingProxyType(
    {
        "debug": ("DEBUG_ENABLED", td_below(td_attributes=1 << 28 | 1)),
        "migration": ("MIGRATION_ALLOWED", td_below(td_attributes=1 << 28 | 1 << 29)),
        "sept_ve_disable": ("POLICY_BIT", td_below(td_attributes=0)),
        "no_section": ("TEE_NOT_ACCEPTED", demand(AZURE_TDX, None)),
        "paravisor": ("MEASUREMENT_UNKNOWN", td_below(mr_td=b"\xee" * 48)),
        "out_of_date": ("TCB_OUT_OF_DATE", td_below(tcb_status=TcbStatus.OUT_OF_DATE)),
        "machine": ("INSTANCE_NOT_ALLOWED", td_below(ppid=bytes(16))),
        "config_id": ("HOST_DATA_UNKNOWN", td_below(mr_config_id=b"\xee" * 48)),
        "console": ("VM_CONFIGURATION_DENIED", vm(console_enabled=True)),
        "loader": ("PCR_UNKNOWN", register(4, _ELSE)),
        "other_vm": ("INSTANCE_NOT_ALLOWED", vm(vm_unique_id="another")),
    }
)
AZURE_DEFECTS: Breaks = MappingProxyType(
    {
        "simulated": ("SIMULATED_HARDWARE", below(hardware=Hardware.SIMULATED)),
        "debug": ("DEBUG_ENABLED", lambda s: below(policy=s.claims.snp.policy | 1 << 19)(s)),
        "migration": (
            "MIGRATION_ALLOWED",
            lambda s: below(policy=s.claims.snp.policy | 1 << 18)(s),
        ),
        "no_section": ("TEE_NOT_ACCEPTED", demand(AZURE_SNP, None)),
        "late": ("COLLATERAL_LATE", below(revocation=Revocation.GRACE)),
        "revocation": ("REVOCATION_UNKNOWN", below(revocation=Revocation.UNKNOWN)),
        "paravisor": ("MEASUREMENT_UNKNOWN", below(measurement=b"\x13" * 48)),
        "vmpl": ("VMPL_MISMATCH", below(vmpl=1)),
        "chip": ("INSTANCE_NOT_ALLOWED", below(chip_id=b"\x45" * 64)),
        "secure_boot": ("VM_CONFIGURATION_DENIED", vm(secure_boot=False)),
        "vtpm_off": ("VM_CONFIGURATION_DENIED", vm(tpm_enabled=False)),
        "console": ("VM_CONFIGURATION_DENIED", vm(console_enabled=True)),
        "other_vm": ("INSTANCE_NOT_ALLOWED", vm(vm_unique_id="another")),
        "loader": ("PCR_UNKNOWN", register(4, _ELSE)),
        "secure_boot_state": ("PCR_UNKNOWN", register(7, _ELSE)),
        "register_by_hand": (
            "PCR_UNKNOWN",
            demand(f"{_VM}.pcrs", {"4": ["04" * 32], "x": ["00" * 32]}),
        ),
        "registers_open": (
            "WORKLOAD_UNPINNED",
            steps(demand(f"{_VM}.pcrs", "any"), demand(f"{_VM}.boot.boot_images", "any")),
        ),
        "no_log": ("EVENT_LOG_INSUFFICIENT", no_log),
        "insecure_by_the_log": ("SECURE_BOOT_OFF", boot(secure_boot=False)),
        "other_kernel": ("BOOT_STEP_UNKNOWN", boot(boot_images=(KERNEL, b"\xee" * 32))),
        "other_command_line": ("BOOT_STEP_UNKNOWN", boot(loader_texts=("init=/bin/sh",))),
        "firmware_debugger": ("BOOT_DENIED", boot(firmware_debugger=True)),
        "no_workload_register": (
            "WORKLOAD_UNPINNED",
            steps(
                demand(f"{_VM}.pcrs", {"7": ["07" * 32]}), demand(f"{_VM}.boot.boot_images", "any")
            ),
        ),
        "config_other_than_measured": (
            "CONFIG_MISMATCH",
            lambda s: register(TPM_PCR, _ELSE)(
                s.demand(f"{_VM}.pcrs", {"4": ["04" * 32], "15": ["ee" * 32]})
            ),
        ),
    }
)
