"""Statements and releases: what owners decide holds from the log entry on, also for renewals."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from regalia.broker.administration import Administration
from regalia.broker.recover import Loss
from regalia.broker.statement_floors import StatementFloors
from regalia.broker.tenants import Tenants
from regalia.core.clock import rfc3339
from regalia.core.errors import LogError, PolicyDenied, RegaliaError
from regalia.core.types import Digest
from regalia.tlog.audit import audit_log
from regalia.tlog.database import STATEMENTS
from regalia.tlog.log import Log
from regalia.tlog.note import parse_log_key
from regalia.tlog.source import DatabaseSource
from regalia.wire.statement import ModelVersion, Resume, Revoke, Rotate, Terms, log_statement
from regalia_testing.statements import envelope
from tests.broker.harness import MODEL_KEY, ORIGIN, Deviation
from tests.broker.owners import IMAGE, OPEN, STOP, Owners
from tests.broker.test_lease_return import leases_of
from tests.broker.test_reconcile import LOG_FILES, code_of, keep, put_back, recovered

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.broker.harness import Deployment


@pytest.fixture
def owners(deployment: Deployment) -> Owners:
    made = Owners(deployment)
    made.serve()
    return made


def audited(deployment: Deployment) -> Any:  # noqa: ANN401
    return audit_log(
        DatabaseSource(deployment.log.reader),
        parse_log_key(deployment.shared.log_key),
        remembered=None,
        visit=lambda *_: None,
    )


def test_a_release_names_the_newest_statement(deployment: Deployment, owners: Owners) -> None:
    deployment.open(deployment.ask())
    assert owners.tenant.state is not None
    assert deployment.records()[-1].control == str(owners.tenant.state.head)
    audit = audited(deployment)
    assert audit.unexplained == ()
    assert audit.heads["acme"].sequence == 6
    assert audit.charters == {"acme": owners.first.digest()}
    assert len(deployment.statements()) == 6


def test_a_model_without_a_tenant_is_released_as_before(deployment: Deployment) -> None:
    deployment.open(deployment.ask())
    assert deployment.records()[-1].control == ""
    assert audited(deployment).unexplained == ()


def test_nothing_is_released_without_a_charter(deployment: Deployment) -> None:
    owners = Owners(deployment)
    assert deployment.denied(deployment.ask()) == ["TENANT_WITHOUT_CHARTER"]
    owners.found()
    assert deployment.denied(deployment.ask()) == [
        "MODEL_UNREGISTERED",
        "POLICY_UNPUBLISHED",
        "MEASUREMENT_UNLISTED",
    ]


def test_each_decision_is_needed(deployment: Deployment) -> None:
    owners = Owners(deployment)
    owners.found()
    *others, last = owners.actions()
    for action in others:
        owners.act(action)
        assert deployment.ask().status_code == 403
    owners.act(last)
    deployment.open(deployment.ask())


def revoked(subject: Any, value: Callable[[Deployment], str]) -> Callable[[Deployment], Revoke]:  # noqa: ANN401
    return lambda deployment: Revoke(subject=subject, value=value(deployment))


REVOKED: dict[str, tuple[Callable[[Deployment], Revoke], str]] = {
    "measurement": (revoked("measurement", lambda _: IMAGE), "MEASUREMENT_REVOKED"),
    "chip": (
        revoked("chip", lambda d: f"sev-snp:{d.records()[-1].chip_id}"),
        "CHIP_REVOKED",
    ),
    "signer": (
        revoked("signer", lambda d: str(d.shared.owner.verify_key.fingerprint)),
        "SIGNER_REVOKED",
    ),
    "runtime": (revoked("runtime", lambda d: d.records()[-1].recipient), "RUNTIME_REVOKED"),
    "model version": (
        revoked("model-version", lambda d: f"{d.model_id}@3"),
        "MODEL_VERSION_REVOKED",
    ),
}


@pytest.mark.parametrize("name", REVOKED)
def test_a_revocation_by_one_owner_refuses_renewals_at_once(
    deployment: Deployment, owners: Owners, name: str
) -> None:
    make, code = REVOKED[name]
    lease_id = deployment.granted(deployment.ask()).lease_id
    deployment.store.unwrapped.clear()
    owners.act(make(deployment), "cyd")
    assert deployment.denied(deployment.ask(Deviation(request={"lease_id": lease_id}))) == [code]
    assert leases_of(deployment) == 1, "the lease still counts: the runtime has the key until then"
    deployment.pass_time(601)
    assert leases_of(deployment) == 0


def test_a_stop_by_one_owner_and_a_resumption_by_two(
    deployment: Deployment, owners: Owners
) -> None:
    owners.act(STOP, "cyd")
    assert deployment.denied(deployment.ask()) == ["EMERGENCY_STOPPED"]
    alone = owners.proposal(Resume(model_id=None), "cyd")
    assert owners.submitted(alone).lacking == ["1 of 2 of the owners; not ann, ben"]
    assert deployment.denied(deployment.ask()) == ["EMERGENCY_STOPPED"]
    owners.act(Resume(model_id=None))
    deployment.open(deployment.ask())


@pytest.mark.parametrize(
    ("terms", "code"),
    [
        ({"sites": ["two"]}, "TERM_SITE"),
        ({"jurisdictions": ["us"]}, "TERM_JURISDICTION"),
        ({"roles": ["reseller"]}, "TERM_ROLE"),
        ({"ends": "2026-01-01T00:00:00Z"}, "TERM_ENDED"),
    ],
)
def test_terms(deployment: Deployment, terms: dict[str, Any], code: str) -> None:
    Owners(deployment).serve(msgspec.structs.replace(OPEN, **terms))
    assert deployment.denied(deployment.ask()) == [code]


def test_terms_that_are_kept(deployment: Deployment) -> None:
    terms = Terms(
        ends="2099-01-01T00:00:00Z",
        sites=["one", "two"],
        jurisdictions=["eu"],
        roles=["own"],
        derivatives="none",
    )
    Owners(deployment).serve(terms)
    assert deployment.open(deployment.ask()) == MODEL_KEY


def test_a_version_retires_at_its_date(deployment: Deployment, owners: Owners) -> None:
    until = rfc3339(deployment.now)
    owners.act(
        ModelVersion(model_id=str(deployment.model_id), transition="retire", until=until, version=3)
    )
    deployment.open(deployment.ask())
    deployment.store.unwrapped.clear()
    deployment.pass_time(1)
    assert deployment.denied(deployment.ask()) == ["MODEL_VERSION_RETIRED"]


def test_a_rotated_kek_unwraps_no_more(deployment: Deployment, owners: Owners) -> None:
    owners.act(Rotate(new="model-2", old="model"))
    assert deployment.denied(deployment.ask()) == ["KEK_ROTATED"]


def test_an_operator_who_changes_the_policy_alone(deployment: Deployment, owners: Owners) -> None:
    deployment.policy = msgspec.structs.replace(deployment.policy, version=6, holders_max=9)
    deployment.restart()
    assert deployment.denied(deployment.ask()) == ["POLICY_UNPUBLISHED"]
    assert owners.status().sequence == 6


def test_an_operator_who_takes_the_tenant_out_is_seen_by_auditors(
    deployment: Deployment, owners: Owners
) -> None:
    owners.act(STOP, "cyd")
    deployment.tenant, deployment.charters = None, {}
    deployment.restart()
    deployment.open(deployment.ask())
    (found,) = audited(deployment).unexplained
    assert found.why.startswith("names no statement, and acme registered ")


def test_a_statement_between_decision_and_log_stops_the_release(
    deployment: Deployment, owners: Owners, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = Log.append

    def overtaken(log: Log, record: Any) -> Any:  # noqa: ANN401
        monkeypatch.setattr(Log, "append", append)
        owners.act(STOP, "cyd")
        return append(log, record)

    monkeypatch.setattr(Log, "append", overtaken)
    answer = deployment.ask()
    assert (answer.status_code, deployment.refused(answer).code) == (503, "STATEMENT_INTERVENED")
    assert deployment.store.unwrapped == []
    assert leases_of(deployment) == 0
    assert [record.decision for record in deployment.records()] == []
    assert deployment.denied(deployment.ask()) == ["EMERGENCY_STOPPED"]


def test_another_broker_on_the_same_log_follows_at_once(
    deployment: Deployment, owners: Owners
) -> None:
    deployment.open(deployment.ask())
    floors = StatementFloors(deployment.state_engine)
    other = Tenants(deployment.log, deployment.charters, floors)
    first = other.state("acme")
    assert first is not None
    owners.act(STOP, "cyd")
    second = other.state("acme")
    assert second is not None
    assert (first.stops, second.stops) == ({}, {"": 7})


@pytest.mark.parametrize("moment", ["before", "behind"])
def test_a_broker_killed_around_the_log_entry(
    deployment: Deployment, owners: Owners, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Before it nothing has changed; behind it the statement is in force at the next start."""
    publish = Log.publish

    class KilledError(Exception):
        """The process ends here."""

    def killed(log: Log, entry: Any) -> Any:  # noqa: ANN401
        if moment == "behind":
            publish(log, entry)
        raise KilledError

    data = owners.proposal(STOP, "cyd")
    with monkeypatch.context() as patch:
        patch.setattr(Log, "publish", killed)
        with pytest.raises(KilledError):
            deployment.broker.administration.take(data, deployment.now)
    deployment.restart()
    if moment == "behind":
        assert deployment.denied(deployment.ask()) == ["EMERGENCY_STOPPED"]
        assert owners.status().sequence == 7
        return
    deployment.open(deployment.ask())
    assert owners.submitted(data).accepted


def test_the_log_takes_no_statement_out_of_order(deployment: Deployment, owners: Owners) -> None:
    """Whatever a broker is made to append: the log itself keeps the chain."""
    behind = owners.tenant.copy()
    behind.now = deployment.now
    behind.act(STOP, "cyd")
    later = envelope(behind.statement(Resume(model_id=None)), ("ann", "ben"))
    for data in (later, envelope(owners.first, owners.tenant.owners)):
        entry = log_statement(data, broker=ORIGIN, time=rfc3339(deployment.now))
        with pytest.raises(LogError, match="STATEMENT_CHAIN_BROKEN"):
            deployment.log.publish(entry)
    assert len(deployment.statements()) == 6


def test_a_forged_statement_in_the_log_is_not_followed(
    deployment: Deployment, owners: Owners
) -> None:
    """The log's operator can append what no owner signed, and the broker then releases nothing."""
    owners.tenant.now = deployment.now
    forged = envelope(owners.tenant.statement(Rotate(new="b", old="a")), ("eve", "fay"))
    deployment.log.publish(log_statement(forged, broker=ORIGIN, time=rfc3339(deployment.now)))
    answer = deployment.ask()
    assert answer.status_code == 503
    assert deployment.store.unwrapped == []
    with pytest.raises(LogError, match="SIGNER_UNKNOWN"):
        deployment.broker.administration.tenants.state("acme")


def test_a_log_that_lost_statements_is_noticed(
    deployment: Deployment, owners: Owners, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenants = deployment.broker.administration.tenants
    tenants.state("acme")
    head = deployment.log.reader.head("acme")
    shorter = replace(head, sequence=5, digest=Digest(bytes(32)))
    monkeypatch.setattr(type(deployment.log.reader), "head", lambda *_: shorter)
    with pytest.raises(LogError, match="STATEMENT_CHAIN_BROKEN"):
        tenants.state("acme")
    assert owners.tenant.name == "acme"


def test_a_stop_that_was_taken_out_of_the_log_s_table(
    deployment: Deployment, owners: Owners
) -> None:
    """The entry still stands in the log; whoever writes to its database hides it from brokers."""
    owners.act(STOP, "cyd")
    assert deployment.denied(deployment.ask()) == ["EMERGENCY_STOPPED"]
    with deployment.log_engine.begin() as connection:
        connection.execute(STATEMENTS.delete().where(STATEMENTS.c.sequence == 7))
    for restart in (False, True):
        if restart:
            deployment.restart()
        answer = deployment.ask()
        code = deployment.refused(answer).code
        assert (answer.status_code, code) == (503, "STATEMENT_CHAIN_BROKEN")
    assert deployment.store.unwrapped == []


def test_a_lost_log_that_is_accepted_begins_its_chains_anew(
    deployment: Deployment, owners: Owners
) -> None:
    older = keep(deployment, "older", LOG_FILES)
    owners.act(STOP, "cyd")
    put_back(deployment, older, LOG_FILES)
    assert code_of(deployment.restart) == "LOG_BEHIND_STATE"
    recovered(deployment, Loss.LOG)
    deployment.restart()
    assert deployment.notices()[-1].kind == "log-loss-accepted"
    assert owners.status().sequence == 6


def test_two_brokers_accept_different_statements(
    deployment: Deployment, owners: Owners, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two for one place, the log takes the first; the other one is stale."""
    slow = owners.proposal(Rotate(new="b", old="a"), "ann", "ben")
    fast = owners.proposal(STOP, "cyd")
    administration = deployment.broker.administration
    publish = Administration._publish

    def overtaken(self: Administration, *args: Any) -> Any:  # noqa: ANN401
        monkeypatch.setattr(Administration, "_publish", publish)
        administration.take(fast, deployment.now)
        return publish(self, *args)

    monkeypatch.setattr(Administration, "_publish", overtaken)
    with pytest.raises(PolicyDenied, match="STATEMENT_STALE"):
        administration.take(slow, deployment.now)
    assert deployment.denied(deployment.ask()) == ["EMERGENCY_STOPPED"]


def test_every_refusal_is_ours(deployment: Deployment, owners: Owners) -> None:
    for data in (b"", b"{}", b"\xff", owners.proposal(STOP, "cyd")[:-1]):
        with pytest.raises(RegaliaError):
            deployment.broker.administration.take(data, deployment.now)
