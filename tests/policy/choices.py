"""What an owner chooses when a policy is pinned, with something in every place."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from regalia.core.types import KeyFingerprint
from regalia.policy.pin import OwnerChoices

if TYPE_CHECKING:
    from regalia_testing.policy_scenario import PolicyScenario


def owner_choices(scenario: PolicyScenario, **changes: Any) -> OwnerChoices:  # noqa: ANN401 - any choice
    """Choices that fit the scenario's model and configuration."""
    made = OwnerChoices(
        name="pinned",
        version=1,
        model_id=scenario.model_id,
        model_version_minimum=7,
        owner_key=KeyFingerprint.parse(scenario.config.owner_key),
        challenge_max_age_s=60,
        holders_max=1,
        lease_s=900,
        custody=("broker",),
        approvals_threshold=0,
        approvers=(),
        pin_chip=True,
        pin_host_data=True,
    )
    return replace(made, **changes)
