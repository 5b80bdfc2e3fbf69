"""Well-formedness of policy documents beyond types and ranges. Spec: docs/spec/policy.md.

Every refusal names the field by its path. A list of accepted values may be empty: such a
policy is well-formed, says nothing is accepted, and denies everything.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from regalia.appraisal.policy_words import WORD_MAX, bad, each, typed, word
from regalia.core.errors import ParseError
from regalia.core.types import KeyFingerprint, ModelId
from regalia.policy.device_set import check_devices
from regalia.policy.registry import POLICY_PLUGINS

if TYPE_CHECKING:
    from regalia.policy.documents import (
        Approvals,
        ClientPolicy,
        PlacementRule,
        Platform,
        ReleasePolicy,
        RuntimeRule,
    )

CONDITIONS_MAX = 32
EXPRESSION_MAX = 1024  # characters

_LOG_KEY = re.compile(r"[\x21-\x2a\x2c-\x7e]+\+[0-9a-f]{8}\+[A-Za-z0-9+/]+={0,2}")
_HOST_PORT = re.compile(r"(?:[A-Za-z0-9.-]+|\[[0-9a-f:.]+\]):([0-9]{1,5})")
_PORT_MAX = 65535


def check_release(policy: ReleasePolicy) -> None:
    """Raise ParseError MALFORMED at the first rule that a release policy breaks."""
    _check_common(policy)
    each(policy.custody, "custody", typed)
    _check_approvals(policy.approvals)


def check_client(policy: ClientPolicy) -> None:
    """Raise ParseError MALFORMED at the first rule that a client policy breaks."""
    _check_common(policy)


def _check_common(policy: ReleasePolicy | ClientPolicy) -> None:
    word(policy.name, "name")
    _model_id(policy.model.id, "model.id")
    check_platform(policy.platform)
    _check_placement(policy.placement)
    _check_runtime(policy.runtime)
    if len(policy.conditions) > CONDITIONS_MAX:
        raise bad("conditions", f"{len(policy.conditions)} entries, at most {CONDITIONS_MAX}")
    each(policy.conditions, "conditions", _expression)


def check_platform(platform: Platform) -> None:
    """Raise ParseError MALFORMED at the first rule that the platform section breaks."""
    check_devices(platform.devices)
    for plugin in POLICY_PLUGINS:
        section = getattr(platform, plugin.name)
        if section is not None:
            plugin.check(section, plugin.path)


def _check_placement(rule: PlacementRule) -> None:
    each(rule.regions, "placement.regions", word)
    each(rule.sites, "placement.sites", word)
    each(rule.tiers, "placement.tiers", word)


def _check_runtime(rule: RuntimeRule) -> None:
    if rule.owner_key != "any":
        _fingerprint(rule.owner_key, "runtime.owner_key")
    if rule.log_key != "any" and _LOG_KEY.fullmatch(rule.log_key) is None:
        raise bad("runtime.log_key", "want a signed-note key, <origin>+<8 hex>+<base64>")
    each(rule.egress, "runtime.egress", _host_port)


def _check_approvals(approvals: Approvals) -> None:
    each(approvals.approvers, "approvals.approvers", _fingerprint)
    if approvals.threshold > len(approvals.approvers):
        raise bad(
            "approvals.threshold",
            f"{approvals.threshold} of {len(approvals.approvers)} approvers can never be reached",
        )


def _expression(value: str, path: str) -> None:
    if not 0 < len(value) <= EXPRESSION_MAX:
        raise bad(path, f"want 1 to {EXPRESSION_MAX} characters, got {len(value)}")


def _model_id(value: str, path: str) -> None:
    try:
        ModelId.parse(value)
    except ParseError as exc:
        raise bad(path, exc.what) from exc


def _fingerprint(value: str, path: str) -> None:
    try:
        KeyFingerprint.parse(value)
    except ParseError as exc:
        raise bad(path, exc.what) from exc


def _host_port(value: str, path: str) -> None:
    match = _HOST_PORT.fullmatch(value)
    if match is None or not 0 < int(match[1]) <= _PORT_MAX:
        raise bad(path, f"want host:port, got {value[:WORD_MAX]!r}")
