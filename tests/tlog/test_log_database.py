"""What the log's database itself refuses, and how it is asked to keep what it was given."""

from __future__ import annotations

import sqlite3
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import IntegrityError
from sqlalchemy.schema import CreateTable

from regalia.core.errors import LocalError, UsageError
from regalia.tlog import database
from regalia.tlog.database import (
    ENTRIES,
    HASHES,
    METADATA,
    STATE,
    open_engine,
    open_existing,
    transaction,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from sqlalchemy.engine import Engine

    from regalia.tlog.log import Log
    from regalia.wire.release import ReleaseRecord

ROWS: list[tuple[sa.Table, dict[str, Any]]] = [
    (ENTRIES, {"idx": 0, "entry": b"entry"}),
    (HASHES, {"level": 0, "position": 0, "hash": b"h" * 32}),
    (STATE, {"id": 1, "log_key": "key", "size": 0, "checkpoint": "note"}),
]


@pytest.fixture
def tables(engine: Engine) -> Engine:
    with transaction(engine, writes=True) as connection:
        METADATA.create_all(connection)
    return engine


def insert(engine: Engine, table: sa.Table, row: dict[str, Any]) -> None:
    with transaction(engine, writes=True) as connection:
        connection.execute(table.insert().values(row))


@pytest.mark.parametrize(("table", "row"), ROWS, ids=["entries", "hashes", "state"])
def test_every_column_is_needed_and_no_row_stands_twice(
    tables: Engine, table: sa.Table, row: dict[str, Any]
) -> None:
    for column in row.keys() - {"id"}:  # SQLite gives an INTEGER key its next number
        with pytest.raises(IntegrityError):
            insert(tables, table, row | {column: None})
    insert(tables, table, row)
    with pytest.raises(IntegrityError):
        insert(tables, table, row)


@pytest.mark.parametrize(
    "url",
    ["sqlite://", "sqlite:///", "sqlite:///:memory:", "sqlite:///file:x?mode=memory&uri=true"],
)
def test_a_log_in_memory_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="a file that outlives the process"):
        open_engine(url)


def test_a_database_that_must_be_there(tmp_path: Path) -> None:
    """SQLite would make an empty one, and its log would be empty too."""
    path = tmp_path / "log.db"
    with pytest.raises(LocalError, match="FILE_MISSING") as caught:
        open_existing(f"sqlite:///{path}")
    assert str(path) in str(caught.value)
    assert not path.exists()
    open_engine(f"sqlite:///{path}").dispose()
    open_existing(f"sqlite:///{path}").dispose()


def test_a_file_with_options_is_sqlites_to_find(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its name in the URL is not that of a file: nothing is made or looked for under it."""
    monkeypatch.chdir(tmp_path)
    for opened in (open_engine, open_existing):
        with transaction(opened("sqlite:///file:log.db?mode=rwc&uri=true"), writes=True):
            assert [path.name for path in tmp_path.glob("*.db")] == ["log.db"]
    assert not list(tmp_path.glob("file:*"))


def test_a_servers_database_is_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = SimpleNamespace(
        url=sa.make_url("postgresql+psycopg://host/regalia"), dialect=postgresql.dialect()
    )
    monkeypatch.setattr(database, "open_engine", lambda *_, **__: engine)
    opened: object = open_existing("postgresql+psycopg://host/regalia")
    assert opened is engine


def test_urls_with_a_password() -> None:
    """What is no URL is refused where it is opened."""
    for url in (
        "postgresql+psycopg://host/regalia?passfile=f",
        "postgresql+psycopg://user:secret@host:port/regalia",
        "sqlite:///log.db",
        "none",
        "",
    ):
        assert not database.has_password(url)
    for url in ("postgresql://user:x@host/regalia", "postgresql://host/regalia?password=x"):
        assert database.has_password(url)


def test_an_extra_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(UsageError, match=r"EXTRA_MISSING.*regalia\[postgres\]") as caught:
        open_engine("postgresql+psycopg://user:secret@host/regalia")
    assert "secret" not in str(caught.value)


def test_others_cannot_read_the_database(tmp_path: Path) -> None:
    """Every file that SQLite makes has the mode of the first."""
    engine = open_engine(f"sqlite:///{tmp_path}/log.db")
    with transaction(engine, writes=True) as connection:
        METADATA.create_all(connection)
        modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    engine.dispose()
    assert modes == {"log.db": 0o600, "log.db-wal": 0o600, "log.db-shm": 0o600}


def test_the_state_is_one_row(tables: Engine) -> None:
    with pytest.raises(IntegrityError):
        insert(tables, STATE, ROWS[2][1] | {"id": 2})


def test_no_database_chooses_a_number_itself() -> None:
    for table in METADATA.sorted_tables:
        statement = str(CreateTable(table).compile(dialect=postgresql.dialect()))
        assert "PRIMARY KEY" in statement
        assert "SERIAL" not in statement


@pytest.mark.parametrize(
    ("name", "value"),
    [("busy_timeout", 5000), ("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1)],
)
def test_every_commit_reaches_the_disk_and_writers_wait(
    engine: Engine, name: str, value: object
) -> None:
    """Whatever SQLite was built with: here each connection begins with other settings."""

    def unlike(connection: Any, _record: object) -> None:  # noqa: ANN401 - a DBAPI connection
        for setting in ("busy_timeout = 1", "synchronous = OFF", "foreign_keys = OFF"):
            connection.execute(f"PRAGMA {setting}")

    sa.event.listen(engine, "connect", unlike, insert=True)
    for _ in range(2):  # also on the second connection
        with transaction(engine, writes=False) as connection:
            assert connection.exec_driver_sql(f"PRAGMA {name}").scalar() == value
        engine.dispose()


@pytest.fixture
def writer(tmp_path: Path, log: Log) -> Iterator[sqlite3.Connection]:
    """Another process in the middle of writing to the log."""
    assert log.reader.size() == 0
    connection = sqlite3.connect(tmp_path / "log.db", isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    yield connection
    connection.execute("ROLLBACK")
    connection.close()


@pytest.mark.usefixtures("writer")
def test_readers_do_not_wait_for_a_writer(engine: Engine, log: Log) -> None:
    sa.event.listen(
        engine, "checkout", lambda c, _r, _p: c.execute("PRAGMA busy_timeout = 20") and None
    )
    assert log.reader.size() == 0
    with engine.begin() as connection:  # a transaction that does not say what it is for
        assert connection.execute(sa.select(STATE.c.size)).scalar() == 0


def test_the_state_is_locked_by_those_who_append(
    engine: Engine, log: Log, make_record: Callable[..., ReleaseRecord]
) -> None:
    """SQLite has one writer at a time; a server locks the row that is read for update."""
    read: list[str] = []

    def note(_c: object, clause: Any, *_: object) -> None:  # noqa: ANN401 - any statement
        if isinstance(clause, sa.Select) and STATE in clause.get_final_froms():
            read.append(str(clause.compile(dialect=postgresql.dialect())))

    sa.event.listen(engine, "before_execute", note)
    log.append(make_record())
    assert len(read) == 1
    assert read[0].endswith("FOR UPDATE")
    read.clear()
    log.reader.checkpoint()
    log.reader.prove(0)
    assert len(read) == 2
    assert not any("FOR UPDATE" in text for text in read)


@pytest.mark.parametrize(
    "url",
    [
        "mysql+pymysql://secret@host/database",
        "sqlite:///log.db?timeout=secret",
        "postgresql+psycopg://user:secret@host:port/database",
    ],
)
def test_a_driver_that_is_absent_or_an_option_that_is_none(
    url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)  # SQLite makes the file before it looks at the option
    monkeypatch.setitem(sys.modules, "pymysql", None)
    with pytest.raises(UsageError, match="BAD_CONFIG") as caught:
        open_engine(url)
    assert "secret" not in str(caught.value)
