"""Verify a serving runtime: fetch evidence for our own challenge, appraise it, decide.

``appraise_runtime`` is pure; ``verify_runtime`` and ``verify_runtime_async`` add the fetching.
What goes out until they return is 32 random bytes.
"""

from __future__ import annotations

import os
from dataclasses import InitVar, dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from regalia.appraise.exchange import appraise_serving
from regalia.client.errors import ClientCode
from regalia.client.fetch import fetch_evidence, fetch_evidence_async
from regalia.core.clock import parse_rfc3339, rfc3339
from regalia.core.errors import LogError
from regalia.crypto.ohttp import serving_key_config
from regalia.policy.verdict import Deny
from regalia.tlog.verify import verify_proof
from regalia.wire.evidence import CHALLENGE_SIZE
from regalia.wire.release import device_names
from regalia.wire.serving import DATE_WINDOW_S, parse_serving_evidence

if TYPE_CHECKING:
    from datetime import datetime

    import httpx

    from regalia.appraisal.claims import Claims
    from regalia.client.trust import ClientTrust
    from regalia.crypto.ohttp import KeyConfig
    from regalia.policy.verdict import Allow
    from regalia.wire.release import LoggedRecord
    from regalia.wire.runtime_config import RuntimeConfig
    from regalia.wire.serving import ServingEvidence

_ANY = "any"
_CLOCK_SKEW = timedelta(seconds=DATE_WINDOW_S)

# Catches honest mistakes; no wall against code in the same process.
_MINT = object()


@dataclass(frozen=True, slots=True)
class VerifiedRuntime:
    """A runtime that met the client's policy. Only ``appraise_runtime`` makes one.

    Attributes:
        document: what it showed.
        claims: what its hardware vouches for.
        config: its measured configuration.
        verdict: the policy's answer, with the rules that were left open.
        logged: the release that gave it the model; None if the policy does not name a log.
        key_config: what requests are sealed to.
        verified_at, expires_at: verified again after ``expires_at``.
    """

    document: ServingEvidence
    claims: Claims
    config: RuntimeConfig
    verdict: Allow
    logged: LoggedRecord | None
    key_config: KeyConfig
    verified_at: datetime
    expires_at: datetime
    mint: InitVar[object]

    def __post_init__(self, mint: object) -> None:
        if mint is not _MINT:
            raise TypeError("verified runtimes come from regalia.client.verify")

    def fresh(self, now: datetime) -> bool:
        """Whether requests may still be sealed to it. A clock that went back says no."""
        return self.verified_at - _CLOCK_SKEW <= now < self.expires_at


def appraise_runtime(
    data: bytes, challenge: bytes, trust: ClientTrust, *, asked: datetime, now: datetime
) -> VerifiedRuntime:
    """Decide whether requests may be sealed to the runtime that sent ``data``.

    Args:
        data: serving evidence, raw, untrusted.
        challenge: 32 bytes that were made for this question and never used before.
        trust: the client's.
        asked: when the challenge went out.
        now: when the evidence came back.

    Raises:
        ParseError: something is malformed.
        AttestationError: the evidence is not genuine, or not for this challenge, key and model.
        PolicyDenied: it is genuine and not acceptable; all reasons.
        LogError: the release is not proved to stand in the log that the policy names.
    """
    # (1) Parse. Everything is untrusted.
    document = parse_serving_evidence(data)
    # (2) Genuine, fresh, bound to this key, model and version, and acceptable?
    found = appraise_serving(
        document, trust.policy, trust.verifier, challenge=challenge, asked=asked, now=now
    )
    if isinstance(found.verdict, Deny):
        raise found.verdict.error()
    # (3) Released in the open?
    logged = _verify_release(document, found.claims, trust, now=now)
    # (4) Only now does a key come out.
    return VerifiedRuntime(
        document=document,
        claims=found.claims,
        config=found.config,
        verdict=found.verdict,
        logged=logged,
        key_config=serving_key_config(document.hpke_public_key),
        verified_at=now,
        expires_at=_expiry(logged, trust, now),
        mint=_MINT,
    )


def verify_runtime(
    inner: httpx.BaseTransport, base_url: httpx.URL, trust: ClientTrust
) -> VerifiedRuntime:
    """Challenge the runtime at ``base_url`` and appraise its evidence.

    Args:
        inner: carries the question; need not be trusted.
        base_url: the runtime's, or a relay's, address.
        trust: the client's.

    Raises:
        UnavailableError: PEER_UNREACHABLE or EVIDENCE_NOT_SERVED.
        RegaliaError: as ``appraise_runtime``.
    """
    challenge = os.urandom(CHALLENGE_SIZE)
    asked = trust.clock()
    data = fetch_evidence(inner, base_url, challenge)
    return appraise_runtime(data, challenge, trust, asked=asked, now=trust.clock())


async def verify_runtime_async(
    inner: httpx.AsyncBaseTransport, base_url: httpx.URL, trust: ClientTrust
) -> VerifiedRuntime:
    """``verify_runtime`` over an asynchronous transport.

    Args:
        inner: carries the question; need not be trusted.
        base_url: the runtime's, or a relay's, address.
        trust: the client's.
    """
    challenge = os.urandom(CHALLENGE_SIZE)
    asked = trust.clock()
    data = await fetch_evidence_async(inner, base_url, challenge)
    return appraise_runtime(data, challenge, trust, asked=asked, now=trust.clock())


def _verify_release(
    document: ServingEvidence, claims: Claims, trust: ClientTrust, *, now: datetime
) -> LoggedRecord | None:
    """The record stands in the policy's log, and is the release of this model to this guest."""
    log_key = trust.policy.runtime.log_key
    if log_key == _ANY:
        return None
    if document.release is None:
        raise LogError(
            ClientCode.RELEASE_PROOF_MISSING, "the runtime's evidence carries no release proof"
        )
    logged = verify_proof(document.release, log_key=log_key)
    wanted = {
        "decision": "release",
        "model_id": str(document.model_id),
        "model_version": document.model_version,
        "recipient": str(document.recipient),
        "hardware": claims.hardware.value,
        "tee": claims.tee.value,
        "product": claims.product,
        "measurement": claims.measurement.hex(),
        "chip_id": claims.instance.hex(),
        "devices": device_names(claims.devices),
    }
    wrong = [
        f"{name} is {str(getattr(logged.record, name))[:100]!r}, want {str(value)[:100]!r}"
        for name, value in wanted.items()
        if getattr(logged.record, name) != value
    ]
    if _lease_end(logged) < now - _CLOCK_SKEW:
        wrong.append(f"its lease ended at {logged.record.lease_until}; now is {rfc3339(now)}")
    if wrong:
        raise LogError(
            ClientCode.RELEASE_PROOF_MISMATCH, f"log entry {logged.index}: {'; '.join(wrong)}"
        )
    return logged


def _lease_end(logged: LoggedRecord) -> datetime:
    try:
        return parse_rfc3339(logged.record.lease_until)
    except ValueError as exc:
        raise LogError(
            ClientCode.RELEASE_PROOF_MISMATCH, f"log entry {logged.index}: no end of the lease"
        ) from exc


def _expiry(logged: LoggedRecord | None, trust: ClientTrust, now: datetime) -> datetime:
    end = now + trust.verify_every
    # The skew is added to the smaller one: a log may give a lease until the last day of all.
    return end if logged is None else min(end, min(end, _lease_end(logged)) + _CLOCK_SKEW)
