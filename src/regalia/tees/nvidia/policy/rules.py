"""Rules about one NVIDIA device that no word of a policy changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regalia.appraisal.finding import finding
from regalia.appraisal.policy_codes import PolicyCode
from regalia.appraisal.policy_plugin import RuleInput, judges
from regalia.tees.nvidia.claims import NvidiaClaims
from regalia.tees.nvidia.policy.fields import name_of
from regalia.tees.nvidia.policy.section import Device

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regalia.appraisal.finding import Finding

DeviceRuleInput = RuleInput[Device, NvidiaClaims]


@judges()
def debug(case: DeviceRuleInput) -> Iterator[Finding]:
    """(19) Boot firmware in debug mode. There is no word that accepts it."""
    if case.claims.debug:
        yield finding(
            PolicyCode.DEBUG_ENABLED, f"{name_of(case.claims)} runs its firmware in debug mode"
        )
