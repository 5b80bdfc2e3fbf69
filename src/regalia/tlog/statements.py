"""Chains of statements: their order in a log, and that every release names the newest one.

Signatures are not verified here; ``regalia.control`` does that. But no order of statements can be
told from the log that is not the order in which their owners signed them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import sqlalchemy as sa

from regalia.core.errors import LogError, ParseError
from regalia.core.types import Digest
from regalia.crypto import dsse
from regalia.tlog.codes import TlogCode
from regalia.tlog.database import ENTRIES, STATEMENTS
from regalia.wire.release import ReleaseRecord
from regalia.wire.statement import (
    NO_STATEMENT,
    LogStatement,
    RegisterModel,
    parse_statement,
)

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from regalia.wire.release import LogEntry
    from regalia.wire.statement import Statement


@dataclass(frozen=True, slots=True)
class Head:
    """The newest statement of a tenant."""

    sequence: int
    digest: Digest


NO_HEAD = Head(0, NO_STATEMENT)


@dataclass(frozen=True, slots=True)
class Unexplained:
    """A release that was not decided under the newest statement of its model's tenant."""

    index: int
    why: str


def statement_in(entry: LogStatement) -> Statement:
    """The statement of a log entry; its signatures are not verified.

    Raises:
        ParseError: the envelope or the statement is malformed.
    """
    envelope = dsse.parse_envelope(entry.signed(), what="statement")
    return parse_statement(envelope.unverified_payload)


def follows(statement: Statement, head: Head) -> Head:
    """The head after a statement.

    Args:
        statement: the next one of a tenant.
        head: of the tenant before it.

    Raises:
        LogError: STATEMENT_CHAIN_BROKEN.
    """
    if statement.sequence != head.sequence + 1 or statement.previous != str(head.digest):
        raise LogError(
            TlogCode.STATEMENT_CHAIN_BROKEN,
            f"statement {statement.sequence} of {statement.tenant} behind "
            f"{statement.previous}; the newest is {head.sequence}, {head.digest}",
        )
    return Head(statement.sequence, statement.digest())


@dataclass(slots=True)
class Chains:
    """Follows the chains of all tenants through a log, entry by entry."""

    _heads: dict[str, Head] = field(default_factory=dict)
    _charters: dict[str, Digest] = field(default_factory=dict)
    _owners: dict[str, set[str]] = field(default_factory=dict)  # tenants by registered model
    unexplained: list[Unexplained] = field(default_factory=list)

    def visit(self, index: int, entry: LogEntry) -> None:
        """Look at the next entry.

        Args:
            index: of the entry.
            entry: as it was parsed.

        Raises:
            LogError: STATEMENT_CHAIN_BROKEN, or LOG_INCONSISTENT for a malformed statement.
        """
        if isinstance(entry, LogStatement):
            self._statement(index, entry)
        elif isinstance(entry, ReleaseRecord) and entry.decision == "release":
            why = self._why(entry)
            if why is not None:
                self.unexplained.append(Unexplained(index, why))

    def heads(self) -> dict[str, Head]:
        """The newest statement of each tenant, by its name."""
        return dict(self._heads)

    def charters(self) -> dict[str, Digest]:
        """The digest of each tenant's statement 1, by its name."""
        return dict(self._charters)

    def _statement(self, index: int, entry: LogStatement) -> None:
        try:
            statement = statement_in(entry)
        except ParseError as exc:
            raise LogError(TlogCode.LOG_INCONSISTENT, f"entry {index}: {exc.what}") from exc
        head = self._heads.get(statement.tenant, NO_HEAD)
        try:
            self._heads[statement.tenant] = follows(statement, head)
        except LogError as exc:
            raise LogError(exc.code, f"entry {index}: {exc.what}") from exc
        self._charters.setdefault(statement.tenant, statement.digest())
        if isinstance(statement.action, RegisterModel):
            self._owners.setdefault(statement.action.model_id, set()).add(statement.tenant)

    def _why(self, record: ReleaseRecord) -> str | None:
        """Why a release is unexplained; None if it is explained."""
        tenants = sorted(self._owners.get(record.model_id, ()))
        if not record.control:
            if not tenants:
                return None
            return f"names no statement, and {', '.join(tenants)} registered {record.model_id}"
        if any(str(self._heads[name].digest) == record.control for name in tenants):
            return None
        newest = ", ".join(f"{name} {self._heads[name].digest}" for name in tenants)
        return f"names {record.control}; the newest is {newest or 'none'}"


def head_of(connection: Connection, tenant: str) -> Head:
    """The newest statement of a tenant in a log's database; ``NO_HEAD`` if it has none.

    Args:
        connection: in a transaction on the log's database.
        tenant: its name.
    """
    query = sa.select(STATEMENTS.c.sequence, STATEMENTS.c.digest).where(
        STATEMENTS.c.tenant == tenant
    )
    row = connection.execute(query.order_by(STATEMENTS.c.sequence.desc()).limit(1)).first()
    return NO_HEAD if row is None else Head(row.sequence, Digest.parse(row.digest))


def entries_of(
    connection: Connection, tenant: str, first: int, most: int
) -> list[tuple[int, bytes]]:
    """Index and entry of statements of a tenant, in their order.

    Args:
        connection: in a transaction on the log's database.
        tenant: its name.
        first: lowest sequence.
        most: how many.
    """
    query = (
        sa.select(STATEMENTS.c.idx, ENTRIES.c.entry)
        .join(ENTRIES, ENTRIES.c.idx == STATEMENTS.c.idx)
        .where(STATEMENTS.c.tenant == tenant, STATEMENTS.c.sequence >= first)
        .order_by(STATEMENTS.c.sequence)
        .limit(most)
    )
    return [(row.idx, bytes(row.entry)) for row in connection.execute(query)]


def require_appendable(connection: Connection, index: int, entry: LogEntry) -> None:
    """Check and keep what an entry says of a chain, in the transaction that appends it.

    Args:
        connection: in the writing transaction, which holds the log's row.
        index: that the entry will have.
        entry: as it was parsed.

    Raises:
        LogError: STATEMENT_CHAIN_BROKEN or STATEMENT_INTERVENED.
        ParseError: a statement is malformed.
    """
    if isinstance(entry, LogStatement):
        statement = statement_in(entry)
        head = follows(statement, head_of(connection, statement.tenant))
        row = {"tenant": statement.tenant, "sequence": head.sequence}
        row |= {"digest": str(head.digest), "idx": index}
        connection.execute(STATEMENTS.insert().values(row))
    elif isinstance(entry, ReleaseRecord) and entry.decision == "release" and entry.control:
        _require_newest(connection, entry.control)


def _require_newest(connection: Connection, control: str) -> None:
    query = sa.select(STATEMENTS.c.tenant).where(STATEMENTS.c.digest == control)
    tenant = connection.execute(query).scalar()
    if tenant is None or str(head_of(connection, tenant).digest) != control:
        raise LogError(
            TlogCode.STATEMENT_INTERVENED, f"{control} is not the newest statement any more"
        )
