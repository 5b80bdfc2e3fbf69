"""Builds the release records that are appended to the log. Spec: docs/spec/release-record.md."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from regalia.core.clock import rfc3339
from regalia.wire.release import (
    NOTICE_FORMAT,
    RECORD_FORMAT,
    LogNotice,
    Reason,
    ReleaseRecord,
    device_names,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from regalia.appraisal.claims import Claims
    from regalia.broker.leases import Lease
    from regalia.broker.tenants import Standing
    from regalia.core.errors import Code

UNVERIFIED = "unverified"
REASONS_MAX = 32
TEXT_MAX = 500  # characters of one reason


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseAttempt:
    """The facts of a request that are known before its evidence is verified.

    The fields from the request itself are untrusted and logged as claimed.

    Attributes:
        now: time of the decision.
        broker: name of this broker.
        custody: who can see the model key in clear, as the key store states it.
        key_wrapping: what the key store wraps the model key with.
        model_id: the model that the challenge was issued for.
        policy_id: the policy that the challenge was issued for.
        policy_version: version of the policy in force; 0 if the model is not served any more.
        model_version: the requested version, untrusted.
        evidence_digest: digest of the received evidence, whether genuine or not.
        recipient: fingerprint of the received public key, untrusted.
        lease_id: the lease to renew, untrusted; empty for a first release.
        standing: the statements of the model's tenant, when the request came.
        peer: address that the request came from; in no record.
    """

    now: datetime
    broker: str
    custody: str
    key_wrapping: str
    model_id: str
    policy_id: str
    policy_version: int
    model_version: int
    evidence_digest: str
    recipient: str
    lease_id: str
    standing: Standing
    peer: str


def clean_reasons(reasons: Sequence[tuple[Code, str]]) -> list[Reason]:
    """Make reasons printable and bounded: they quote untrusted text, and the log is permanent."""
    return [
        Reason(
            code=code.name,
            what="".join(
                char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in what
            )[:TEXT_MAX],
        )
        for code, what in reasons[:REASONS_MAX]
    ]


def denial_record(
    attempt: ReleaseAttempt,
    claims: Claims | None,
    wildcards: Sequence[str],
    reasons: Sequence[tuple[Code, str]],
) -> ReleaseRecord:
    """Build the record of a denial.

    Args:
        attempt: facts of the request.
        claims: None if the evidence was not verified; the hardware is then "unverified".
        wildcards: rules that the policy leaves unrestricted.
        reasons: code and explanation of every reason, with untrusted parts.
    """
    return _record(attempt, claims, wildcards, lease=None, reasons=clean_reasons(reasons))


def release_record(
    attempt: ReleaseAttempt, claims: Claims, wildcards: Sequence[str], lease: Lease
) -> ReleaseRecord:
    """Build the record of a release, which is logged before the key store is used.

    Args:
        attempt: facts of the request.
        claims: verified claims that the policy accepts.
        wildcards: rules that the policy leaves unrestricted.
        lease: the lease that is granted with the key.
    """
    return _record(attempt, claims, wildcards, lease=lease, reasons=[])


def _record(
    attempt: ReleaseAttempt,
    claims: Claims | None,
    wildcards: Sequence[str],
    *,
    lease: Lease | None,
    reasons: list[Reason],
) -> ReleaseRecord:
    return ReleaseRecord(
        format=RECORD_FORMAT,
        decision="denial" if lease is None else "release",
        time=rfc3339(attempt.now),
        broker=attempt.broker,
        model_id=attempt.model_id,
        model_version=attempt.model_version,
        policy_id=attempt.policy_id,
        policy_version=attempt.policy_version,
        hardware=UNVERIFIED if claims is None else claims.hardware,
        tee="" if claims is None else claims.tee,
        product="" if claims is None else claims.product,
        measurement="" if claims is None else claims.measurement.hex(),
        chip_id="" if claims is None else claims.instance.hex(),
        devices=[] if claims is None else device_names(claims.devices),
        revocation="" if claims is None else claims.revocation,
        evidence_digest=attempt.evidence_digest,
        recipient=attempt.recipient,
        custody=attempt.custody,
        key_wrapping=attempt.key_wrapping,
        control=attempt.standing.digest,
        lease_id=attempt.lease_id if lease is None else lease.lease_id,
        lease_until="" if lease is None else rfc3339(lease.until),
        wildcards=list(wildcards),
        reasons=reasons,
    )


def returned_notice(broker: str, lease_id: str, now: datetime) -> LogNotice:
    """Say that a lease ended before its time, because its holder gave it back.

    Args:
        broker: the log's origin.
        lease_id: the lease.
        now: current time, timezone-aware.
    """
    return LogNotice(
        format=NOTICE_FORMAT,
        kind="lease-returned",
        time=rfc3339(now),
        since=rfc3339(now),
        broker=broker,
        count=1,
        what=lease_id,
    )
