"""Defects of a release case, each with the one code that it deserves. Part of the test vectors."""

from __future__ import annotations

import math
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from msgspec import structs

from regalia.appraisal.claims import Hardware, Revocation
from regalia.tees.snp.claims import Firmware
from regalia.tees.snp.policy.section import IdBlock, TcbMinimum
from regalia_testing.policy_scenario import ID_BLOCK, ask, attest, configure, demand, steps
from regalia_testing.tees.nvidia.policy import gpu_entry

if TYPE_CHECKING:
    from regalia_testing.policy_scenario import Break, Breaks

SNP = "platform.snp"
NO_ID_BLOCK = IdBlock(
    id_key="00" * 48, author_key="any", family_id="any", image_id="any", guest_svn_minimum=0
)


def lower_tcb(name: str, **low: int) -> Break:
    """Lower components of one of the four TCBs."""
    return lambda scenario: scenario.attest(**{name: replace(scenario.claims.reported_tcb, **low)})


def clear_bit(index: int) -> Break:
    """Clear a bit of the guest POLICY."""
    return lambda scenario: scenario.attest(policy=scenario.claims.policy & ~(1 << index))


DEFECTS: Breaks = MappingProxyType(
    {
        "simulated": ("SIMULATED_HARDWARE", attest(hardware=Hardware.SIMULATED)),
        "trial_policy": (
            "HARDWARE_NOT_SIMULATED",
            demand("platform.hardware", "dangerous_simulated"),
        ),
        "debug": ("DEBUG_ENABLED", lambda s: s.attest(policy=s.claims.policy | 1 << 19)),
        "migration": ("MIGRATION_ALLOWED", lambda s: s.attest(policy=s.claims.policy | 1 << 18)),
        "no_section": ("TEE_NOT_ACCEPTED", demand(SNP, None)),
        "late": ("COLLATERAL_LATE", attest(revocation=Revocation.GRACE)),
        "bit_17": ("POLICY_BIT", lambda s: s.attest(policy=s.claims.policy & ~(1 << 17))),
        "bit_26": ("POLICY_BIT", lambda s: s.attest(policy=s.claims.policy | 1 << 26)),
        "bit_63": ("POLICY_BIT", lambda s: s.attest(policy=s.claims.policy | 1 << 63)),
        "abi_minor": ("POLICY_BIT", lambda s: s.attest(policy=s.claims.policy - 1)),
        "abi_major": ("POLICY_BIT", lambda s: s.attest(policy=s.claims.policy - 256)),
        "smt": ("POLICY_BIT", demand(f"{SNP}.guest_policy.smt", "deny")),
        "sockets": ("POLICY_BIT", lambda s: s.attest(policy=s.claims.policy & ~(1 << 20))),
        "cxl": ("POLICY_BIT", lambda s: s.attest(policy=s.claims.policy | 1 << 21)),
        "mem_aes_256_xts": ("POLICY_BIT", clear_bit(22)),
        "rapl_dis": ("POLICY_BIT", clear_bit(23)),
        "ciphertext_hiding": ("POLICY_BIT", clear_bit(24)),
        "page_swap_disable": ("POLICY_BIT", clear_bit(25)),
        "product": ("PRODUCT_DENIED", demand(f"{SNP}.products", ["Turin"])),
        "milan_any_chip": (
            "PRODUCT_DENIED",
            steps(
                attest(product="Milan"),
                demand(f"{SNP}.products", ["Milan"]),
                demand(
                    f"{SNP}.tcb_minimum",
                    {"Milan": TcbMinimum(fmc=0, bootloader=0, tee=0, snp=0, microcode=0)},
                ),
                demand(f"{SNP}.chip_ids", "any"),
            ),
        ),
        "report_version": ("REPORT_VERSION_TOO_OLD", attest(report_version=2)),
        "vcek": ("SIGNING_KEY_DENIED", demand(f"{SNP}.signing_keys", ["vlek"])),
        "csp": ("CSP_NOT_ALLOWED", attest(signing_key="vlek", csp_id="cloud-2")),
        "csp_absent": ("CSP_NOT_ALLOWED", attest(signing_key="vlek", csp_id=None)),
        "revocation": ("REVOCATION_UNKNOWN", attest(revocation=Revocation.UNKNOWN)),
        "chip": ("INSTANCE_NOT_ALLOWED", attest(chip_id=b"\x45" * 64)),
        "chip_masked": ("INSTANCE_NOT_ALLOWED", attest(chip_id=bytes(64))),
        "chip_zero_listed_by_hand": (
            "INSTANCE_NOT_ALLOWED",
            steps(attest(chip_id=bytes(64)), demand(f"{SNP}.chip_ids", ["00" * 64])),
        ),
        "tcb_no_minimum": ("TCB_NO_MINIMUM", attest(product="Turin")),
        "tcb_empty": ("TCB_NO_MINIMUM", demand(f"{SNP}.tcb_minimum", {})),
        "tcb_reported": ("TCB_BELOW_MINIMUM", lower_tcb("reported_tcb", snp=20)),
        "tcb_launch": ("TCB_BELOW_MINIMUM", lower_tcb("launch_tcb", microcode=71)),
        "firmware": (
            "FIRMWARE_BELOW_MINIMUM",
            steps(
                demand(f"{SNP}.firmware_minimum.build", 41),
                attest(
                    current_firmware=Firmware(1, 55, 41), committed_firmware=Firmware(1, 55, 40)
                ),
                demand(f"{SNP}.provisional_firmware", "allow"),
            ),
        ),
        "provisional_tcb": ("TCB_PROVISIONAL", lower_tcb("current_tcb", microcode=206)),
        "provisional_firmware": ("TCB_PROVISIONAL", attest(current_firmware=Firmware(1, 58, 1))),
        "mitigation_launch": ("MITIGATION_MISSING", attest(launch_mit_vector=0b011)),
        "mitigation_current": ("MITIGATION_MISSING", attest(current_mit_vector=0b100)),
        "alias_check": ("PLATFORM_FLAG_MISSING", attest(platform_info=0b101)),
        "unknown_flag_by_hand": (
            "PLATFORM_FLAG_MISSING",
            demand(f"{SNP}.platform_info_required", ["NO_SUCH_BIT"]),
        ),
        "vmpl": ("VMPL_MISMATCH", attest(vmpl=1)),
        "measurement": ("MEASUREMENT_UNKNOWN", attest(measurement=b"\x13" * 48)),
        "measurement_upper_case_by_hand": (
            "MEASUREMENT_UNKNOWN",
            steps(attest(measurement=b"\xab" * 48), demand(f"{SNP}.measurements", ["AB" * 48])),
        ),
        "id_key": ("ID_KEY_UNKNOWN", attest(id_key_digest=b"\x23" * 48)),
        "author_key": ("ID_BLOCK_DENIED", attest(author_key_digest=b"\x24" * 48)),
        "author_key_absent": ("ID_BLOCK_DENIED", attest(author_key_digest=bytes(48))),
        "family_id": ("ID_BLOCK_DENIED", attest(family_id=b"\x78" * 16)),
        "image_id": ("ID_BLOCK_DENIED", attest(image_id=bytes(16))),
        "guest_svn": (
            "ID_BLOCK_DENIED",
            demand(f"{SNP}.id_blocks", [structs.replace(ID_BLOCK, guest_svn_minimum=4)]),
        ),
        "id_blocks_mixed": (
            "ID_BLOCK_DENIED",
            demand(
                f"{SNP}.id_blocks",
                [
                    structs.replace(ID_BLOCK, family_id="00" * 16),
                    structs.replace(ID_BLOCK, image_id="00" * 16),
                ],
            ),
        ),
        "workload_open": (
            "WORKLOAD_UNPINNED",
            steps(demand(f"{SNP}.measurements", "any"), demand(f"{SNP}.id_blocks", "any")),
        ),
        "workload_no_id_block": (
            "WORKLOAD_UNPINNED",
            steps(
                attest(
                    id_key_digest=bytes(48),
                    author_key_digest=bytes(48),
                    family_id=bytes(16),
                    image_id=bytes(16),
                ),
                demand(f"{SNP}.measurements", "any"),
                demand(f"{SNP}.id_blocks", [NO_ID_BLOCK]),
            ),
        ),
        "host_data": ("HOST_DATA_UNKNOWN", demand(f"{SNP}.host_data", ["99" * 32])),
        "devices": ("DEVICE_SET_MISMATCH", demand("platform.devices", [gpu_entry()])),
        "config_other_than_measured": (
            "CONFIG_MISMATCH",
            lambda s: replace(s, config=s.configure("egress", []).config),
        ),
        "asked_for_other_model": (
            "MODEL_MISMATCH",
            lambda s: s.ask(model_id=type(s.model_id)(bytes(32))),
        ),
        "configured_for_other_model": (
            "MODEL_MISMATCH",
            configure("model_id", "model:" + "00" * 32),
        ),
        "older_model": ("MODEL_VERSION_TOO_OLD", ask(model_version=6)),
        "other_owner": ("OWNER_KEY_MISMATCH", configure("owner_key", "key:" + "00" * 32)),
        "other_log": ("LOG_KEY_MISMATCH", configure("log_key", "evil+00000000+AQID")),
        "egress": ("EGRESS_DENIED", configure("egress", ["store.example:443", "evil.example:443"])),
        "egress_none_accepted": ("EGRESS_DENIED", demand("runtime.egress", [])),
        "egress_endless": (
            "EGRESS_DENIED",
            steps(
                configure("egress", [f"h:{n}" for n in range(257)]), demand("runtime.egress", "any")
            ),
        ),
        "surface": ("SURFACE_DENIED", configure("opens", ["logprobs"])),
        "surface_none_accepted": (
            "SURFACE_DENIED",
            steps(configure("opens", ["logprobs"]), demand("runtime.opens", [])),
        ),
        "surface_beside_an_accepted_one": (
            "SURFACE_DENIED",
            steps(
                configure("opens", ["logit-bias", "logprobs"]),
                demand("runtime.opens", ["logprobs", "tokenize"]),
            ),
        ),
        "adapter": ("ADAPTER_DENIED", configure("adapter", f"model:{'ad' * 32}")),
        "adapter_none_accepted": (
            "ADAPTER_DENIED",
            steps(
                configure("adapter", f"model:{'ad' * 32}"),
                demand("runtime.adapters", []),
            ),
        ),
        "adapter_beside_the_accepted_one": (
            "ADAPTER_DENIED",
            steps(
                configure("adapter", f"model:{'ad' * 32}"),
                demand("runtime.adapters", [f"model:{'ae' * 32}"]),
            ),
        ),
        "region": ("PLACEMENT_DENIED", configure("placement.region", "us-east")),
        "site": ("PLACEMENT_DENIED", configure("placement.site", "hall-2")),
        "tier": ("PLACEMENT_DENIED", configure("placement.tier", "reseller")),
        "stale": ("EVIDENCE_TOO_OLD", ask(age_s=60.5)),
        "from_the_future": ("EVIDENCE_TOO_OLD", ask(age_s=-0.5)),
        "age_not_a_number": ("EVIDENCE_TOO_OLD", ask(age_s=math.nan)),
        "age_infinite": ("EVIDENCE_TOO_OLD", ask(age_s=math.inf)),
        "holders": ("HOLDERS_EXHAUSTED", ask(holders=3)),
        "custody": ("CUSTODY_DENIED", demand("custody", ["hsm"])),
        "custody_unknown": ("CUSTODY_DENIED", ask(custody="")),
        "approvals": ("APPROVALS_MISSING", ask(approvals=frozenset(["key:" + "01" * 32]))),
        "approvals_by_strangers": (
            "APPROVALS_MISSING",
            ask(approvals=frozenset("key:" + f"{n:02x}" * 32 for n in range(8, 16))),
        ),
        "condition_false": ("CONDITION_FALSE", demand("conditions", ["claims.guest_svn > 3"])),
        "condition_error": ("CONDITION_ERROR", demand("conditions", ["claims.nothing == 1"])),
    }
)
