"""Attacks on statements: by strangers, by one owner, and by whoever writes to the databases."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from regalia.core.clock import rfc3339
from regalia.tlog.database import ENTRIES, STATEMENTS
from regalia.wire.statement import Resume, Revoke, Rotate, log_statement
from regalia_testing.statements import charter_of, envelope, owner_key
from tests.broker.harness import ORIGIN
from tests.broker.owners import STOP, Owners
from tests.broker.test_admin_api import rows

if TYPE_CHECKING:
    from tests.broker.harness import Deployment

EARLY = "2001-01-01T00:00:00Z"


@pytest.fixture
def owners(deployment: Deployment) -> Owners:
    made = Owners(deployment)
    made.serve()
    return made


def test_a_stranger_proposes_themselves_as_owners(owners: Owners) -> None:
    """The owners of a new charter may sign it, and take no place in doing so."""
    for number in range(9):
        name = f"eve{number}"
        data = owners.proposal(charter_of((name,), 1), name)
        assert owners.refused(data) == (403, "SIGNER_UNKNOWN")
    assert rows(owners.deployment) == (0, 0)
    owners.submitted(owners.proposal(Rotate(new="b", old="a"), "ann"))


def test_an_owner_is_counted_by_their_own_key(owners: Owners) -> None:
    """Whoever signs with a key of a new charter as well is no other proposer by that."""
    mine = str(owner_key("ann").verify_key.fingerprint)
    lower = [n for n in map("eve{}".format, range(60)) if fingerprint_of(n) < mine][:4]
    for name in lower[:3]:
        owners.submitted(owners.proposal(charter_of(("ann", name), 2), "ann", name))
    data = owners.proposal(charter_of(("ann", lower[3]), 2), "ann", lower[3])
    assert owners.refused(data) == (403, "PROPOSALS_EXHAUSTED")


def fingerprint_of(name: str) -> str:
    return str(owner_key(name).verify_key.fingerprint)


def test_a_former_owner_s_signature_spoils_no_proposal(deployment: Deployment) -> None:
    """A charter that waited comes into force without a statement that overtakes proposals."""
    owners = Owners(deployment)
    owners.found()
    tenant = owners.tenant
    tenant.now = deployment.now
    later = deployment.now + timedelta(seconds=60)
    change = tenant.statement(charter_of(("ben", "cyd"), 2), not_before=later)
    assert owners.submitted(envelope(change, ("ann", "ben", "cyd"))).accepted
    tenant.now = deployment.now
    pending = tenant.statement(Rotate(new="b", old="a"))
    owners.submitted(envelope(pending, ("ann",)))
    deployment.pass_time(61)
    assert owners.status().pending == []
    assert owners.submitted(envelope(pending, ("ben",))).signed == ["ben"]
    assert owners.status().pending[0].missing == ["cyd"]
    assert owners.submitted(envelope(pending, ("cyd",))).accepted


def test_a_stop_that_is_hidden_before_anybody_asks(deployment: Deployment, owners: Owners) -> None:
    """The owner was told that it is accepted, so the broker has to remember it."""
    deployment.open(deployment.ask())
    owners.act(STOP, "cyd")
    with deployment.log_engine.begin() as connection:
        connection.execute(STATEMENTS.delete().where(STATEMENTS.c.sequence == 7))
    deployment.restart()
    assert deployment.refused(deployment.ask()).code == "STATEMENT_CHAIN_BROKEN"


def test_a_longer_chain_that_leaves_a_stop_out(deployment: Deployment, owners: Owners) -> None:
    """The log's table says what is the newest, so a changed one lets it take others behind."""
    other = owners.tenant.copy()
    owners.act(STOP, "cyd")
    assert deployment.denied(deployment.ask()) == ["EMERGENCY_STOPPED"]
    with deployment.log_engine.begin() as connection:
        connection.execute(STATEMENTS.delete().where(STATEMENTS.c.sequence == 7))
    for value in ("sev-snp:01", "sev-snp:02"):
        other.act(Revoke(subject="chip", value=value), "cyd")
        entry = log_statement(other.chain[-1], broker=ORIGIN, time=rfc3339(deployment.now))
        deployment.log.publish(entry)
    deployment.restart()
    answer = deployment.ask()
    code = deployment.refused(answer).code
    assert (answer.status_code, code) == (503, "STATEMENT_CHAIN_BROKEN")
    assert deployment.store.unwrapped == []


def put(deployment: Deployment, data: bytes, sequence: int, digest: str) -> None:
    """Write a statement where the log's database has them, and not into the log."""
    entry = log_statement(data, broker=ORIGIN, time=rfc3339(deployment.now)).encode()
    row = {"tenant": "acme", "sequence": sequence, "digest": digest, "idx": 1000}
    with deployment.log_engine.begin() as connection:
        connection.execute(ENTRIES.insert().values(idx=1000, entry=entry))
        connection.execute(STATEMENTS.insert().values(row))


def test_a_statement_that_the_log_never_had(deployment: Deployment, owners: Owners) -> None:
    """Enough owners have signed it; but it was too late, and nobody reads it in the log."""
    owners.act(STOP, "cyd")
    assert deployment.denied(deployment.ask()) == ["EMERGENCY_STOPPED"]
    owners.tenant.now = deployment.now
    statement = owners.tenant.statement(Resume(model_id=None))
    data = envelope(statement, ("ann", "ben"))
    put(deployment, data, 8, str(statement.digest()))
    for restart in (False, True):
        if restart:
            deployment.restart()
        answer = deployment.ask()
        assert (answer.status_code, deployment.refused(answer).code) == (503, "LOG_INCONSISTENT")
    assert deployment.store.unwrapped == []


def test_a_statement_whose_moment_was_changed(deployment: Deployment, owners: Owners) -> None:
    """Time-locks count from it, and no owner's signature covers it."""
    with deployment.log_engine.begin() as connection:
        entry = log_statement(
            envelope(owners.first, owners.tenant.owners), broker=ORIGIN, time=EARLY
        )
        where = ENTRIES.c.idx == 0
        connection.execute(ENTRIES.update().where(where).values(entry=entry.encode()))
    deployment.restart()
    answer = deployment.ask()
    assert (answer.status_code, deployment.refused(answer).code) == (503, "LOG_INCONSISTENT")


def test_a_signature_that_is_kept_makes_no_complete_statement_too_large(
    owners: Owners, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pairs with ML-DSA-65 sign in thousands of bytes; who is outvoted may have signed first."""
    statement = owners.tenant.statement(Rotate(new="b", old="a"))
    complete = envelope(statement, ("ben", "cyd"))
    owners.submitted(envelope(statement, ("ann",)))
    monkeypatch.setattr("regalia.control.verify.ENVELOPE_LIMIT", len(complete))
    assert owners.submitted(complete).accepted
