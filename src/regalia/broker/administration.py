"""Takes statements of tenants' owners, and appends those that are complete to the log.

    bytes -> SignedStatement -> gathers signatures -> ControlState with it -> log entry

A statement is in force when its log entry is written, in one transaction: there is no second place
that could disagree. A broker that is killed before has changed nothing; one that is killed behind
it finds the statement in the log at its next start.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from regalia.broker.codes import BrokerCode
from regalia.broker.tenants import owners_of
from regalia.control.codes import StatementCode
from regalia.control.fold import apply, begin, settled
from regalia.control.quorum import quorums
from regalia.control.verify import read_unverified, verify_statement
from regalia.core.clock import parse_rfc3339, rfc3339
from regalia.core.codec import b64
from regalia.core.errors import (
    IntegrityError,
    LogError,
    ParseError,
    PolicyDenied,
    UnavailableError,
)
from regalia.crypto.dsse import DsseCode
from regalia.host.events import ServiceEvent, emit
from regalia.tlog.codes import TlogCode
from regalia.wire.administration import (
    PAGE_BYTES,
    LoggedStatement,
    ProposalStatus,
    StatementPage,
    TenantStatus,
)
from regalia.wire.statement import ENVELOPE_LIMIT, NO_STATEMENT, log_statement

if TYPE_CHECKING:
    from datetime import datetime

    from regalia.broker.peers import Peers
    from regalia.broker.proposals import ProposalStore
    from regalia.broker.tenants import Tenants
    from regalia.broker.watermarks import LogWatch
    from regalia.control.state import ControlState
    from regalia.control.verify import SignedStatement
    from regalia.host.clock import Clock
    from regalia.tlog.log import Log
    from regalia.wire.statement import Owner, Statement

BODY_LIMIT = ENVELOPE_LIMIT
_PAGE = 64  # statements in one answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Administration:
    """The acts of owners on one broker. Thread-safe, and independent of HTTP."""

    tenants: Tenants
    proposals: ProposalStore
    log: Log
    seen: LogWatch
    peers: Peers
    clock: Clock

    def propose(self, body: bytes, peer: str) -> ProposalStatus:
        """Take a statement, or further signatures of it; accept it if enough owners have signed.

        Args:
            body: a signed statement, raw and untrusted.
            peer: address that it came from.

        Raises:
            ParseError: it is malformed.
            PolicyDenied: it cannot be accepted, whoever signs; PROPOSALS_EXHAUSTED.
            LogError: the log cannot be written; nothing has changed.
            UnavailableError: TENANT_UNKNOWN, PEER_LIMITED, or the database failed.
        """
        now = self.clock()
        with self.peers.admitted(peer, now):
            return self.take(body, now)

    def sign(self, body: bytes, peer: str) -> ProposalStatus:
        """As ``propose``, but only for a statement that gathers signatures here already.

        Args:
            body: the signed statement, raw and untrusted.
            peer: address that it came from.

        Raises:
            ParseError: it is malformed.
            PolicyDenied: as ``propose``.
            LogError: as ``propose``.
            UnavailableError: as ``propose``, or PROPOSAL_UNKNOWN.
        """
        now = self.clock()
        with self.peers.admitted(peer, now):
            digest = str(_read(body).digest())
            if not self.proposals.knows(digest):
                raise UnavailableError(BrokerCode.PROPOSAL_UNKNOWN, f"no proposal {digest} here")
            return self.take(body, now)

    def take(self, body: bytes, now: datetime) -> ProposalStatus:
        """Take a statement from a source that is charged for nothing. Raises as ``propose``.

        Args:
            body: the signed statement, raw and untrusted.
            now: current time, timezone-aware.
        """
        # Whole seconds, as the log keeps them: whoever reads the log must come to the same state.
        at = parse_rfc3339(rfc3339(now))
        tenant = _read(body).tenant
        state = self._state(tenant, at)
        owners = owners_of(state)
        try:
            # On their own first: signatures of strangers must not come among those that are kept,
            # and what is complete needs none of those, which could make it too large.
            signed = verify_statement(body, owners)
            after = self._applied(state, signed, at)
            if after is None:
                signed = verify_statement(self.proposals.merged(body, owners), owners)
                after = self._applied(state, signed, at)
        except IntegrityError as exc:
            raise PolicyDenied(exc.code, exc.what) from exc
        if after is None:
            self.proposals.keep(signed, _proposer(signed, owners), now)
            return self._status(signed, state, index=None)
        return self._status(signed, state, index=self._publish(signed, at))

    def statements(self, tenant: str, first: int) -> StatementPage:
        """Statements of a tenant as they stand in the log.

        Args:
            tenant: its name, untrusted.
            first: lowest sequence that is wanted.

        Raises:
            UnavailableError: TENANT_UNKNOWN.
            LogError: the log cannot be read.
        """
        self.tenants.charter(tenant)
        found: list[LoggedStatement] = []
        room = PAGE_BYTES
        rows = self.log.reader.statements(tenant, first, _PAGE + 1)
        for index, entry in rows[:_PAGE]:
            room -= len(entry) * 4 // 3
            if room < 0 and found:
                break
            found.append(LoggedStatement(entry=b64(entry), index=index))
        more = len(found) < len(rows)
        return StatementPage(
            following=first + len(found) if more else None, statements=found, tenant=tenant
        )

    def status(self, tenant: str) -> TenantStatus:
        """Where a tenant's chain stands, and what gathers signatures.

        Args:
            tenant: its name, untrusted.

        Raises:
            UnavailableError: TENANT_UNKNOWN, or the database failed.
            LogError: the log cannot be read.
        """
        now = self.clock()
        charter = self.tenants.charter(tenant)
        state = self._state(tenant, now)
        owners = owners_of(state)
        sequence = 0 if state is None else state.sequence
        pending: list[ProposalStatus] = []
        for data in self.proposals.pending(tenant, sequence + 1, owners, now):
            try:
                signed = verify_statement(data, owners)
            except IntegrityError:
                continue  # nobody who signed it is an owner any more
            pending.append(self._status(signed, state, index=None))
        return TenantStatus(
            charter=str(charter),
            head=str(NO_STATEMENT if state is None else state.head),
            pending=pending,
            sequence=sequence,
            tenant=tenant,
        )

    def _state(self, tenant: str, now: datetime) -> ControlState | None:
        state = self.tenants.state(tenant)
        return None if state is None else settled(state, now)

    def _applied(
        self, state: ControlState | None, signed: SignedStatement, at: datetime
    ) -> ControlState | None:
        """The state with a statement; None if nothing but signatures is missing."""
        try:
            if state is not None:
                return apply(state, signed, at)
            return begin(signed, self.tenants.charter(signed.statement.tenant), at)
        except PolicyDenied as exc:
            if exc.code is StatementCode.STATEMENT_TOO_FEW_SIGNATURES:
                return None
            raise

    def _publish(self, signed: SignedStatement, at: datetime) -> int:
        statement = signed.statement
        self.seen.catch_up()
        entry = log_statement(signed.envelope, broker=self.log.origin, time=rfc3339(at))
        try:
            index, checkpoint = self.log.publish(entry)
        except LogError as exc:
            if exc.code is not TlogCode.STATEMENT_CHAIN_BROKEN:
                raise
            # Another broker was faster; the log has refused this one.
            raise PolicyDenied(StatementCode.STATEMENT_STALE, exc.what) from exc
        self.seen.saw(checkpoint)
        # Before the owner is answered: from here on nobody can hide it from this broker.
        self.tenants.state(statement.tenant)
        self.proposals.forget_up_to(statement.tenant, statement.sequence)
        emit(
            ServiceEvent.STATEMENT_ACCEPTED,
            index=index,
            tenant=statement.tenant,
            sequence=statement.sequence,
            kind=statement.kind,
        )
        return index

    def _status(
        self, signed: SignedStatement, state: ControlState | None, *, index: int | None
    ) -> ProposalStatus:
        statement = signed.statement
        needed = quorums(statement, None if state is None else state.charter, signed.signers)
        return ProposalStatus(
            accepted=index is not None,
            digest=str(signed.digest),
            envelope=b64(signed.envelope),
            expires=statement.expires,
            index=index,
            kind=statement.kind,
            lacking=[str(each) for each in needed if not each.reached],
            missing=sorted({name for each in needed for name in each.missing}),
            sequence=statement.sequence,
            signed=sorted({name for each in needed for name in each.signed}),
            tenant=statement.tenant,
        )


def _proposer(signed: SignedStatement, owners: tuple[Owner, ...]) -> str:
    """Fingerprint of the owner whose place a proposal takes.

    Args:
        signed: its signers were verified. Those of a charter may be owners of that charter only,
            and anybody can write a charter with owners of their own.
        owners: in force; empty before the first charter, whose digest is known.

    Raises:
        PolicyDenied: SIGNER_UNKNOWN, no owner in force has signed.
    """
    if not owners:
        return min(signed.signers)
    signers = [each.fingerprint for each in owners if each.fingerprint in signed.signers]
    if not signers:
        raise PolicyDenied(DsseCode.SIGNER_UNKNOWN, "no owner in force has signed the new charter")
    return min(signers)


def _read(body: bytes) -> Statement:
    """The statement in a request, of which nothing is verified. Raises ParseError."""
    try:
        _, statement = read_unverified(body)
    except IntegrityError as exc:
        raise ParseError(exc.code, exc.what) from exc
    return statement
