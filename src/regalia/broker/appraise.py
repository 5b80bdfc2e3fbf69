"""The facts of one release, for ``regalia.appraise``: what this broker knows of the request.

    ConsumedChallenge + request -> Evidence -> Claims -> Verdict

Nothing here writes anything or knows a key.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from regalia.appraise.exchange import judge, verify_exchange
from regalia.broker.codes import BrokerCode
from regalia.core.errors import LogError
from regalia.core.types import Digest
from regalia.policy.context import ReleaseContext
from regalia.tlog.note import parse_log_key
from regalia.wire.evidence import NO_DEVICES, Binding, Role, parse_evidence
from regalia.wire.runtime_config import parse_runtime_config

if TYPE_CHECKING:
    from datetime import datetime

    from regalia.appraisal.claims import Claims
    from regalia.broker.challenges import ConsumedChallenge
    from regalia.broker.models import ServedModel
    from regalia.broker.request import DecodedRequest
    from regalia.core.errors import Code
    from regalia.policy.verdict import Verdict
    from regalia.verifier.verifier import Verifier


@dataclass(frozen=True, slots=True)
class Appraiser:
    """What this broker trusts about hardware, and its own name."""

    verifier: Verifier
    audience: str

    def claims(
        self, asked: DecodedRequest, challenge: ConsumedChallenge, model: ServedModel, now: datetime
    ) -> tuple[Claims, bytes]:
        """Is it genuine, fresh, and made for this very request?

        The expected report data is computed from what *this broker* knows: its own name, the
        challenge it issued, its model and policy. Of the request only the public keys go in, and
        the devices' evidence, which the CPU must have committed to.

        Args:
            asked: the request, decoded and untrusted.
            challenge: that this broker issued and has spent.
            model: that the challenge was issued for.
            now: the moment of the appraisal, aware.

        Returns:
            The claims, and the runtime configuration's bytes: still untrusted, as only policy
            evaluation compares them with HOST_DATA.

        Raises:
            ParseError: the evidence is malformed.
            AttestationError: it is not genuine, or bound to something else.
        """
        evidence = parse_evidence(asked.evidence)
        expected = Binding(
            role=Role.RELEASE,
            audience=self.audience,
            challenge=challenge.challenge,
            hpke_public_key=asked.hpke_public_key,
            wrap_public_key=asked.wrap_public_key,
            model_id=model.model_id,
            policy_id=model.policy_id,
            device_evidence=Digest(NO_DEVICES),
        )
        claims = verify_exchange(
            evidence, model.policy.platform, self.verifier, expected=expected, now=now
        )
        return claims, evidence.runtime_config


def verdict_of(  # noqa: PLR0913 - the facts of one release
    claims: Claims,
    config: bytes,
    *,
    asked: DecodedRequest,
    challenge: ConsumedChallenge,
    model: ServedModel,
    custody: str,
    active_holders: int,
    now: datetime,
) -> Verdict:
    """Is it acceptable under the owner's policy? Raises ParseError for a malformed ``config``.

    Args:
        claims: verified, and bound to this request.
        config: the runtime configuration, untrusted.
        asked: the request, decoded and untrusted.
        challenge: that this broker issued and has spent.
        model: that the challenge was issued for.
        custody: where the key will be in clear.
        active_holders: of this model, besides the one that asks.
        now: the moment of the appraisal, aware.
    """
    context = ReleaseContext(
        now=now,
        challenge_age_s=(now - challenge.issued.issued_at).total_seconds(),
        runtime_config=parse_runtime_config(config),
        model_id=model.model_id,
        model_version=asked.model_version,
        active_holders=active_holders,
        approvals=model.approvers(now),
        custody=custody,
    )
    return judge(model.policy, claims, context)


def base_findings(config: bytes, model: ServedModel) -> list[tuple[Code, str]]:
    """Reasons why a runtime could not use this key: it would merge what does not belong together.

    Args:
        config: the runtime configuration, untrusted; ``verdict_of`` has parsed it.
        model: the model or adapter that was asked for.
    """
    parsed = parse_runtime_config(config)
    merged = str(model.model_id) in parsed.adapters
    base = None if model.base is None else str(model.base)
    if base == (parsed.model_id if merged else None):
        return []
    used = f"merges it into {parsed.model_id}" if merged else "serves it as a model by itself"
    sealed = "a model by itself" if base is None else f"an adapter of {base}"
    return [(BrokerCode.ADAPTER_OTHER_BASE, f"the runtime {used}; it was sealed as {sealed}")]


def audience_findings(config: bytes, origin: str) -> list[tuple[Code, str]]:
    """Reasons why a runtime would not accept a release that stands in this log.

    The evidence is bound to this log's origin by whoever made it. The runtime's own measured
    configuration must trust a log of the same name, whatever log key the policy accepts.

    Args:
        config: the runtime configuration, untrusted; ``verdict_of`` has parsed it.
        origin: of this broker's log.
    """
    log_key = parse_runtime_config(config).log_key
    try:
        trusted = parse_log_key(log_key).origin
    except LogError:
        trusted = ""
    if trusted == origin:
        return []
    what = f"the runtime trusts the log {log_key[:80]!r}; this one is {origin}"
    return [(BrokerCode.AUDIENCE_MISMATCH, what)]


def version_findings(asked: DecodedRequest, model: ServedModel) -> list[tuple[Code, str]]:
    """Reasons why the runtime's model version is not the one whose key this broker holds.

    Args:
        asked: the request, decoded and untrusted.
        model: that is asked for.
    """
    what = f"the runtime has version {asked.model_version}; the key is of version {model.version}"
    if asked.model_version < model.version:
        return [(BrokerCode.MODEL_ROLLBACK, what)]
    if asked.model_version > model.version:
        return [(BrokerCode.MODEL_VERSION_MISMATCH, what)]
    return []
