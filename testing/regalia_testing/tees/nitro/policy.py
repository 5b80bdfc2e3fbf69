"""The policy scenario on an AWS Nitro enclave, and its defects."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from regalia.appraisal.claims import MINT, Hardware, Revocation
from regalia.appraisal.config_binding import NITRO_PCR, expected_slot
from regalia.core.types import Digest
from regalia.tees.nitro.claims import NitroClaims
from regalia.tees.nitro.policy.section import Nitro
from regalia.wire.evidence import Tee
from regalia_testing.policy_scenario import (
    PolicyScenario,
    attest,
    common_breaks,
    demand,
    other_section,
    steps,
)

if TYPE_CHECKING:
    from regalia_testing.policy_scenario import Break, Breaks

NITRO = "platform.nitro"
INSTANCE = "i-00112233445566778"


def nitro_scenario() -> PolicyScenario:
    """A healthy enclave, and a policy whose only section accepts exactly it."""
    scenario = PolicyScenario()
    slot = expected_slot(Tee.NITRO, scenario.config.encode())
    pcrs = {index: bytes(48) for index in range(16)}
    pcrs |= {index: bytes((0x10 + index,)) * 48 for index in (0, 1, 2, 3, 4, 8)}
    claims = NitroClaims(
        hardware=Hardware.GENUINE,
        revocation=Revocation.CHECKED,
        evidence_digest=Digest.of(b"evidence"),
        module_id=f"{INSTANCE}-enc0123456789abcdef",
        timestamp=1_795_255_200_000,
        age_ms=1_000,
        pcrs=pcrs | {NITRO_PCR: slot},
        public_key=None,
        user_data=None,
        report_data=b"\x55" * 64,
        mint=MINT,
    )
    section = Nitro(
        pcr0=["10" * 48, "aa" * 48],
        pcr1=["11" * 48],
        pcr2=["12" * 48],
        pcr3=["13" * 48],
        pcr8=["18" * 48],
        pcr16=[slot.hex()],
        instances=[INSTANCE],
        document_max_age_s=60,
        revocation="required",
    )
    return replace(other_section(scenario, "nitro", section), claims=claims)


def register(index: int, value: bytes | None) -> Break:
    """Another value of a register, or none: not locked."""

    def alter(scenario: PolicyScenario) -> PolicyScenario:
        pcrs = {at: old for at, old in scenario.claims.pcrs.items() if at != index}
        return scenario.attest(pcrs=pcrs if value is None else pcrs | {index: value})

    return alter


_ELSE = b"\xee" * 48

NITRO_DEFECTS: Breaks = MappingProxyType(
    {
        **common_breaks(NITRO),
        "old": ("EVIDENCE_TOO_OLD", attest(age_ms=60_001)),
        "future_by_hand": ("EVIDENCE_TOO_OLD", attest(age_ms=-1)),
        "instance": (
            "INSTANCE_NOT_ALLOWED",
            attest(module_id="i-0ffffffffffffffff-enc0123456789abcdef"),
        ),
        "workload_open": (
            "WORKLOAD_UNPINNED",
            steps(demand(f"{NITRO}.pcr0", "any"), demand(f"{NITRO}.pcr8", "any")),
        ),
        "image": ("MEASUREMENT_UNKNOWN", register(0, _ELSE)),
        "kernel": ("MEASUREMENT_UNKNOWN", register(1, _ELSE)),
        "application": ("MEASUREMENT_UNKNOWN", register(2, _ELSE)),
        "upper_case_by_hand": (
            "MEASUREMENT_UNKNOWN",
            lambda s: register(0, b"\xab" * 48)(s.demand(f"{NITRO}.pcr0", ["AB" * 48])),
        ),
        "role": ("ROLE_NOT_ALLOWED", register(3, _ELSE)),
        "no_role_listed_by_hand": (
            "ROLE_NOT_ALLOWED",
            lambda s: register(3, bytes(48))(s.demand(f"{NITRO}.pcr3", ["00" * 48])),
        ),
        "signer": ("IMAGE_SIGNER_UNKNOWN", register(8, _ELSE)),
        "unsigned_listed_by_hand": (
            "IMAGE_SIGNER_UNKNOWN",
            lambda s: register(8, bytes(48))(s.demand(f"{NITRO}.pcr8", ["00" * 48])),
        ),
        "config": ("HOST_DATA_UNKNOWN", demand(f"{NITRO}.pcr16", ["99" * 48])),
        "config_other_than_measured": (
            "CONFIG_MISMATCH",
            lambda s: register(NITRO_PCR, _ELSE)(s.demand(f"{NITRO}.pcr16", ["ee" * 48])),
        ),
        "config_not_locked": (
            "CONFIG_MISMATCH",
            lambda s: register(NITRO_PCR, None)(s.demand(f"{NITRO}.pcr16", "any")),
        ),
    }
)
