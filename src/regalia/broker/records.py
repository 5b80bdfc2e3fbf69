"""Writes release records. Spec: docs/spec/release-record.md."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from regalia.core.clock import rfc3339
from regalia.wire.release import RECORD_FORMAT, Reason, ReleaseRecord, device_names

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from regalia.appraisal.claims import Claims
    from regalia.broker.leases import Lease
    from regalia.core.errors import Code

UNVERIFIED = "unverified"
REASONS_MAX = 32
TEXT_MAX = 500  # characters of one reason


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseAttempt:
    """What is known of a request from its first step on. Partly untrusted, and logged as such.

    Attributes:
        model_version: as asked for.
        evidence_digest: of the bytes that came, genuine or not.
        recipient: fingerprint of the key that came.
        lease_id: the lease that was to be renewed, or "".
    """

    now: datetime
    broker: str
    custody: str
    model_id: str
    policy_id: str
    policy_version: int
    model_version: int
    evidence_digest: str
    recipient: str
    lease_id: str


def clean_reasons(reasons: Sequence[tuple[Code, str]]) -> list[Reason]:
    """Bounded and printable: parts of them came from outside, and the log keeps them forever."""
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
    """A denial. Without claims nothing is said about hardware but "unverified".

    Args:
        attempt: what was asked, by whom.
        claims: None if the evidence was not verified.
        wildcards: rules of the policy that were left open.
        reasons: code and sentence of each.
    """
    return _record(attempt, claims, wildcards, lease=None, reasons=clean_reasons(reasons))


def release_record(
    attempt: ReleaseAttempt, claims: Claims, wildcards: Sequence[str], lease: Lease
) -> ReleaseRecord:
    """A release, written before any key is touched.

    Args:
        attempt: what was asked, by whom.
        claims: verified and acceptable.
        wildcards: rules of the policy that were left open.
        lease: that goes with the key.
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
        lease_id=attempt.lease_id if lease is None else lease.lease_id,
        lease_until="" if lease is None else rfc3339(lease.until),
        wildcards=list(wildcards),
        reasons=reasons,
    )
