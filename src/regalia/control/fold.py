"""What a chain of statements says: a pure fold. Spec: docs/spec/statements.md.

    verify_statement   bytes            -> SignedStatement     who signed
    begin              SignedStatement  -> ControlState        statement 1, known by its digest
    apply              SignedStatement  -> ControlState        every other one
    settled            ControlState     -> ControlState        what waited and is due by now

A statement that is accepted belongs to the chain for ever. It takes effect at once, or at its
``not_before``; until then it waits in ``scheduled``. What is due and no longer fits, because an
owner has revoked it meanwhile, has no effect and is named in ``void``.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from regalia.control.codes import StatementCode
from regalia.control.effects import effect_of
from regalia.control.lifecycle import passed
from regalia.control.quorum import quorums
from regalia.control.state import ControlState, Scheduled, Void
from regalia.core.clock import parse_rfc3339
from regalia.core.errors import IntegrityError, PolicyDenied
from regalia.wire.statement import ALONE, Charter

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from regalia.control.verify import SignedStatement
    from regalia.core.types import Digest

SCHEDULED_MAX = 64


def begin(signed: SignedStatement, charter_digest: Digest, now: datetime) -> ControlState:
    """Accept statement 1, which all its owners must have signed.

    Args:
        signed: the statement.
        charter_digest: the digest by which the tenant is known.
        now: when it is accepted, timezone-aware.

    Raises:
        IntegrityError: CHARTER_UNTRUSTED.
        PolicyDenied: CHARTER_EXPECTED, STATEMENT_EXPIRED, STATEMENT_LOCKED or
            STATEMENT_TOO_FEW_SIGNATURES.
    """
    statement = signed.statement
    if statement.sequence != 1 or not isinstance(statement.action, Charter):
        raise PolicyDenied(
            StatementCode.CHARTER_EXPECTED,
            f"statement {statement.sequence} is of kind {statement.kind}; want the charter",
        )
    if signed.digest != charter_digest:
        raise IntegrityError(
            StatementCode.CHARTER_UNTRUSTED,
            f"the charter is {signed.digest}; this tenant is known by {charter_digest}",
        )
    _require_in_time(signed, now)
    if statement.not_before is not None and parse_rfc3339(statement.not_before) > now:
        raise PolicyDenied(
            StatementCode.STATEMENT_LOCKED, f"the charter begins at {statement.not_before}"
        )
    _require_quorums(signed, None)
    return ControlState(
        tenant=statement.tenant,
        charter=statement.action,
        founded=signed.digest,
        sequence=1,
        head=signed.digest,
        as_of=now,
    )


def apply(state: ControlState, signed: SignedStatement, now: datetime) -> ControlState:
    """Accept the statement that follows the newest one.

    Args:
        state: of the statements before it.
        signed: the statement; its signers were verified.
        now: when it is accepted, timezone-aware. An earlier time than the state has seen counts
            as that one.

    Raises:
        PolicyDenied: STATEMENT_OTHER_TENANT, STATEMENT_STALE, STATEMENT_GAP, STATEMENT_EXPIRED,
            STATEMENT_LOCKED, STATEMENT_NOT_IN_THIS_STATE, STATEMENT_TOO_MANY_SCHEDULED or
            STATEMENT_TOO_FEW_SIGNATURES.
        IntegrityError: STATEMENT_OTHER_PREVIOUS.
    """
    state = settled(state, now)
    require_next(state, signed)
    _require_in_time(signed, state.as_of)
    statement = signed.statement
    at = _effective(state, signed)
    # It must fit what holds when it takes effect, with all that is scheduled before.
    effect_of(settled(state, at), statement.sequence, statement.action)
    if at > state.as_of and len(state.scheduled) >= SCHEDULED_MAX:
        raise PolicyDenied(
            StatementCode.STATEMENT_TOO_MANY_SCHEDULED, f"{SCHEDULED_MAX} statements wait already"
        )
    # Last, so that whoever gathers signatures learns at once of anything else that is wrong.
    _require_quorums(signed, state.charter)
    state = replace(state, sequence=statement.sequence, head=signed.digest)
    if isinstance(statement.action, Charter):
        state = _without_charters(state)
    if at <= state.as_of:
        return effect_of(state, statement.sequence, statement.action)
    waiting = (*state.scheduled, Scheduled(at, statement.sequence, statement.action))
    return replace(state, scheduled=tuple(sorted(waiting, key=lambda s: (s.at, s.sequence))))


def require_next(state: ControlState, signed: SignedStatement) -> None:
    """Check that a statement continues a chain; whether it is accepted is another matter.

    Args:
        state: of the statements before it.
        signed: the statement.

    Raises:
        PolicyDenied: STATEMENT_OTHER_TENANT, STATEMENT_STALE or STATEMENT_GAP.
        IntegrityError: STATEMENT_OTHER_PREVIOUS.
    """
    statement = signed.statement
    if statement.tenant != state.tenant:
        raise PolicyDenied(
            StatementCode.STATEMENT_OTHER_TENANT, f"of {statement.tenant}, not of {state.tenant}"
        )
    if statement.sequence <= state.sequence:
        raise PolicyDenied(
            StatementCode.STATEMENT_STALE,
            f"statement {statement.sequence}: the newest is {state.sequence} already",
        )
    if statement.sequence > state.sequence + 1:
        raise PolicyDenied(
            StatementCode.STATEMENT_GAP,
            f"statement {statement.sequence}: the newest here is {state.sequence}",
        )
    if statement.previous != str(state.head):
        raise IntegrityError(
            StatementCode.STATEMENT_OTHER_PREVIOUS,
            f"statement {statement.sequence} follows {statement.previous}, not {state.head}",
        )


def settled(state: ControlState, now: datetime) -> ControlState:
    """The state at a moment: what waited and is due has taken effect, in its order.

    Args:
        state: of an earlier moment.
        now: current time, timezone-aware.
    """
    while state.scheduled and state.scheduled[0].at <= now:
        due, *rest = state.scheduled
        state = replace(state, scheduled=tuple(rest), as_of=max(state.as_of, due.at))
        try:
            state = effect_of(state, due.sequence, due.action)
        except PolicyDenied as exc:
            state = replace(state, void=(*state.void, Void(due.sequence, exc.what)))
    return replace(state, as_of=max(state.as_of, now))


def _effective(state: ControlState, signed: SignedStatement) -> datetime:
    """When a statement takes effect. Raises PolicyDenied STATEMENT_LOCKED if that is too early."""
    statement, now = signed.statement, state.as_of
    if isinstance(statement.action, ALONE):
        return now
    delays: Mapping[str, int] = {str(kind): s for kind, s in state.charter.delays.items()}
    earliest = now + timedelta(seconds=delays.get(statement.kind, 0))
    at = now if statement.not_before is None else parse_rfc3339(statement.not_before)
    if at < earliest and earliest > now:
        raise PolicyDenied(
            StatementCode.STATEMENT_LOCKED,
            f"a {statement.kind} waits for {(earliest - now).total_seconds():.0f} s from now on; "
            f"its not_before is {statement.not_before or 'not set'}",
        )
    return max(at, now)


def _require_in_time(signed: SignedStatement, now: datetime) -> None:
    expires = signed.statement.expires
    if passed(parse_rfc3339(expires), now):
        raise PolicyDenied(
            StatementCode.STATEMENT_EXPIRED, f"its signatures could be gathered until {expires}"
        )


def _require_quorums(signed: SignedStatement, charter: Charter | None) -> None:
    lacking = [
        str(each) for each in quorums(signed.statement, charter, signed.signers) if not each.reached
    ]
    if lacking:
        raise PolicyDenied(
            StatementCode.STATEMENT_TOO_FEW_SIGNATURES, f"signed by {', and '.join(lacking)}"
        )


def _without_charters(state: ControlState) -> ControlState:
    """A new charter replaces one that still waits, so that its owners never come into force."""
    gone = [each for each in state.scheduled if isinstance(each.action, Charter)]
    return replace(
        state,
        scheduled=tuple(each for each in state.scheduled if each not in gone),
        void=(
            *state.void,
            *(Void(each.sequence, f"replaced by statement {state.sequence}") for each in gone),
        ),
    )
