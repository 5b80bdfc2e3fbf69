"""Verifies approvals: signed statements that a policy may release a model until a certain time."""

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

    approver: str  # fingerprint of the approver's key
    not_after: datetime


def verify_approvals(
    files: dict[str, bytes],
    approvers: tuple[VerifyKey, ...],
    *,
    policy_id: PolicyId,
    model_id: ModelId,
) -> tuple[VerifiedApproval, ...]:
    """Verify signed approvals.

    Args:
        files: DSSE envelopes, untrusted, by the name to use in error messages.
        approvers: keys whose signatures count.
        policy_id: the policy that must have been approved.
        model_id: the model that must have been approved.

    Returns:
        One item for each valid signature of an approver.

    Raises:
        ParseError: an approval is malformed.
        IntegrityError: an approval has no signature of an approver, or APPROVAL_INVALID. An
            invalid approval is an error and not ignored, because the operator configured it and
            expects it to count.
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
        # ``verify`` has checked every signature by one of these keys, not just the threshold of
        # one.
        found += [VerifiedApproval(k, until) for k, _ in envelope.signatures if k in trusted]
    return tuple(found)
