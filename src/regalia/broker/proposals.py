"""Statements that gather signatures. Only owners' signatures are kept, and a bounded number."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import sqlalchemy as sa

from regalia.broker.codes import BrokerCode
from regalia.broker.state import PROPOSALS, SIGNATURES, state, to_us
from regalia.control.verify import read_unverified, who_may_sign
from regalia.core.clock import parse_rfc3339
from regalia.core.errors import PolicyDenied
from regalia.crypto.dsse import Envelope
from regalia.wire.statement import PAYLOAD_TYPE, parse_statement

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.engine import Connection, Engine

    from regalia.control.verify import SignedStatement
    from regalia.wire.statement import Owner, Statement

PENDING_MAX = 8  # of one tenant
PENDING_OF_ONE_MAX = 3  # that one owner was the first to sign


@dataclass(frozen=True, slots=True)
class ProposalStore:
    """Keeps proposals in the broker's state."""

    engine: Engine

    def merged(self, data: bytes, owners: tuple[Owner, ...]) -> bytes:
        """A signed statement with the signatures that are kept of it, in the order of their keys.

        Args:
            data: the signed statement.
            owners: in force. A charter that waited may have replaced one whose signature is kept,
                without a statement that overtakes proposals; that signature counts no more.

        Raises:
            ParseError: the envelope or the statement is malformed.
            IntegrityError: WRONG_PAYLOAD_TYPE.
            UnavailableError: STATE_UNAVAILABLE.
        """
        envelope, statement = read_unverified(data)
        with state(self.engine, writes=False) as connection:
            kept = _signatures(connection, str(statement.digest()))
        both = {**_counting(kept, statement, owners), **dict(envelope.signatures)}
        return replace(envelope, signatures=tuple(sorted(both.items()))).encode()

    def knows(self, digest: str) -> bool:
        """Whether a statement gathers signatures here. Raises UnavailableError."""
        with state(self.engine, writes=False) as connection:
            return _known(connection, digest)

    def keep(self, signed: SignedStatement, proposer: str, now: datetime) -> None:
        """Keep a proposal, or further signatures of one.

        Args:
            signed: its signers were verified.
            proposer: fingerprint of the owner whose place it takes, if it is new.
            now: current time, timezone-aware.

        Raises:
            PolicyDenied: PROPOSALS_EXHAUSTED.
            UnavailableError: STATE_UNAVAILABLE.
        """
        envelope, statement = read_unverified(signed.envelope)
        digest = str(signed.digest)
        with state(self.engine, writes=True) as connection:
            _forget(connection, PROPOSALS.c.expires_us < to_us(now))
            if not _known(connection, digest):
                _require_room(connection, statement.tenant, proposer)
                row = {
                    "digest": digest,
                    "tenant": statement.tenant,
                    "sequence": statement.sequence,
                    "proposer": proposer,
                    "payload": envelope.unverified_payload,
                    "expires_us": to_us(parse_rfc3339(statement.expires)),
                }
                connection.execute(PROPOSALS.insert().values(row))
            have = _signatures(connection, digest)
            for key, signature in envelope.signatures:
                if key not in have:
                    values = {"digest": digest, "keyid": key, "signature": signature}
                    connection.execute(SIGNATURES.insert().values(values))

    def forget_up_to(self, tenant: str, sequence: int) -> None:
        """Forget the proposals of a tenant that a statement has overtaken.

        Args:
            tenant: its name.
            sequence: of the newest statement.

        Raises:
            UnavailableError: STATE_UNAVAILABLE.
        """
        with state(self.engine, writes=True) as connection:
            _forget(
                connection,
                sa.and_(PROPOSALS.c.tenant == tenant, PROPOSALS.c.sequence <= sequence),
            )

    def pending(
        self, tenant: str, sequence: int, owners: tuple[Owner, ...], now: datetime
    ) -> list[bytes]:
        """Signed statements that would be a tenant's next, oldest expiry first.

        Args:
            tenant: its name.
            sequence: of the next statement.
            owners: in force; see ``merged``.
            now: current time, timezone-aware.

        Raises:
            UnavailableError: STATE_UNAVAILABLE.
        """
        query = sa.select(PROPOSALS).where(
            PROPOSALS.c.tenant == tenant,
            PROPOSALS.c.sequence == sequence,
            PROPOSALS.c.expires_us >= to_us(now),
        )
        with state(self.engine, writes=False) as connection:
            rows = connection.execute(query.order_by(PROPOSALS.c.expires_us, PROPOSALS.c.digest))
            kept = [(bytes(row.payload), _signatures(connection, row.digest)) for row in rows.all()]
        return [_envelope(payload, signatures, owners) for payload, signatures in kept]


def _known(connection: Connection, digest: str) -> bool:
    mine = PROPOSALS.c.digest == digest
    return connection.execute(sa.select(PROPOSALS.c.digest).where(mine)).first() is not None


def _signatures(connection: Connection, digest: str) -> dict[str, bytes]:
    rows = connection.execute(sa.select(SIGNATURES).where(SIGNATURES.c.digest == digest))
    return {row.keyid: bytes(row.signature) for row in rows}


def _counting(
    kept: dict[str, bytes], statement: Statement, owners: tuple[Owner, ...]
) -> dict[str, bytes]:
    known = {each.fingerprint for each in who_may_sign(statement, owners)}
    return {keyid: signature for keyid, signature in kept.items() if keyid in known}


def _envelope(payload: bytes, kept: dict[str, bytes], owners: tuple[Owner, ...]) -> bytes:
    signatures = _counting(kept, parse_statement(payload), owners)
    return Envelope(PAYLOAD_TYPE, payload, tuple(sorted(signatures.items()))).encode()


def _require_room(connection: Connection, tenant: str, proposer: str) -> None:
    of_tenant = PROPOSALS.c.tenant == tenant
    for most, which, whose in (
        (PENDING_MAX, of_tenant, f"of {tenant}"),
        (PENDING_OF_ONE_MAX, sa.and_(of_tenant, PROPOSALS.c.proposer == proposer), "of one owner"),
    ):
        count = connection.execute(sa.select(sa.func.count()).where(which)).scalar_one()
        if count >= most:
            raise PolicyDenied(
                BrokerCode.PROPOSALS_EXHAUSTED, f"{count} proposals {whose}; at most {most}"
            )


def _forget(connection: Connection, which: sa.ColumnElement[bool]) -> None:
    gone = sa.select(PROPOSALS.c.digest).where(which)
    connection.execute(SIGNATURES.delete().where(SIGNATURES.c.digest.in_(gone)))
    connection.execute(PROPOSALS.delete().where(which))
