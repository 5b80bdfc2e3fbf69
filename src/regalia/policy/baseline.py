"""The built-in policy ``baseline``: what every owner demands of any TEE, and nothing else.

No debug mode, no migration, no provisional firmware, revocation known, genuine hardware. Whose
workload runs is not judged: an owner's policy says that. It is for looking at evidence before a
policy exists, never for a release.
"""

from __future__ import annotations

import hashlib

from regalia.appraisal.policy_field import BaselineWords
from regalia.appraisal.policy_plugin import IDENTIFYING
from regalia.core.codec import canonical_json
from regalia.policy.documents import Platform
from regalia.policy.registry import DEVICE_PLUGINS, POLICY_PLUGINS

__all__ = ["NAME", "BaselineWords", "baseline", "baseline_id"]

NAME = "baseline"
_ID = "regalia:baseline/v1"


def baseline(words: BaselineWords) -> Platform:
    """Sections for every TEE."""
    return Platform(
        hardware=words.hardware,
        devices=[],
        dangerous_collateral_grace_days=words.grace_days,
        **{plugin.name: plugin.baseline(words) for plugin in POLICY_PLUGINS},
    )


def baseline_id(words: BaselineWords) -> str:
    """The name of exactly this baseline, for results: it changes with every rule and every word.

    The entries for devices are in it without what they take from the devices at hand.
    """
    devices = {
        str(kind): {
            each.name: each.baseline(words)
            for each in plugin.fields
            if each.name not in IDENTIFYING
        }
        for plugin in DEVICE_PLUGINS
        for kind in plugin.kinds
    }
    content = canonical_json({"platform": baseline(words), "devices": devices})
    return f"{_ID}:{hashlib.sha256(content).hexdigest()}"
