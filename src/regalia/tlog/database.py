"""Where the log is stored: tables, and transactions whose failures are ours.

SQLite is the embedded default, PostgreSQL serves several brokers; both through SQLAlchemy Core.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from regalia.core.errors import CoreCode, LogError, UsageError
from regalia.tlog.codes import TlogCode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import Connection, Engine

_WRITE = "regalia_write"
BUSY_TIMEOUT_MS = 5000

METADATA = sa.MetaData()

ENTRIES = sa.Table(
    "tlog_entries",
    METADATA,
    sa.Column("idx", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("entry", sa.LargeBinary, nullable=False),
)
HASHES = sa.Table(  # of every complete subtree
    "tlog_hashes",
    METADATA,
    sa.Column("level", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("position", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("hash", sa.LargeBinary, nullable=False),
)
STATE = sa.Table(  # one row
    "tlog_state",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("log_key", sa.Text, nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("checkpoint", sa.Text, nullable=False),
    sa.CheckConstraint("id = 1"),
)


class _DBAPIConnection(Protocol):
    isolation_level: str | None

    def execute(self, statement: str) -> object: ...


def open_engine(url: str) -> Engine:
    """An engine for a database URL, ``sqlite:///PATH`` or ``postgresql+psycopg://…``.

    On SQLite a writing transaction takes the write lock at its beginning, so that what it read
    is still true when it commits, and every commit reaches the disk (synchronous=FULL).

    Raises:
        UsageError: BAD_CONFIG for a URL that is none, or has a bad option, or whose driver is
            not installed.
    """
    try:
        engine = sa.create_engine(url)
    except (ArgumentError, ImportError, ValueError) as exc:
        # The URL itself may hold a password, so it is not repeated.
        raise UsageError(CoreCode.BAD_CONFIG, f"database URL: {type(exc).__name__}") from exc
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "connect", _sqlite_connect)
        sa.event.listen(engine, "begin", _sqlite_begin)
    return engine


def _sqlite_connect(connection: _DBAPIConnection, _record: object) -> None:
    connection.isolation_level = None  # BEGIN is ours to send, see _sqlite_begin
    connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")


def _sqlite_begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITE, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


@contextmanager
def transaction(engine: Engine, *, writes: bool) -> Iterator[Connection]:
    """One transaction, which commits at the end of the block. Raises SQLAlchemyError.

    Args:
        engine: of the log's or the broker's database.
        writes: take the write lock at once, so that two writers wait instead of failing later.
    """
    with (
        engine.connect().execution_options(**{_WRITE: writes}) as connection,
        connection.begin(),
    ):
        yield connection


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """A transaction that writes to the log; any failure is LogError LOG_UNWRITABLE."""
    try:
        with transaction(engine, writes=True) as connection:
            yield connection
    except SQLAlchemyError as exc:
        raise LogError(TlogCode.LOG_UNWRITABLE, cause(exc)) from exc


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A transaction that reads the log; any failure is LogError LOG_UNREADABLE."""
    try:
        with transaction(engine, writes=False) as connection:
            yield connection
    except SQLAlchemyError as exc:
        raise LogError(TlogCode.LOG_UNREADABLE, cause(exc)) from exc


def cause(exc: SQLAlchemyError) -> str:
    """The database's own words: no statement, no parameters, no URL."""
    origin = getattr(exc, "orig", None)
    text = str(origin) if origin is not None else type(exc).__name__
    return f"database: {text.splitlines()[0][:200] if text else type(exc).__name__}"
