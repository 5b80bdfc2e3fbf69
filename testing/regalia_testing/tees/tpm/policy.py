"""A TPM in the policy scenario: known-good claims, and the section that accepts exactly them."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from regalia.appraisal.claims import MINT, Hardware, Revocation
from regalia.appraisal.config_binding import TPM_PCR, expected_slot
from regalia.core.types import Digest
from regalia.tees.boot.claims import BootFacts
from regalia.tees.boot.policy.section import Boot
from regalia.tees.tpm.claims import AkBinding, TpmClaims
from regalia.tees.tpm.policy.section import Tpm
from regalia.wire.evidence import Tee
from regalia_testing.policy_scenario import attest, demand, other_section, steps

if TYPE_CHECKING:
    from regalia_testing.policy_scenario import Break, Breaks, PolicyScenario

TPM = "platform.tpm"
MAKER = "id:58595A00"
KERNEL = bytes([4]) * 32
COMMAND_LINE = "/vmlinuz quiet"
INITRD = b"\x99" * 32
FACTS = BootFacts(
    secure_boot=True,
    deployed_mode=None,
    audit_mode=None,
    firmware_debugger=False,
    firmware_error=False,
    pk=b"\x01" * 32,
    kek=b"\x02" * 32,
    db=b"\x03" * 32,
    dbx=b"\x04" * 32,
    authorities=(b"\x05" * 32,),
    boot_images=(KERNEL,),
    option_roms=(),
    loader_texts=(COMMAND_LINE,),
    loader_digests=(INITRD,),
    kernel_command_lines=(COMMAND_LINE,),
    loader_commands=(),
    load_options=(),
    initrds=(INITRD,),
    uki_sections=(),
    runtime_events=(),
    runtime_digests=(),
    exit_boot_services=True,
    unknown_events=0,
)


def tpm_claims(config: bytes) -> TpmClaims:
    """As a verifier makes them."""
    pcrs = {index: bytes([index]) * 32 for index in range(24)}
    pcrs[TPM_PCR] = expected_slot(Tee.TPM, config)
    return TpmClaims(
        hardware=Hardware.GENUINE,
        revocation=Revocation.CHECKED,
        evidence_digest=Digest.of(b"evidence"),
        binding=AkBinding.ENROLMENT,
        ak_name=b"\x00\x0b" + b"\x66" * 32,
        ek=b"\x44" * 32,
        manufacturer=MAKER,
        model="XYZ 9000",
        version="id:00070002",
        extra_data=b"\x55" * 32,
        firmware_version=0x0007_0002_0000_0000,
        clock=1,
        reset_count=7,
        restart_count=0,
        safe=True,
        enrolled_reset_count=7,
        bank="sha256",
        pcrs=pcrs,
        boot=FACTS,
        mint=MINT,
    )


def tpm_section() -> Tpm:
    """What those claims meet, with every rule closed."""
    return Tpm(
        bindings=["enrolment"],
        eks=["44" * 32],
        manufacturers=[MAKER],
        firmware_minimum={MAKER: "0007000100000000"},
        pcrs={"4": ["04" * 32, "ff" * 32], "11": ["0b" * 32]},
        boot=Boot(
            event_log="required",
            secure_boot="required",
            boot_images=[KERNEL.hex()],
            loader_texts=[COMMAND_LINE],
            loader_digests=[INITRD.hex()],
            unknown_events="deny",
        ),
        same_boot="required",
        revocation="required",
    )


def tpm_scenario(scenario: PolicyScenario) -> PolicyScenario:
    """The same release, asked for by a machine with a TPM."""
    only = other_section(scenario, "tpm", tpm_section())
    demanding = only.demand("conditions", ["claims.tpm.reset_count >= 7"])
    return replace(demanding, claims=tpm_claims(scenario.config.encode()))


def boot(**facts: object) -> Break:
    """Change what the event log shows."""
    return lambda scenario: scenario.attest(boot=replace(FACTS, **facts))  # type: ignore[arg-type]  # names of fields


TPM_DEFECTS: Breaks = MappingProxyType(
    {
        "simulated": ("SIMULATED_HARDWARE", attest(hardware=Hardware.SIMULATED)),
        "no_section": ("TEE_NOT_ACCEPTED", demand(TPM, None)),
        "late": ("COLLATERAL_LATE", attest(revocation=Revocation.GRACE)),
        "binding": ("AK_BINDING_DENIED", attest(binding=AkBinding.AK_CERTIFICATE)),
        "unrevoked": ("REVOCATION_UNKNOWN", attest(revocation=Revocation.UNKNOWN)),
        "machine": ("INSTANCE_NOT_ALLOWED", attest(ek=b"\x45" * 32)),
        "maker": (
            "PRODUCT_DENIED",
            steps(attest(manufacturer="id:0"), demand(f"{TPM}.firmware_minimum", "any")),
        ),
        "no_minimum": ("TCB_NO_MINIMUM", demand(f"{TPM}.firmware_minimum", {})),
        "firmware": ("FIRMWARE_BELOW_MINIMUM", attest(firmware_version=7 << 48)),
        "rebooted": ("REBOOTED_SINCE_ENROLMENT", attest(reset_count=8)),
        "enrolment_unknown": ("REBOOTED_SINCE_ENROLMENT", attest(enrolled_reset_count=None)),
        "unpinned": (
            "WORKLOAD_UNPINNED",
            steps(
                demand(f"{TPM}.pcrs", {"0": ["00" * 32]}), demand(f"{TPM}.boot.boot_images", "any")
            ),
        ),
        "register": ("PCR_UNKNOWN", lambda s: s.attest(pcrs={**s.claims.pcrs, 11: b"\x0c" * 32})),
        "no_log": ("EVENT_LOG_INSUFFICIENT", attest(boot=None)),
        "insecure": ("SECURE_BOOT_OFF", boot(secure_boot=False)),
        "secure_boot_unknown": ("SECURE_BOOT_OFF", boot(secure_boot=None)),
        "debugger": ("BOOT_DENIED", boot(firmware_debugger=True)),
        "firmware_error": ("BOOT_DENIED", boot(firmware_error=True)),
        "nothing_started": ("BOOT_DENIED", boot(boot_images=None)),
        "nothing_loaded": ("BOOT_DENIED", boot(loader_texts=(), loader_digests=())),
        "unknown_event": ("EVENT_LOG_INSUFFICIENT", boot(unknown_events=1)),
        "image": ("BOOT_STEP_UNKNOWN", boot(boot_images=(KERNEL, b"\x05" * 32))),
        "text": ("BOOT_STEP_UNKNOWN", boot(loader_texts=(COMMAND_LINE, "init=/bin/sh"))),
        "file": ("BOOT_STEP_UNKNOWN", boot(loader_digests=(INITRD, b"\x98" * 32))),
    }
)
