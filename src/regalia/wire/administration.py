"""Messages about a tenant's statements, between its owners and a broker.

Spec: docs/spec/statements.md, "Between owners and a broker".
"""

from __future__ import annotations

import msgspec

ANSWER_LIMIT = 1 << 20  # bytes
PAGE_BYTES = 512 * 1024  # of entries in one answer, unless the first is larger


class _Doc(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of all messages: unknown fields are an error."""


class ProposalStatus(_Doc, frozen=True, kw_only=True):
    """A statement that gathers signatures, or was just accepted."""

    accepted: bool
    digest: str
    envelope: str  # base64 of the statement with the signatures that the broker has
    expires: str
    index: int | None  # of its entry in the log; null while it gathers signatures
    kind: str
    lacking: list[str]  # for people: which quorums are not reached, and whose signatures could
    missing: list[str]  # names of owners who have not signed and could
    sequence: int
    signed: list[str]  # names of owners who have
    tenant: str


class TenantStatus(_Doc, frozen=True, kw_only=True):
    """Where a tenant's chain stands, and what gathers signatures."""

    charter: str  # digest of statement 1, as the broker is configured
    head: str  # digest of the newest statement; zeros if there is none
    pending: list[ProposalStatus]
    sequence: int  # of the newest statement; 0 if there is none
    tenant: str


class LoggedStatement(_Doc, frozen=True, kw_only=True):
    """One statement as it stands in the log."""

    entry: str  # base64 of the log entry
    index: int


class StatementPage(_Doc, frozen=True, kw_only=True):
    """Some statements of a tenant, in their order."""

    following: int | None  # sequence to ask for next; null: these are the newest
    statements: list[LoggedStatement]
    tenant: str
