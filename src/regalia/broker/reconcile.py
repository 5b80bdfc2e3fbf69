"""State and log watch each other: neither is used when it is older than the other says.

At the start the broker compares

(1) the log with the size and root that the state saw last: it must still contain them;
(2) the newest entries of the log with the state's leases and floors: it must know all of them;
(3) the clock with the highest time in both.

Entries beyond the last size that the state saw are those that were under way when a broker was
stopped. There are few of them, and the lease of a release was taken before its entry was written.
A state that was put back and is older by so few entries may look the same: it may be of a moment at
which a lease was claimed, and it may have forgotten which challenges were spent. So where there are
any, leases last as the log says, and every older challenge becomes unknown.

A loss that an operator accepts on purpose is written into the log: see ``recover``.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import sqlalchemy as sa

from regalia.broker.challenges import KEY_SIZE
from regalia.broker.codes import BrokerCode
from regalia.broker.floors import Versions, read_floor
from regalia.broker.state import LEASES, STATE, from_us, state, to_us
from regalia.broker.watermarks import note_log, read_watermarks, require_not_before
from regalia.core.clock import parse_rfc3339
from regalia.core.errors import IntegrityError, LogError, ParseError
from regalia.tlog.codes import TlogCode
from regalia.tlog.database import one_creates
from regalia.tlog.merkle import EMPTY_ROOT
from regalia.tlog.note import Checkpoint
from regalia.wire.release import LogNotice, parse_entry

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sqlalchemy.engine import Connection, Engine

    from regalia.broker.watermarks import Watermarks
    from regalia.tlog.log import Log, LogReader
    from regalia.wire.release import ReleaseRecord

GAP_MAX = 64  # entries that may have been under way when brokers were stopped
LOOK_BACK = 1024  # entries before them that are compared too
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Decision:
    """What an entry of the log says about the state.

    Attributes:
        index: of the entry.
        record: the decision.
        until: end of the lease that was given; None for a denial.
        returned: whether the lease was given back later.
    """

    index: int
    record: ReleaseRecord
    until: datetime | None
    returned: bool = False


def begin(engine: Engine, log: Log, now: datetime) -> Watermarks:
    """Compare state and log at the start of a broker, or begin both.

    Args:
        engine: the broker's state, with its tables.
        log: opened, so its stored tree is the one that was signed last.
        now: current time, timezone-aware.

    Returns:
        The state's watermarks, which have now seen all of the log.

    Raises:
        IntegrityError: STATE_LOST, STATE_BEHIND_LOG or LOG_BEHIND_STATE.
        LogError: LOG_FORKED, or the log cannot be read.
        UnavailableError: CLOCK_WENT_BACK or STATE_UNAVAILABLE.
    """
    with state(engine, writes=True) as connection:
        seen = read_watermarks(connection, lock=True)
        if seen is None and log.reader.size() == 0:
            one_creates(connection)
            if read_watermarks(connection, lock=True) is None:
                create(connection, now)
    # The order matters where other brokers are running: the state's size is read before the log,
    # which can only have grown, and leases are read after the entries that name them.
    if seen is None:
        seen = _require_seen(engine)
    size = log.reader.size()
    _compare_log(log.reader, seen, size)
    decisions = decisions_of(log.reader, max(0, seen.log_size - LOOK_BACK), size)
    with state(engine, writes=False) as connection:
        for decision in decisions:
            _compare_decision(connection, decision, seen, now)
    if size:
        require_not_before(_last_time(log.reader, size), now)
    require_not_before(seen.highest, now)
    checkpoint = Checkpoint(log.origin, size, log.reader.root_at(size))
    with state(engine, writes=True) as connection:
        return _caught_up(connection, checkpoint, decisions)


def _caught_up(
    connection: Connection, checkpoint: Checkpoint, decisions: list[Decision]
) -> Watermarks:
    seen = read_watermarks(connection, lock=True)
    if seen is None:
        raise IntegrityError(BrokerCode.STATE_LOST, "the broker's state is empty")
    for decision in decisions:
        _keep_lease(connection, decision, beyond=decision.index >= seen.log_size)
    if seen.log_size < checkpoint.size:
        note_log(connection, checkpoint)
        seen = replace(
            seen,
            challenge_key=renew_key(connection),
            log_size=checkpoint.size,
            log_root=checkpoint.root,
        )
    return seen


def _keep_lease(connection: Connection, decision: Decision, *, beyond: bool) -> None:
    """Let a lease last as the log says: its key may have gone out after the state was copied.

    Args:
        connection: in a writing transaction on the broker's state.
        decision: an entry of the log.
        beyond: whether the state has not seen the entry. If it has, another release may have told
            it so; then the lease's own claim tells whether this one was ever settled.
    """
    if decision.until is None or decision.returned:
        return
    mine = LEASES.c.lease_id == decision.record.lease_id
    end_us = to_us(end_of(decision.until))
    shorter = LEASES.update().where(mine, LEASES.c.expires_us < end_us)
    if not beyond:
        shorter = shorter.where(LEASES.c.claim_us != 0)
    connection.execute(shorter.values(expires_us=end_us))


def end_of(until: datetime) -> datetime:
    """When a lease has surely ended; times in records are whole seconds, rounded down.

    Args:
        until: of the record.
    """
    return until + timedelta(seconds=1)


def create(connection: Connection, now: datetime) -> None:
    """Write the state's row for an empty log, with a new key for challenges.

    Args:
        connection: in a writing transaction on the broker's state.
        now: current time, timezone-aware.
    """
    row = {"id": 1, "challenge_key": secrets.token_bytes(KEY_SIZE), "log_size": 0}
    row |= {"log_root": EMPTY_ROOT, "highest_us": to_us(now)}
    connection.execute(STATE.insert().values(row))


def renew_key(connection: Connection) -> bytes:
    """Make every challenge unknown that was issued before; whoever holds one asks for another.

    Args:
        connection: in a writing transaction on the broker's state.

    Returns:
        The new key of challenges.
    """
    key = secrets.token_bytes(KEY_SIZE)
    connection.execute(STATE.update().values(challenge_key=key))
    return key


def _require_seen(engine: Engine) -> Watermarks:
    with state(engine, writes=False) as connection:
        seen = read_watermarks(connection, lock=False)
    if seen is None:
        raise IntegrityError(
            BrokerCode.STATE_LOST, "the log holds decisions, and the broker's state is empty"
        )
    return seen


def _compare_log(reader: LogReader, seen: Watermarks, size: int) -> None:
    if size < seen.log_size:
        raise IntegrityError(
            BrokerCode.LOG_BEHIND_STATE, f"the log has {size} entries and had {seen.log_size}"
        )
    if reader.root_at(seen.log_size) != seen.log_root:
        raise LogError(
            TlogCode.LOG_FORKED, f"the first {seen.log_size} entries are not those seen before"
        )
    if size - seen.log_size > GAP_MAX:
        raise IntegrityError(
            BrokerCode.STATE_BEHIND_LOG,
            f"the log has {size} entries, and the state has seen {seen.log_size}",
        )


def decisions_of(reader: LogReader, first: int, last: int) -> list[Decision]:
    """The decisions among the entries ``first`` to ``last`` - 1, in their order.

    Args:
        reader: of a log whose stored tree is the one that was signed last.
        first: index of the first entry.
        last: index after the last entry.

    Raises:
        LogError: the log cannot be read, or LOG_INCONSISTENT.
    """
    found: dict[int, Decision] = {}
    of_lease: dict[str, list[int]] = {}
    for index, record in _entries(reader, first, last):
        if isinstance(record, LogNotice):
            if record.kind == "lease-returned":
                # A release that stands behind the notice is of a renewal that came too late.
                for earlier in of_lease.pop(record.what, ()):
                    found[earlier] = replace(found[earlier], returned=True)
            continue
        found[index] = _decision(index, record)
        of_lease.setdefault(record.lease_id, []).append(index)
    return list(found.values())


def _decision(index: int, record: ReleaseRecord) -> Decision:
    try:
        released = record.decision == "release"
        return Decision(index, record, parse_rfc3339(record.lease_until) if released else None)
    except ValueError as exc:
        raise LogError(TlogCode.LOG_INCONSISTENT, f"entry {index} is no record") from exc


def _entries(
    reader: LogReader, first: int, last: int
) -> Iterator[tuple[int, ReleaseRecord | LogNotice]]:
    for start in range(first, last, LOOK_BACK):
        entries = reader.entries(start, min(start + LOOK_BACK, last))
        for index, entry in enumerate(entries, start):
            try:
                record = parse_entry(entry)
            except ParseError as exc:
                raise LogError(TlogCode.LOG_INCONSISTENT, f"entry {index} is no record") from exc
            yield index, record


def _last_time(reader: LogReader, size: int) -> datetime:
    """Time of the last entry of the log, a decision or a notice."""
    (entry,) = reader.entries(size - 1, size)
    try:
        return parse_rfc3339(parse_entry(entry).time)
    except (ParseError, ValueError) as exc:
        raise LogError(TlogCode.LOG_INCONSISTENT, f"entry {size - 1} has no time") from exc


def _compare_decision(
    connection: Connection, decision: Decision, seen: Watermarks, now: datetime
) -> None:
    record = decision.record
    if decision.until is None:
        return  # a denial changes no lease, and its policy may be of the time before
    floor = read_floor(connection, record.model_id, lock=False)
    if floor is None or floor.policy_version < record.policy_version:
        raise _behind(decision, f"policy version {record.policy_version} of {record.model_id}")
    # A lease that has ended may be forgotten, but not one that was under way when brokers were
    # stopped: it stood in the state before its release stood in the log.
    under_way = decision.index >= seen.log_size
    if not under_way and (decision.returned or decision.until <= now):
        return
    asked_us = connection.execute(
        sa.select(LEASES.c.asked_us).where(LEASES.c.lease_id == record.lease_id)
    ).scalar()
    # Times in records are whole seconds, rounded down.
    if asked_us is None or from_us(asked_us) < decision.until:
        raise _behind(decision, f"{record.lease_id} until {record.lease_until}")


def _behind(decision: Decision, what: str) -> IntegrityError:
    return IntegrityError(
        BrokerCode.STATE_BEHIND_LOG, f"log entry {decision.index} names {what}; the state does not"
    )


def floors_of(decisions: Iterable[Decision]) -> dict[str, Versions]:
    """The highest versions under which each model was released.

    Args:
        decisions: of the whole log, in its order.
    """
    found: dict[str, Versions] = {}
    for record in (decision.record for decision in decisions if decision.until is not None):
        mine = Versions(
            record.model_id, record.policy_version, record.policy_id, record.model_version
        )
        other = found.get(record.model_id, mine)
        policy = max(other, mine, key=lambda each: each.policy_version)
        found[record.model_id] = Versions(
            record.model_id,
            policy.policy_version,
            policy.policy_id,
            max(other.model_version, mine.model_version),
        )
    return found
