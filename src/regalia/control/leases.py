"""Which live leases a statement would end: releases are judged again, as their records say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from regalia.control.effects import effect_of
from regalia.control.findings import RecordedFacts, recorded_findings
from regalia.control.fold import settled

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from regalia.control.findings import Reason
    from regalia.control.state import ControlState
    from regalia.wire.release import ReleaseRecord
    from regalia.wire.statement import Statement


@dataclass(frozen=True, slots=True)
class LiveLease:
    """The newest release of a lease that has not ended."""

    index: int
    record: ReleaseRecord


@dataclass(frozen=True, slots=True)
class LostLease:
    """A lease that could not be renewed, and why."""

    lease: LiveLease
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class Simulation:
    """What a statement would do.

    Attributes:
        lost: leases that could be renewed now, and could not with the statement.
        refused: leases that cannot be renewed now either.
    """

    lost: tuple[LostLease, ...]
    refused: tuple[LiveLease, ...]


def facts_of(record: ReleaseRecord) -> RecordedFacts:
    """What a record says of its release."""
    machines = {*record.devices, f"{record.tee}:{record.chip_id}"}
    return RecordedFacts(
        model_id=record.model_id,
        model_version=record.model_version,
        policy_id=record.policy_id,
        measurement=f"{record.tee}:{record.measurement}",
        machines=frozenset(machines),
        runtime=record.recipient,
    )


def simulated(
    state: ControlState, statement: Statement, leases: Iterable[LiveLease], now: datetime
) -> Simulation:
    """Judge live leases as the owners do now, and as they would with a statement in force.

    Args:
        state: of the tenant's statements.
        statement: whose signatures and times are not looked at.
        leases: live ones.
        now: current time, timezone-aware.

    Raises:
        PolicyDenied: STATEMENT_NOT_IN_THIS_STATE.
    """
    before = settled(state, now)
    after = effect_of(before, statement.sequence, statement.action)
    lost: list[LostLease] = []
    refused: list[LiveLease] = []
    for lease in leases:
        facts = facts_of(lease.record)
        if recorded_findings(before, facts, now):
            refused.append(lease)
        elif reasons := recorded_findings(after, facts, now):
            lost.append(LostLease(lease, tuple(reasons)))
    return Simulation(tuple(lost), tuple(refused))
