"""Are these claims acceptable under this policy? Pure: no clock, no I/O. Spec: docs/spec/policy.md.

Every rule runs and every finding is kept, so that an operator can fix all of them in one go.
Allow needs zero findings. A rule that fails in an unforeseen way raises; nothing catches it here,
so it can never end in Allow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from regalia.appraisal.finding import Finding
from regalia.core.types import PolicyId
from regalia.policy.condition_fields import client_values, release_values
from regalia.policy.conditions import unmet_conditions
from regalia.policy.context import ClientContext, ReleaseContext
from regalia.policy.documents import wildcards
from regalia.policy.rules import COMMON_RULES, RELEASE_RULES, Case, ReleaseCase
from regalia.policy.verdict import MINT, Allow, Deny, Subject, Verdict

if TYPE_CHECKING:
    from regalia.appraisal.claims import Claims
    from regalia.policy.documents import ClientPolicy, ReleasePolicy

__all__ = [
    "Allow",
    "ClientContext",
    "Deny",
    "Finding",
    "ReleaseContext",
    "Verdict",
    "evaluate_client",
    "evaluate_release",
]


def evaluate_release(policy: ReleasePolicy, claims: Claims, context: ReleaseContext) -> Verdict:
    """Decide whether the broker may release the model key.

    Args:
        policy: from ``regalia.policy.signed.load_release_policy``.
        claims: from a verifier; genuine and bound to this request.
        context: the facts of this request.

    Returns:
        Allow, or Deny with every finding in the order of the rules.
    """
    case = ReleaseCase(policy, claims, context)
    found = [each for rule in RELEASE_RULES for each in rule(case)]
    if policy.conditions:
        found += unmet_conditions(policy, release_values(claims, context))
    return _verdict(case, found)


def evaluate_client(policy: ClientPolicy, claims: Claims, context: ClientContext) -> Verdict:
    """Decide whether a client may send prompts to a runtime. As ``evaluate_release``."""
    case = Case(policy, claims, context)
    found = [each for rule in COMMON_RULES for each in rule(case)]
    if policy.conditions:
        found += unmet_conditions(policy, client_values(claims, context))
    return _verdict(case, found)


def _verdict(case: Case, found: list[Finding]) -> Verdict:
    subject = Subject(
        policy_id=PolicyId.of(case.policy.encode()),
        evidence_digest=case.claims.evidence_digest,
        model_id=case.context.model_id,
        hardware=case.claims.hardware,
    )
    open_rules = wildcards(case.policy)
    if found:
        return Deny(subject, open_rules, tuple(found), MINT)
    return Allow(subject, open_rules, MINT)
