"""Accepts, on an operator's word, that state, log or time went back. The log says so for ever.

Leases and floors of a lost state are rebuilt from the log. The log does not say who holds a lease,
so a rebuilt one belongs to nobody: it keeps its place until it ends, and is not renewed.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from regalia.broker.codes import BrokerCode
from regalia.broker.floors import Versions, read_floor, write_floor
from regalia.broker.reconcile import begin, create, decisions_of, end_of, floors_of, renew_key
from regalia.broker.state import LEASES, SPENT, STATE, state, to_us
from regalia.broker.statement_floors import forget_floors
from regalia.broker.watermarks import read_watermarks
from regalia.core.clock import rfc3339
from regalia.core.errors import RegaliaError, UsageError
from regalia.tlog.codes import TlogCode
from regalia.wire.release import NOTICE_FORMAT, LogNotice

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.engine import Connection, Engine

    from regalia.broker.reconcile import Decision
    from regalia.core.errors import Code
    from regalia.tlog.log import Log
    from regalia.tlog.note import Checkpoint


class Loss(StrEnum):
    """What an operator can accept."""

    STATE = "state"
    LOG = "log"
    CLOCK = "clock"


_CODES: dict[Loss, frozenset[Code]] = {
    Loss.STATE: frozenset({BrokerCode.STATE_LOST, BrokerCode.STATE_BEHIND_LOG}),
    Loss.LOG: frozenset({BrokerCode.LOG_BEHIND_STATE, TlogCode.LOG_FORKED}),
    Loss.CLOCK: frozenset({BrokerCode.CLOCK_WENT_BACK}),
}


def recover(engine: Engine, log: Log, loss: Loss, now: datetime) -> str:
    """Accept one loss; ``begin`` may then find another. No broker may be running.

    Args:
        engine: the broker's state, with its tables.
        log: opened.
        loss: what the operator accepts.
        now: current time, timezone-aware.

    Returns:
        What was found wrong, in one sentence.

    Raises:
        UsageError: NOTHING_TO_RECOVER.
        RegaliaError: something else is wrong than what is accepted; nothing was changed.
    """
    try:
        begin(engine, log, now)
    except RegaliaError as exc:
        if exc.code not in _CODES[loss]:
            raise
        found = exc
    else:
        raise UsageError(BrokerCode.NOTHING_TO_RECOVER, "state, log and clock agree")
    _require_writable(engine)
    if loss is Loss.STATE:
        _rebuild_state(engine, log, now, found.what)
    elif loss is Loss.LOG:
        _adopt_log(engine, log, now, found.what)
    else:
        checkpoint = log.note(_notice("clock-accepted", log, now, 0, found.what))
        with state(engine, writes=True) as connection:
            _set_log(connection, checkpoint)
            connection.execute(STATE.update().values(highest_us=to_us(now)))
    return found.what


def _require_writable(engine: Engine) -> None:
    """Fail before the log is written, where the state cannot be: each try would add a notice."""
    row = {"challenge": b"", "expires_us": 0, "uses": 0}  # of no request
    with state(engine, writes=True) as connection:
        connection.execute(SPENT.insert().values(row))
        connection.execute(SPENT.delete().where(SPENT.c.challenge == row["challenge"]))


def _rebuild_state(engine: Engine, log: Log, now: datetime, what: str) -> None:
    decisions = decisions_of(log.reader, 0, log.reader.size())
    with state(engine, writes=False) as connection:
        seen = read_watermarks(connection, lock=False)
    missed = len(decisions) if seen is None else max(0, log.reader.size() - seen.log_size)
    # Before the state is rebuilt: killed in between, the loss is found again, and accepted again.
    checkpoint = log.note(_notice("state-loss-accepted", log, now, missed, what))
    with state(engine, writes=True) as connection:
        if seen is None:
            create(connection, now)
        for versions in floors_of(decisions).values():
            _raise_floor(connection, versions)
        for decision in decisions:
            _add_lease(connection, decision, now)
        _set_log(connection, checkpoint)


def _raise_floor(connection: Connection, versions: Versions) -> None:
    floor = read_floor(connection, versions.model_id, lock=True) or versions
    newer = max(floor, versions, key=lambda each: each.policy_version)
    model_version = max(floor.model_version, versions.model_version)
    write_floor(
        connection,
        Versions(versions.model_id, newer.policy_version, newer.policy_id, model_version),
    )


def _add_lease(connection: Connection, decision: Decision, now: datetime) -> None:
    """Keep the place of a lease that has not ended. An older copy may know it with an older end."""
    if decision.until is None or decision.until <= now or decision.returned:
        return
    mine = LEASES.c.lease_id == decision.record.lease_id
    ends = dict.fromkeys(("asked_us", "expires_us"), to_us(end_of(decision.until)))
    if connection.execute(LEASES.update().where(mine).values(ends)).rowcount:
        return
    row = {
        "lease_id": decision.record.lease_id,
        "model_id": decision.record.model_id,
        "holder": f"log:{decision.record.lease_id}",
        "peer": "",
        "claim_us": 0,
    }
    connection.execute(LEASES.insert().values(row | ends))


def _adopt_log(engine: Engine, log: Log, now: datetime, what: str) -> None:
    with state(engine, writes=False) as connection:
        seen = read_watermarks(connection, lock=False)
    lost = 0 if seen is None else max(0, seen.log_size - log.reader.size())
    root = "" if seen is None else f"; the state had seen root {seen.log_root.hex()}"
    checkpoint = log.note(_notice("log-loss-accepted", log, now, lost, what + root))
    with state(engine, writes=True) as connection:
        forget_floors(connection)
        _set_log(connection, checkpoint)


def _notice(kind: str, log: Log, now: datetime, count: int, what: str) -> LogNotice:
    return LogNotice(
        format=NOTICE_FORMAT,
        kind=kind,  # type: ignore[arg-type] # one of the literals
        time=rfc3339(now),
        since=rfc3339(now),
        broker=log.origin,
        count=count,
        what=what,
    )


def _set_log(connection: Connection, checkpoint: Checkpoint) -> None:
    """Accept the log as it is. Old challenges become unknown: spent ones may be forgotten."""
    renew_key(connection)
    connection.execute(STATE.update().values(log_size=checkpoint.size, log_root=checkpoint.root))
