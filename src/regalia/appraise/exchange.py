"""Evidence that answers a challenge: of a runtime that wants a key, or of one that serves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from regalia.core.errors import AttestationError
from regalia.policy.context import ClientContext
from regalia.policy.documents import ReleasePolicy, collateral_rule
from regalia.policy.evaluate import evaluate_client, evaluate_release
from regalia.tees.nitro.claims import NitroClaims
from regalia.tees.nitro.evidence.codes import NitroCode
from regalia.wire.runtime_config import parse_runtime_config

if TYPE_CHECKING:
    from datetime import datetime

    from regalia.appraisal.claims import Claims
    from regalia.policy.context import ReleaseContext
    from regalia.policy.documents import ClientPolicy, Platform
    from regalia.policy.verdict import Verdict
    from regalia.verifier.verifier import Verifier
    from regalia.wire.evidence import Binding, Evidence
    from regalia.wire.runtime_config import RuntimeConfig
    from regalia.wire.serving import ServingEvidence


def verify_exchange(
    evidence: Evidence,
    platform: Platform,
    verifier: Verifier,
    *,
    expected: Binding,
    now: datetime,
) -> Claims:
    """Is it genuine, fresh, and made for exactly this purpose, devices included?

    Args:
        evidence: raw, untrusted.
        platform: the policy's section: it says how fresh collateral must be.
        verifier: whose anchors and collateral are used.
        expected: what the evidence must be bound to, computed from what the caller knows.
        now: the moment of the appraisal, aware.

    Raises:
        ParseError: evidence or collateral is malformed.
        AttestationError: it is not genuine, or bound to something else.
    """
    rule = collateral_rule(platform, evidence.tee)
    claims = verifier.verify(evidence, expected=expected, rule=rule, now=now)
    if isinstance(claims, NitroClaims) and claims.public_key not in {
        None,
        expected.wrap_public_key,
    }:
        raise AttestationError(
            NitroCode.DOCUMENT_KEY_OTHER, "public_key is not the exchange's wrap_public_key"
        )
    return claims


def judge(policy: ReleasePolicy | ClientPolicy, claims: Claims, context: ReleaseContext) -> Verdict:
    """Is it acceptable? A client's policy does not look at what is of releases alone.

    Args:
        policy: the owner's or the client's.
        claims: verified, and bound to this exchange.
        context: facts around it.
    """
    if isinstance(policy, ReleasePolicy):
        return evaluate_release(policy, claims, context)
    return evaluate_client(policy, claims, context)


@dataclass(frozen=True, slots=True)
class ServingAppraisal:
    """What a client knows of a serving runtime.

    Attributes:
        claims: what its hardware vouches for.
        config: its configuration; measured, if the verdict is to allow.
        verdict: the policy's answer.
    """

    claims: Claims
    config: RuntimeConfig
    verdict: Verdict


def appraise_serving(  # noqa: PLR0913 - one exchange, and everything that it is held to
    document: ServingEvidence,
    policy: ClientPolicy,
    verifier: Verifier,
    *,
    challenge: bytes,
    asked: datetime,
    now: datetime,
) -> ServingAppraisal:
    """Hold a serving runtime's answer against a client's policy.

    Args:
        document: untrusted.
        policy: the client's.
        verifier: the client's.
        challenge: 32 bytes that were made for this question and never used before.
        asked: when the challenge went out.
        now: when the answer came back.

    Raises:
        ParseError: something is malformed.
        AttestationError: the evidence is not genuine, or not for this challenge, key and model.
    """
    evidence = document.evidence
    claims = verify_exchange(
        evidence, policy.platform, verifier, expected=document.binding(challenge), now=now
    )
    # Still untrusted: evaluation compares its digest with what the hardware recorded.
    config = parse_runtime_config(evidence.runtime_config)
    context = ClientContext(
        now=now,
        challenge_age_s=(now - asked).total_seconds(),
        runtime_config=config,
        model_id=document.model_id,
        model_version=document.model_version,
    )
    return ServingAppraisal(claims, config, evaluate_client(policy, claims, context))
