"""Appending and proving; what happens when the log cannot be written; whole proofs under attack."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec
import pymerkle
import pytest
import sqlalchemy as sa

from regalia.core.codec import b64, unb64
from regalia.core.errors import LogError, ParseError, UsageError
from regalia.crypto.sign import SigningKey
from regalia.tlog.database import ENTRIES, HASHES, METADATA, STATE, open_engine, transaction
from regalia.tlog.log import Log, LogReader
from regalia.tlog.merkle import inclusion_path, leaf_hash, node_hash, range_root, verify_consistency
from regalia.tlog.note import Checkpoint, parse_log_key, sign_checkpoint, verify_checkpoint
from regalia.tlog.tiles import ENTRY_MAX, Tile, parse_bundle
from regalia.tlog.verify import verify_proof
from regalia.wire.release import LogProof, ReleaseRecord, parse_record

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy.engine import Engine

MakeRecord = Callable[..., ReleaseRecord]


def code(call: Callable[[], object]) -> str:
    with pytest.raises(LogError) as caught:
        call()
    return caught.value.code.name


def test_append_returns_a_record_that_proves_itself(log: Log, make_record: MakeRecord) -> None:
    for number in range(5):
        logged = log.append(make_record(number))
        assert logged.index == number
        assert logged.record == make_record(number)
        again = verify_proof(logged.proof, log_key=log.log_key)
        assert (again.record, again.entry, again.index) == (
            logged.record,
            make_record(number).encode(),
            number,
        )
    assert log.reader.size() == 5


def test_an_independent_tree_agrees(log: Log, make_record: MakeRecord) -> None:
    oracle = pymerkle.InmemoryTree(algorithm="sha256")
    key = parse_log_key(log.log_key)
    for number in range(20):
        logged = log.append(make_record(number))
        oracle.append_entry(make_record(number).encode())
        assert verify_checkpoint(logged.proof.checkpoint, key).root == oracle.get_root()


def test_old_entries_are_proved_against_the_new_checkpoint(
    log: Log, make_record: MakeRecord
) -> None:
    checkpoints = [verify_checkpoint(log.reader.checkpoint(), parse_log_key(log.log_key))]
    for number in range(12):
        proof = log.append(make_record(number)).proof
        checkpoints.append(verify_checkpoint(proof.checkpoint, parse_log_key(log.log_key)))
    for number in range(12):
        assert verify_proof(log.reader.prove(number), log_key=log.log_key).index == number
    for old in checkpoints:
        for new in checkpoints[old.size :]:
            path = log.reader.prove_consistency(old.size, new.size)
            verify_consistency(old.size, old.root, new.size, new.root, path)
    assert code(lambda: log.reader.prove(12)) == "NO_SUCH_ENTRY"
    assert code(lambda: log.reader.prove(-1)) == "NO_SUCH_ENTRY"
    for sizes in ((3, 13), (-1, 3), (4, 3)):
        assert code(lambda old_new=sizes: log.reader.prove_consistency(*old_new)) == "NO_SUCH_ENTRY"


def test_two_processes_append_to_one_log(
    tmp_path: Path, origin: str, signer: SigningKey, make_record: MakeRecord
) -> None:
    url = f"sqlite:///{tmp_path}/log.db"
    logs = [Log(open_engine(url), origin=origin, key=signer) for _ in range(2)]
    indexes: list[int] = []

    def work(log: Log) -> None:
        indexes.extend(log.append(make_record()).index for _ in range(10))

    threads = [threading.Thread(target=work, args=(log,)) for log in logs for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(indexes) == list(range(40))
    assert logs[0].reader.size() == 40


def test_a_log_goes_on_after_a_restart(
    tmp_path: Path, origin: str, signer: SigningKey, make_record: MakeRecord
) -> None:
    url = f"sqlite:///{tmp_path}/log.db"
    Log(open_engine(url), origin=origin, key=signer).append(make_record(0))
    assert Log(open_engine(url), origin=origin, key=signer).append(make_record(1)).index == 1


def test_tiles(log: Log, make_record: MakeRecord) -> None:
    for number in range(3):
        log.append(make_record(number))
    entries = [make_record(number).encode() for number in range(3)]
    assert log.reader.tile(Tile(0, 0, 3)) == b"".join(leaf_hash(entry) for entry in entries)
    assert parse_bundle(log.reader.tile(Tile(None, 0, 2)), 2) == entries[:2]
    for tile in (Tile(0, 0, 4), Tile(None, 0), Tile(1, 0, 1), Tile(0, 10**18)):
        assert code(lambda tile=tile: log.reader.tile(tile)) == "NO_SUCH_ENTRY"


def test_a_database_of_another_log_is_not_used(
    engine: Engine, log: Log, origin: str, signer: SigningKey
) -> None:
    assert log.reader.log_key() == parse_log_key(log.log_key)
    other = SigningKey.generate_ed25519()
    assert code(lambda: Log(engine, origin=origin, key=other)) == "LOG_DATABASE_MISMATCH"
    assert code(lambda: Log(engine, origin="x.example", key=signer)) == "LOG_DATABASE_MISMATCH"
    p384 = SigningKey.generate_p384()
    assert code(lambda: Log(engine, origin=origin, key=p384)) == "LOG_KEY_MALFORMED"


def test_record_that_no_bundle_can_hold(log: Log, make_record: MakeRecord) -> None:
    room = ENTRY_MAX - len(make_record(chip_id="").encode())
    big = make_record(chip_id="0" * (room + 1))
    assert code(lambda: log.append(big)) == "RECORD_TOO_LARGE"
    assert log.reader.size() == 0
    largest = log.append(make_record(chip_id="0" * room))
    assert len(largest.entry) == ENTRY_MAX
    assert parse_bundle(log.reader.tile(Tile(None, 0, 1)), 1) == [largest.entry]


def test_what_is_no_record_is_not_appended(log: Log, make_record: MakeRecord) -> None:
    for wrong in ({"format": "another"}, {"model_version": "3"}):
        with pytest.raises(ParseError):
            log.append(make_record(**wrong))
    assert log.reader.size() == 0


def test_no_database_url() -> None:
    for url in ("", "nonsense", "mysql+nosuch://secret@host/db"):
        with pytest.raises(UsageError, match="BAD_CONFIG") as caught:
            open_engine(url)
        assert "secret" not in str(caught.value)


# -- a log that cannot be written ----------------------------------------------------------------


def test_read_only_database(
    tmp_path: Path, origin: str, signer: SigningKey, make_record: MakeRecord
) -> None:
    path = tmp_path / "log.db"
    engine = open_engine(f"sqlite:///{path}")
    Log(engine, origin=origin, key=signer).append(make_record())
    engine.dispose()  # not whenever it is collected: closing moves the WAL into the file
    before = path.read_bytes()
    read_only = open_engine(f"sqlite:///file:{path}?mode=ro&uri=true")
    assert code(lambda: Log(read_only, origin=origin, key=signer)) == "LOG_UNWRITABLE"
    assert LogReader(read_only).size() == 1  # reading goes on
    assert path.read_bytes() == before


def test_missing_folder(tmp_path: Path, origin: str, signer: SigningKey) -> None:
    engine = open_engine(f"sqlite:///{tmp_path}/absent/log.db")
    assert code(lambda: Log(engine, origin=origin, key=signer)) == "LOG_UNWRITABLE"
    assert code(lambda: LogReader(engine).checkpoint()) == "LOG_UNREADABLE"


def test_full_disk_keeps_the_log_whole(engine: Engine, log: Log, make_record: MakeRecord) -> None:
    log.append(make_record(0))

    def full(connection: Any, _record: Any, _proxy: Any) -> None:  # noqa: ANN401
        # SQLite reports the same SQLITE_FULL for this limit as for a full disk.
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages + 1}")

    engine.dispose()
    sa.event.listen(engine, "checkout", full)
    fill = [make_record(number, chip_id="0" * 5000) for number in range(60)]
    with pytest.raises(LogError, match=r"LOG_UNWRITABLE: .*full"):
        list(map(log.append, fill))
    sa.event.remove(engine, "checkout", full)
    engine.dispose()
    size = log.reader.size()
    assert log.append(make_record(2)).index == size  # nothing half-written stayed


def test_locked_database(tmp_path: Path, engine: Engine, log: Log, make_record: MakeRecord) -> None:
    sa.event.listen(
        engine, "checkout", lambda c, _r, _p: c.execute("PRAGMA busy_timeout = 20") and None
    )
    holder = sqlite3.connect(tmp_path / "log.db", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    assert code(lambda: log.append(make_record())) == "LOG_UNWRITABLE"
    holder.execute("ROLLBACK")
    holder.close()
    assert log.append(make_record()).index == 0


def test_overwritten_database_file(
    tmp_path: Path, engine: Engine, log: Log, make_record: MakeRecord
) -> None:
    log.append(make_record())
    engine.dispose()
    (tmp_path / "log.db").write_bytes(b"garbage" * 1000)
    assert code(lambda: log.append(make_record())) == "LOG_UNWRITABLE"
    assert code(log.reader.checkpoint) == "LOG_UNREADABLE"


# -- a log that was changed behind our back --------------------------------------------------------


@pytest.mark.parametrize(
    ("statement", "want"),
    [
        (HASHES.update().where(HASHES.c.level == 1).values(hash=b"x" * 32), "LOG_INCONSISTENT"),
        (HASHES.delete().where(HASHES.c.level == 1), "LOG_INCONSISTENT"),
        (STATE.update().values(size=2), "LOG_INCONSISTENT"),
        (STATE.update().values(checkpoint="nonsense"), "CHECKPOINT_INVALID"),
        (STATE.update().values(log_key="nonsense"), "LOG_DATABASE_MISMATCH"),
        (STATE.delete(), "LOG_UNREADABLE"),
    ],
)
def test_nothing_is_appended_to_a_tampered_tree(
    engine: Engine, log: Log, make_record: MakeRecord, statement: sa.Executable, want: str
) -> None:
    for number in range(3):
        log.append(make_record(number))
    with transaction(engine, writes=True) as connection:
        connection.execute(statement)
    assert code(lambda: log.append(make_record())) == want


def test_a_stored_tree_of_another_size_with_the_signed_root(
    engine: Engine, log: Log, make_record: MakeRecord
) -> None:
    """Whoever writes to the database can make the root of one entry that of two."""
    root = leaf_hash(log.append(make_record(0)).entry)
    with transaction(engine, writes=True) as connection:
        connection.execute(HASHES.insert().values(level=1, position=0, hash=root))
        connection.execute(STATE.update().values(size=2))
    assert code(lambda: log.append(make_record(1))) == "LOG_INCONSISTENT"


def test_an_entry_changed_in_the_database_is_not_proved(
    engine: Engine, log: Log, make_record: MakeRecord
) -> None:
    for number in range(3):
        log.append(make_record(number))
    forged = make_record(1, lease_id="lease:" + "f" * 32).encode()
    with transaction(engine, writes=True) as connection:
        connection.execute(ENTRIES.update().where(ENTRIES.c.idx == 1).values(entry=forged))
    proof = log.reader.prove(1)
    assert code(lambda: verify_proof(proof, log_key=log.log_key)) == "PROOF_INVALID"


def test_rows_that_are_missing_are_not_passed_over(
    engine: Engine, log: Log, make_record: MakeRecord
) -> None:
    for number in range(3):
        log.append(make_record(number))
    with transaction(engine, writes=True) as connection:
        connection.execute(ENTRIES.delete().where(ENTRIES.c.idx == 1))
        connection.execute(HASHES.delete().where(HASHES.c.position == 1))
    assert code(lambda: log.reader.tile(Tile(None, 0, 3))) == "LOG_INCONSISTENT"
    assert code(lambda: log.reader.tile(Tile(0, 0, 3))) == "LOG_INCONSISTENT"
    assert code(lambda: log.reader.prove(1)) == "LOG_INCONSISTENT"


# -- proofs under attack --------------------------------------------------------------------------


@pytest.fixture
def proof(log: Log, make_record: MakeRecord) -> LogProof:
    for number in range(6):
        log.append(make_record(number))
    return log.reader.prove(2)


def test_every_flipped_byte_of_a_proof_is_refused(log: Log, proof: LogProof) -> None:
    assert verify_proof(proof, log_key=log.log_key).index == 2

    def refused(**changes: Any) -> None:  # noqa: ANN401
        changed = msgspec.structs.replace(proof, **changes)
        assert code(lambda: verify_proof(changed, log_key=log.log_key)) in {
            "PROOF_INVALID",
            "CHECKPOINT_INVALID",
        }

    entry = unb64(proof.record, what="r")
    for position in range(len(entry)):
        flipped = bytearray(entry)
        flipped[position] ^= 1
        refused(record=b64(flipped))
    for i, item in enumerate(proof.path):
        for position in range(32):
            flipped = bytearray(unb64(item, what="p"))
            flipped[position] ^= 0x80
            refused(path=[*proof.path[:i], b64(flipped), *proof.path[i + 1 :]])
    note = proof.checkpoint.encode()
    for position in range(len(note)):
        flipped = bytearray(note)
        flipped[position] ^= 2
        refused(checkpoint=bytes(flipped).decode("utf-8", "surrogateescape"))
    for index in (-1, 0, 1, 3, 4, 5, 6, 2**62, 2**63):
        refused(index=index)
    for text in ("", "!", proof.record[:-4], proof.record + "AAAA", proof.record + "\n"):
        refused(record=text)
    for path in ([], proof.path[:-1], [*proof.path, proof.path[0]], proof.path * 40, ["", "", ""]):
        refused(path=path)


def test_the_longest_path(log: Log, signer: SigningKey, make_record: MakeRecord) -> None:
    """As in a log of 2^63 - 1 times the same entry."""
    entry = make_record().encode()
    hashes = [leaf_hash(entry)]
    for _ in range(63):
        hashes.append(node_hash(hashes[-1], hashes[-1]))
    size = 2**63 - 1
    path = inclusion_path(0, size, lambda subtree: hashes[subtree[0]])
    root = range_root(0, size, lambda subtree: hashes[subtree[0]])
    note = sign_checkpoint(Checkpoint(log.origin, size, root), signer)
    longest = LogProof(
        record=b64(entry), index=0, path=[b64(item) for item in path], checkpoint=note
    )
    assert verify_proof(longest, log_key=log.log_key).index == 0
    longer = msgspec.structs.replace(longest, path=["not looked at"] * 64)
    with pytest.raises(LogError, match="PROOF_INVALID: a path of 64 hashes"):
        verify_proof(longer, log_key=log.log_key)


def test_proof_of_another_log(log: Log, proof: LogProof, origin: str) -> None:
    other = SigningKey.generate_ed25519()
    mine = parse_log_key(log.log_key)
    forged_key = str(type(mine)(origin, other.verify_key.spki[-32:]))
    assert code(lambda: verify_proof(proof, log_key=forged_key)) == "CHECKPOINT_INVALID"
    assert code(lambda: verify_proof(proof, log_key="nonsense")) == "LOG_KEY_MALFORMED"


def test_a_signed_tree_of_something_else_proves_no_record(
    signer: SigningKey, origin: str, log: Log
) -> None:
    """The log's key signs whatever it is given: the entry must still be a record."""
    for entry in (b"", b"{}", b"not a record"):
        note = sign_checkpoint(Checkpoint(origin, 1, leaf_hash(entry)), signer)
        forged = LogProof(record=b64(entry), index=0, path=[], checkpoint=note)
        assert code(lambda f=forged: verify_proof(f, log_key=log.log_key)) == "PROOF_INVALID"


def test_records_are_canonical(make_record: MakeRecord) -> None:
    record = make_record()
    assert parse_record(record.encode()) == record


def test_statements_are_fit_for_postgresql() -> None:
    from sqlalchemy.dialects import postgresql  # noqa: PLC0415
    from sqlalchemy.schema import CreateTable  # noqa: PLC0415

    for table in METADATA.sorted_tables:
        assert "CREATE TABLE" in str(CreateTable(table).compile(dialect=postgresql.dialect()))
    locking = sa.select(STATE.c.size).with_for_update()
    assert "FOR UPDATE" in str(locking.compile(dialect=postgresql.dialect()))
