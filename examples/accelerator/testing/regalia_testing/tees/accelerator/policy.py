"""The policy scenario on an example accelerator, and its defects."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from regalia.appraisal.claims import MINT, Hardware, Revocation
from regalia.core.types import Digest
from regalia.tees.accelerator.claims import AcceleratorClaims
from regalia.tees.accelerator.names import CONFIG_BINDING
from regalia.tees.accelerator.policy.section import Accelerator
from regalia_testing.policy_scenario import (
    PolicyScenario,
    attest,
    common_breaks,
    demand,
    other_section,
    steps,
)

if TYPE_CHECKING:
    from regalia_testing.policy_scenario import Breaks

ACCELERATOR = "platform.accelerator"


def accelerator_scenario() -> PolicyScenario:
    """A healthy chip, and a policy whose only section accepts exactly it."""
    scenario = PolicyScenario()
    config = CONFIG_BINDING.expected(scenario.config.encode())
    claims = AcceleratorClaims(
        hardware=Hardware.GENUINE,
        revocation=Revocation.CHECKED,
        evidence_digest=Digest.of(b"evidence"),
        chip_id=b"\x44" * 32,
        firmware=7,
        debug=False,
        measurement=b"\x11" * 48,
        config=config,
        report_data=b"\x55" * 64,
        mint=MINT,
    )
    section = Accelerator(
        measurements=["11" * 48],
        configs=[config.hex()],
        firmware_minimum=7,
        chip_ids=["44" * 32],
        revocation="required",
    )
    return replace(other_section(scenario, "accelerator", section), claims=claims)


ACCELERATOR_DEFECTS: Breaks = MappingProxyType(
    {
        **common_breaks(ACCELERATOR),
        "debug": ("DEBUG_ENABLED", attest(debug=True)),
        "program": ("MEASUREMENT_UNKNOWN", attest(measurement=b"\xee" * 48)),
        "open": ("WORKLOAD_UNPINNED", demand(f"{ACCELERATOR}.measurements", "any")),
        "firmware": ("FIRMWARE_BELOW_MINIMUM", attest(firmware=6)),
        "chip": ("INSTANCE_NOT_ALLOWED", attest(chip_id=b"\x45" * 32)),
        "config": ("HOST_DATA_UNKNOWN", demand(f"{ACCELERATOR}.configs", ["99" * 48])),
        "config_other_than_measured": (
            "CONFIG_MISMATCH",
            steps(attest(config=b"\xee" * 48), demand(f"{ACCELERATOR}.configs", ["ee" * 48])),
        ),
    }
)
