"""Somebody who verifies, and whose policy was pinned on a healthy platform: what attacks must pass.

Each attack changes one thing of the platform or of its evidence; ``Defender.codes`` is the answer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from regalia.appraisal.collateral_rule import NO_GRACE, CollateralRule, RevocationRule
from regalia.core.errors import RegaliaError
from regalia.policy.context import ClientContext
from regalia.policy.evaluate import evaluate_client
from regalia.policy.pin import OwnerChoices, pin_client
from regalia.policy.verdict import Deny
from regalia_testing.policy_scenario import MODEL, OWNER, PolicyScenario, changed

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from _typeshed import DataclassInstance

    from regalia.appraisal.claims import Claims
    from regalia.policy.documents import ClientPolicy
    from regalia.verifier.verifier import Verifier
    from regalia.wire.evidence import Evidence

    Make = Callable[..., Evidence]  # from the fields of the platform's defects

CONFIG = PolicyScenario().config
RUNTIME_CONFIG = CONFIG.encode()
REPORT_DATA = bytes(range(1, 65))
MEASUREMENT = b"\x3d" * 48
REQUIRED = CollateralRule(RevocationRule.REQUIRED, NO_GRACE)
NO_LISTS = CollateralRule(RevocationRule.ANY, NO_GRACE)
CHOICES = OwnerChoices(
    name="the healthy platform",
    version=1,
    model_id=MODEL,
    model_version_minimum=7,
    owner_key=OWNER,
    challenge_max_age_s=60,
    holders_max=1,
    lease_s=60,
    custody=("broker",),
    approvals_threshold=0,
    approvers=(),
    pin_chip=False,
    pin_host_data=False,
)


@dataclass(frozen=True, slots=True)
class RelyingParty:
    """A verifier and a policy.

    Attributes:
        make: evidence of the platform, healthy but for the defects that are given.
        policy: pinned on the healthy platform; ``but`` changes a word of it.
    """

    make: Make
    verifier: Verifier
    now: datetime
    policy: ClientPolicy
    rule: CollateralRule = REQUIRED

    def but(self, path: str, value: Any) -> RelyingParty:  # noqa: ANN401 - any field
        """With another word at a dotted path of the policy."""
        return replace(self, policy=changed(self.policy, path, value))

    def claims(self, evidence: Evidence, report_data: bytes = REPORT_DATA) -> Claims:
        """What the verifier says. Raises RegaliaError."""
        return self.verifier.verify_cpu(
            evidence, report_data=report_data, rule=self.rule, now=self.now
        )

    def codes(self, evidence: Evidence, report_data: bytes = REPORT_DATA) -> list[str]:
        """Why the evidence is refused, by verifier or policy; empty if it is accepted."""
        try:
            claims = self.claims(evidence, report_data)
        except RegaliaError as refusal:
            return [refusal.code.name]
        return self.judge(claims)

    def judge(self, claims: Claims) -> list[str]:
        """Codes of the policy alone."""
        verdict = evaluate_client(self.policy, claims, _context(self.now))
        return [each.code.name for each in verdict.reasons] if isinstance(verdict, Deny) else []

    def against(self, **defects: Any) -> list[str]:  # noqa: ANN401 - fields of the platform's defects
        """The answer to a platform with these defects."""
        return self.codes(self.make(**defects))


def issuing(evidence: Make, healthy: DataclassInstance) -> Make:
    """How to make evidence of a platform that is healthy but for some fields of its defects.

    Args:
        evidence: a simulator's method.
        healthy: the defects of one without any.
    """
    return lambda **defects: evidence(
        REPORT_DATA,
        measurement=MEASUREMENT,
        runtime_config=RUNTIME_CONFIG,
        defects=replace(healthy, **defects),
    )


def relying_party_for(
    make: Make,
    verifier: Verifier,
    now: datetime,
    *,
    rule: CollateralRule = REQUIRED,
    pin_machine: bool = False,
) -> RelyingParty:
    """Pin a policy on the healthy platform. It accepts that platform."""
    claims = verifier.verify_cpu(make(), report_data=REPORT_DATA, rule=rule, now=now)
    choices = replace(CHOICES, pin_chip=pin_machine)
    policy = pin_client(claims, CONFIG, choices, now=now)
    return RelyingParty(make, verifier, now, policy, rule)


def _context(now: datetime) -> ClientContext:
    return ClientContext(
        now=now, challenge_age_s=1.0, runtime_config=CONFIG, model_id=MODEL, model_version=7
    )
