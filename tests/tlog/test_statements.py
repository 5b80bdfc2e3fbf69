"""Chains of statements in a log: what it refuses, and what an auditor finds in one that did not."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from regalia.cli.main import run
from regalia.core.errors import LogError
from regalia.tlog import log as log_module
from regalia.tlog.audit import audit_log
from regalia.tlog.note import parse_log_key
from regalia.tlog.source import DatabaseSource
from regalia.wire.statement import RegisterModel, Rotate, Stop, Terms, log_statement
from regalia_testing.mutation import dropped, duplicated, reordered
from regalia_testing.statements import Tenant
from tests.tlog.conftest import ORIGIN, build_record

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from regalia.tlog.audit import Audit
    from regalia.tlog.log import Log
    from regalia.wire.statement import LogStatement

MODEL = build_record().model_id
OPEN = Terms(ends=None, sites=None, jurisdictions=None, roles=None, derivatives="any")
REGISTER = RegisterModel(manifest=f"sha256:{'1' * 64}", model_id=MODEL, terms=OPEN, version=3)
TIME = "2026-12-01T12:00:00Z"


@pytest.fixture(scope="module")
def chain() -> list[LogStatement]:
    """Charter, registration, and a stop."""
    tenant = Tenant()
    tenant.found()
    tenant.act(REGISTER)
    tenant.act(Stop(model_id=None), "cyd")
    return [log_statement(data, broker=ORIGIN, time=TIME) for data in tenant.chain]


def head_of(log: Log) -> str:
    return str(log.reader.head("acme").digest)


def published(log: Log, entries: Sequence[LogStatement]) -> None:
    for entry in entries:
        log.publish(entry)


def audited(log: Log) -> Audit:
    return audit_log(
        DatabaseSource(log.reader),
        parse_log_key(log.log_key),
        remembered=None,
        visit=lambda *_: None,
    )


@pytest.fixture
def careless(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Append to a log without what it checks: it is its operator who has the key."""

    def append(log: Log, entries: Sequence[Any]) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(log_module, "require_appendable", lambda *_: None)
            for entry in entries:
                log._append(entry.encode())

    return append


def test_a_chain_is_appended_and_audited(log: Log, chain: list[LogStatement]) -> None:
    for index, entry in enumerate(chain):
        assert log.publish(entry)[0] == index
    audit = audited(log)
    assert {name: head.sequence for name, head in audit.heads.items()} == {"acme": 3}
    assert (audit.releases, audit.notices, audit.unexplained) == (0, 0, ())
    assert [index for index, _ in log.reader.statements("acme", 2, 10)] == [1, 2]
    assert log.reader.head("other").sequence == 0


DEFECTS = {
    f"{what} of the chain": mutant
    for kind in (dropped, duplicated, reordered)
    for what, mutant in kind((0, 1, 2))
    if mutant != (0, 1)  # a shorter chain is a chain: only its head tells
}


@pytest.mark.parametrize("name", DEFECTS)
def test_a_chain_that_is_none(
    log: Log, chain: list[LogStatement], careless: Callable[..., None], name: str
) -> None:
    entries = [chain[number] for number in DEFECTS[name]]
    with pytest.raises(LogError, match="STATEMENT_CHAIN_BROKEN"):
        published(log, entries)
    careless(log, entries[log.reader.size() :])
    with pytest.raises(LogError, match="STATEMENT_CHAIN_BROKEN"):
        audited(log)


def test_a_release_names_the_newest_statement_or_is_not_appended(
    log: Log, chain: list[LogStatement]
) -> None:
    for entry in chain[:2]:
        log.publish(entry)
    older = head_of(log)
    log.append(build_record(0, control=older))
    log.publish(chain[2])
    for control in (older, f"sha256:{'9' * 64}"):
        with pytest.raises(LogError, match="STATEMENT_INTERVENED"):
            log.append(build_record(1, control=control))
    denial = build_record(1, control=older, decision="denial")
    log.append(denial)  # what is refused may have been decided before
    log.append(build_record(2, control=head_of(log)))
    assert audited(log).unexplained == ()


def test_releases_that_no_newest_statement_explains(
    log: Log, chain: list[LogStatement], careless: Callable[..., None]
) -> None:
    log.append(build_record(0))  # before the model belonged to a tenant
    for entry in chain[:2]:
        log.publish(entry)
    older = head_of(log)
    log.publish(chain[2])
    other = build_record(4, model_id=f"model:{'8' * 64}")
    careless(
        log,
        [
            build_record(1, control=older),
            build_record(2),
            build_record(3, control=f"sha256:{'9' * 64}"),
            other,  # of nobody
            build_record(5, control=head_of(log), model_id=other.model_id),
        ],
    )
    found = {each.index: each.why for each in audited(log).unexplained}
    assert list(found) == [4, 5, 6, 8]
    assert found[4].startswith(f"names {older}; the newest is acme ")
    assert found[5] == f"names no statement, and acme registered {MODEL}"
    assert found[8].endswith("the newest is none")


def test_two_tenants_have_chains_of_their_own(log: Log, chain: list[LogStatement]) -> None:
    other = Tenant(name="other")
    other.found()
    log.publish(chain[0])
    log.publish(log_statement(other.chain[0], broker=ORIGIN, time=TIME))
    log.publish(chain[1])
    other.act(Rotate(new="b", old="a"))
    log.publish(log_statement(other.chain[1], broker=ORIGIN, time=TIME))
    assert {name: head.sequence for name, head in audited(log).heads.items()} == {
        "acme": 2,
        "other": 2,
    }


def test_the_command_names_releases_and_says_that_the_log_is_whole(
    log: Log,
    chain: list[LogStatement],
    careless: Callable[..., None],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for entry in chain:
        log.publish(entry)
    words = ["--database", f"sqlite:///{tmp_path}/log.db", "--log-key", log.log_key]
    assert run(["log", "verify", *words]) == 0
    assert "tenant acme: 3 statements, the newest " in capsys.readouterr().out
    careless(log, [build_record(1)])
    remember = ["--remember", str(tmp_path / "seen"), "--first"]
    assert run(["log", "verify", *words, *remember]) == 10
    seen = capsys.readouterr()
    assert "verified: log.example/regalia, 4 entries" in seen.out
    assert "refused [RELEASE_UNEXPLAINED]" in seen.err
    assert f"release 3 names no statement, and acme registered {MODEL}" in seen.err
    assert (tmp_path / "seen").exists(), "the log itself is whole"
    assert run(["log", "verify", *words, "--json"]) == 10
    document = json.loads(capsys.readouterr().out)
    assert (document["ok"], [each["index"] for each in document["unexplained"]]) == (False, [3])
    assert document["tenants"]["acme"]["sequence"] == 3
    assert run(["log", "show", *words]) == 0
    shown = capsys.readouterr().out
    assert "acme 1: charter" in shown
    assert "acme 3: stop" in shown
