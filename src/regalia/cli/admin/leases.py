"""Says what a statement would do to live leases, from a broker's public log."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from regalia.cli.admin.chains import fold_entries, now
from regalia.cli.log import log_source, read_log_key
from regalia.cli.output import say, show_json
from regalia.control.leases import LiveLease, simulated
from regalia.control.verify import read_unverified
from regalia.core.clock import parse_rfc3339
from regalia.core.errors import CoreCode, LogError, UsageError
from regalia.core.types import Digest
from regalia.host.localfs import read_file
from regalia.tlog.audit import audit_log
from regalia.tlog.codes import TlogCode
from regalia.tlog.statements import statement_in
from regalia.wire.release import LogNotice, ReleaseRecord
from regalia.wire.statement import ENVELOPE_LIMIT, LogStatement

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from regalia.control.leases import LostLease, Simulation
    from regalia.wire.release import LogEntry

_SHORT = 12


@dataclass(slots=True)
class _Seen:
    """What an audit passed by: statements of one tenant, and releases by lease."""

    tenant: str
    statements: list[bytes] = field(default_factory=list)
    leases: dict[str, LiveLease] = field(default_factory=dict)

    def visit(self, index: int, entry: LogEntry) -> None:
        if isinstance(entry, LogStatement):
            if statement_in(entry).tenant == self.tenant:
                self.statements.append(entry.encode())
        elif isinstance(entry, ReleaseRecord):
            if entry.decision == "release":
                self.leases[entry.lease_id] = LiveLease(index, entry)
        elif isinstance(entry, LogNotice) and entry.kind == "lease-returned":
            self.leases.pop(entry.what, None)

    def live(self, at: datetime) -> list[LiveLease]:
        """Leases that have not ended. Raises LogError LOG_INCONSISTENT."""
        found = []
        for each in self.leases.values():
            try:
                until = parse_rfc3339(each.record.lease_until)
            except ValueError as exc:
                raise LogError(TlogCode.LOG_INCONSISTENT, f"entry {each.index}: no time") from exc
            if until > at:
                found.append(each)
        return found


def show_lost_leases(
    file: Path, *, url: str | None, database: str | None, log_key: str, charter: str, as_json: bool
) -> None:
    """Show which live leases would lose the key, and why.

    Args:
        file: the statement, signed or not.
        url: of the broker; None if ``database`` is given.
        database: of the log; None if ``url`` is given.
        log_key: verifier key of the log, or its file.
        charter: digest of the tenant's statement 1.
        as_json: print for programs.

    Raises:
        RegaliaError: the log or the chain does not verify, or the statement does not fit it.
        UsageError: BAD_USAGE, the tenant has no statements in this log.
    """
    known = Digest.parse(charter)
    _, statement = read_unverified(read_file(file, limit=ENVELOPE_LIMIT))
    seen = _Seen(statement.tenant)
    with log_source(url, database) as source:
        audit_log(source, read_log_key(log_key), remembered=None, visit=seen.visit)
    state = fold_entries(seen.statements, known).state
    if state is None:
        raise UsageError(CoreCode.BAD_USAGE, f"{statement.tenant} has no statements in this log")
    at = now()
    models = {model_id for model_id, _ in state.models}
    live = [each for each in seen.live(at) if each.record.model_id in models]
    found = simulated(state, statement, live, at)
    if as_json:
        show_json(
            {
                "ok": True,
                "live": len(live),
                "lost": [_facts(each) for each in found.lost],
                "refused_already": [each.record.lease_id for each in found.refused],
                "digest": str(statement.digest()),
            }
        )
        return
    _say(len(live), found)


def _say(live: int, found: Simulation) -> None:
    lost = len(found.lost)
    say(f"{lost} of {live} live leases would not be renewed{':' if lost else '.'}")
    if found.refused:
        say(f"{len(found.refused)} others cannot be renewed as it is.")
    for each in found.lost:
        record = each.lease.record
        say(
            f"  {record.lease_id} (entry {each.lease.index}, {record.product}, "
            f"{record.model_id.rpartition(':')[2][:_SHORT]} v{record.model_version}) "
            f"would end at {record.lease_until}"
        )
        for code, what in each.reasons:
            say(f"    {code.name}: {what}")


def _facts(each: LostLease) -> dict[str, object]:
    record = each.lease.record
    return {
        "lease_id": record.lease_id,
        "index": each.lease.index,
        "model_id": record.model_id,
        "model_version": record.model_version,
        "ends": record.lease_until,
        "reasons": [{"code": code.name, "what": what} for code, what in each.reasons],
    }
