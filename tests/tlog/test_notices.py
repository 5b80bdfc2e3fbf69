"""Entries that are no decisions, and what a broker reads of its own log at the start."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from regalia.cli.main import run
from regalia.core.codec import b64, canonical_json
from regalia.core.errors import LogError, ParseError
from regalia.tlog.audit import audit_log
from regalia.tlog.database import ENTRIES, HASHES
from regalia.tlog.merkle import EMPTY_ROOT, Frontier, leaf_hash
from regalia.tlog.note import parse_log_key
from regalia.tlog.source import DatabaseSource
from regalia.tlog.verify import verify_proof
from regalia.wire.release import NOTICE_FORMAT, LogNotice, ReleaseRecord, parse_entry

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy.engine import Engine

    from regalia.tlog.log import Log

MakeRecord = Callable[..., ReleaseRecord]


def notice(**changes: Any) -> LogNotice:  # noqa: ANN401
    fields: dict[str, Any] = {
        "format": NOTICE_FORMAT,
        "kind": "denials-counted",
        "time": "2026-11-22T10:01:00Z",
        "since": "2026-11-22T10:00:00Z",
        "broker": "log.example/regalia",
        "count": 412,
        "what": "MALFORMED 412",
    }
    return LogNotice(**(fields | changes))


def code(call: Callable[[], object]) -> str:
    with pytest.raises(LogError) as caught:
        call()
    return caught.value.code.name


def test_a_notice_is_an_entry_and_no_release(log: Log, make_record: MakeRecord) -> None:
    log.append(make_record(0))
    checkpoint = log.note(notice())
    assert (checkpoint.size, checkpoint.root) == (2, log.reader.root_at(2))
    seen: list[ReleaseRecord | LogNotice] = []
    audit = audit_log(
        DatabaseSource(log.reader),
        parse_log_key(log.log_key),
        remembered=None,
        visit=lambda _index, entry: seen.append(entry),
    )
    assert seen == [make_record(0), notice()]
    assert (audit.releases, audit.denials, audit.notices) == (1, 0, 1)
    proof = log.reader.prove(1)
    assert log.checkpoint_of(proof) == checkpoint
    assert code(lambda: verify_proof(proof, log_key=log.log_key)) == "PROOF_INVALID"


def test_a_checkpoint_of_another_log_is_not_believed(log: Log, make_record: MakeRecord) -> None:
    proof = log.append(make_record(0)).proof
    forged = msgspec.structs.replace(proof, checkpoint=proof.checkpoint.replace("\n1\n", "\n2\n"))
    assert code(lambda: log.checkpoint_of(forged)) == "CHECKPOINT_INVALID"


def test_notices_have_one_encoding() -> None:
    assert parse_entry(notice().encode()) == notice()
    for changes in (
        {"kind": "all-is-well"},
        {"format": "regalia/log-notice/v2"},
        {"count": "412"},
        {"more": ""},
    ):
        with pytest.raises(ParseError):
            parse_entry(canonical_json(json.loads(notice().encode()) | changes))
    with pytest.raises(ParseError):
        parse_entry(notice().encode() + b" ")
    # The words of the format inside of another document are none.
    nested = json.loads(notice(format="x").encode()) | {"what": {"format": NOTICE_FORMAT}}
    with pytest.raises(ParseError):
        parse_entry(canonical_json(nested))


def test_a_notice_that_says_too_much_is_not_written(log: Log) -> None:
    assert code(lambda: log.note(notice(what="x" * 65_536))) == "RECORD_TOO_LARGE"
    assert log.reader.size() == 0


def test_entries_and_roots_of_a_part(log: Log, engine: Engine, make_record: MakeRecord) -> None:
    entries = [make_record(number).encode() for number in range(5)]
    for number in range(5):
        log.append(make_record(number))
    reader = log.reader
    assert reader.entries(1, 4) == entries[1:4]
    assert reader.entries(0, 5) == entries
    assert reader.entries(5, 5) == []
    assert reader.root_at(0) == EMPTY_ROOT
    for size in range(1, 6):
        assert reader.root_at(size) == Frontier.of(map(leaf_hash, entries[:size])).root()
    for first, last in ((-1, 2), (3, 2), (0, 6)):
        assert code(lambda first=first, last=last: reader.entries(first, last)) == "NO_SUCH_ENTRY"
    for size in (-1, 6):
        assert code(lambda size=size: reader.root_at(size)) == "NO_SUCH_ENTRY"
    with engine.begin() as connection:
        connection.execute(ENTRIES.delete().where(ENTRIES.c.idx == 2))
        connection.execute(HASHES.delete().where(HASHES.c.level == 0, HASHES.c.position == 4))
    assert code(lambda: reader.entries(1, 4)) == "LOG_INCONSISTENT"
    assert code(lambda: reader.root_at(5)) == "LOG_INCONSISTENT"


def test_a_proof_with_a_forged_checkpoint_is_none(log: Log, make_record: MakeRecord) -> None:
    proof = log.append(make_record(0)).proof
    forged = msgspec.structs.replace(proof, checkpoint=f"x\n1\n{b64(EMPTY_ROOT)}\n\n")
    assert code(lambda: log.checkpoint_of(forged)) == "CHECKPOINT_INVALID"


def test_commands_tell_of_notices(
    log: Log, make_record: MakeRecord, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log.append(make_record(0))
    log.note(notice())
    args = ["--database", f"sqlite:///{tmp_path}/log.db", "--log-key", log.log_key]
    assert run(["log", "show", *args]) == 0
    text = capsys.readouterr().out
    assert "412 since 2026-11-22T10:00:00Z: MALFORMED 412" in text
    assert "(1 releases, 0 denials, 1 notices)" in text
    assert run(["log", "verify", *args, "--json"]) == 0
    body = json.loads(capsys.readouterr().out)
    assert (body["notices"], len(body["released"])) == (1, 1)
