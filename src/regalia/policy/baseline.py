"""The built-in policy ``baseline``: what every owner demands of any TEE, and nothing else.

No debug mode, no migration, no provisional firmware, revocation known, genuine hardware. Whose
workload runs is not judged: an owner's policy says that. It is for looking at evidence before a
policy exists, never for a release.
"""

from __future__ import annotations

from regalia.appraisal.policy_field import BaselineWords
from regalia.policy.documents import Platform
from regalia.policy.registry import POLICY_PLUGINS

__all__ = ["NAME", "POLICY_ID", "BaselineWords", "baseline"]

NAME = "baseline"
POLICY_ID = "regalia:baseline/v1"


def baseline(words: BaselineWords) -> Platform:
    """Sections for every TEE."""
    return Platform(
        hardware=words.hardware,
        devices=[],
        dangerous_collateral_grace_days=words.grace_days,
        **{plugin.name: plugin.baseline(words) for plugin in POLICY_PLUGINS},
    )
