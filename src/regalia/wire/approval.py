"""Approvals: statements that a policy may release a model until a certain time.

Spec: docs/spec/release-exchange.md, "Approvals".
"""

from __future__ import annotations

import msgspec

from regalia.core.clock import parse_rfc3339
from regalia.core.codec import canonical_json, parse_json
from regalia.core.errors import CoreCode, ParseError
from regalia.core.types import ModelId, PolicyId

FORMAT = "regalia/approval/v1"
PAYLOAD_TYPE = "application/vnd.regalia.approval.v1+json"
LIMIT = 4096  # bytes


class Approval(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The DSSE payload of an approval, which is untrusted until its signature is verified."""

    format: str
    policy_id: str
    model_id: str
    not_after: str  # RFC 3339, whole seconds, UTC

    def encode(self) -> bytes:
        """Encode as canonical JSON."""
        return canonical_json(self)


def parse_approval(payload: bytes) -> Approval:
    """Parse an approval. Inverse of ``Approval.encode``. Raises ParseError."""
    approval = parse_json(payload, Approval, limit=LIMIT, what="approval")
    if approval.format != FORMAT:
        raise ParseError(CoreCode.MALFORMED, f"approval: format {approval.format[:80]!r}")
    PolicyId.parse(approval.policy_id)
    ModelId.parse(approval.model_id)
    try:
        parse_rfc3339(approval.not_after)
    except ValueError as exc:
        raise ParseError(CoreCode.MALFORMED, f"approval: date {approval.not_after[:40]!r}") from exc
    return approval
