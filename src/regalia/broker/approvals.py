"""Approvals: who has signed that this policy may release this model, and until when."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from regalia.broker.codes import BrokerCode
from regalia.core.clock import parse_rfc3339
from regalia.core.errors import IntegrityError
from regalia.crypto import dsse
from regalia.wire.approval import PAYLOAD_TYPE, parse_approval

if TYPE_CHECKING:
    from datetime import datetime

    from regalia.core.types import ModelId, PolicyId
    from regalia.crypto.sign import VerifyKey


@dataclass(frozen=True, slots=True)
class VerifiedApproval:
    """One approver's signature, verified by ``verify_approvals``."""

    approver: str  # fingerprint
    not_after: datetime


def verify_approvals(
    files: dict[str, bytes],
    approvers: tuple[VerifyKey, ...],
    *,
    policy_id: PolicyId,
    model_id: ModelId,
) -> tuple[VerifiedApproval, ...]:
    """Verify signed statements.

    Args:
        files: DSSE envelopes by the name that messages give them; untrusted.
        approvers: keys whose signatures count.
        policy_id: the policy that must have been approved.
        model_id: the model that must have been approved.

    Raises:
        ParseError: a statement is malformed.
        IntegrityError: unsigned, signed by others only, or APPROVAL_INVALID. A statement that
            does not count is refused rather than ignored: somebody meant it to count.
    """
    found: list[VerifiedApproval] = []
    for name, data in files.items():
        envelope = dsse.parse_envelope(data, what=name)
        payload = envelope.verify(PAYLOAD_TYPE, approvers, threshold=1)
        approval = parse_approval(payload)
        if (approval.policy_id, approval.model_id) != (str(policy_id), str(model_id)):
            raise IntegrityError(
                BrokerCode.APPROVAL_INVALID,
                f"{name}: approves {approval.policy_id} for {approval.model_id}, "
                f"not {policy_id} for {model_id}",
            )
        trusted = {str(key.fingerprint) for key in approvers}
        until = parse_rfc3339(approval.not_after)
        # Each signature of a trusted key on the envelope was verified above.
        found += [VerifiedApproval(k, until) for k, _ in envelope.signatures if k in trusted]
    return tuple(found)


def current_approvers(approvals: tuple[VerifiedApproval, ...], now: datetime) -> frozenset[str]:
    """Fingerprints of those whose approval is in force; one person counts once.

    Args:
        approvals: verified when they were loaded.
        now: the moment of the release, aware.
    """
    return frozenset(item.approver for item in approvals if now <= item.not_after)
