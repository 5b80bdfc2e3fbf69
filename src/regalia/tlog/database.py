"""The log's database tables, and transactions that convert failures to our errors.

SQLite is the embedded default, and PostgreSQL serves several brokers. Both are used through
SQLAlchemy Core.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from regalia.core.errors import CoreCode, LocalError, LogError, UsageError
from regalia.core.extras import missing_extra
from regalia.tlog.codes import TlogCode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import Connection, Engine

_WRITE = "regalia_write"
BUSY_TIMEOUT_MS = 5000
_POOL_TIMEOUT_S = 5
_CREATION = 0x7265_6761_6C69_61  # number of an advisory lock: "regalia"
# libpq: seconds to connect, and milliseconds until sent data must be acknowledged, so that a
# network that swallows everything ends a request as an error.
_REACH = {"connect_timeout": 5, "tcp_user_timeout": 10_000, "keepalives_idle": 10}
SESSION = {
    "synchronous_commit": "on",
    "lock_timeout": f"{BUSY_TIMEOUT_MS}ms",
    "statement_timeout": "15s",
    "idle_in_transaction_session_timeout": "30s",
}

METADATA = sa.MetaData()

ENTRIES = sa.Table(
    "tlog_entries",
    METADATA,
    sa.Column("idx", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("entry", sa.LargeBinary, nullable=False),
)
HASHES = sa.Table(  # the hash of every complete subtree
    "tlog_hashes",
    METADATA,
    sa.Column("level", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("position", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("hash", sa.LargeBinary, nullable=False),
)
STATE = sa.Table(  # exactly one row
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

    def commit(self) -> None: ...


def has_password(url: str) -> bool:
    """Whether a database URL contains a password. False for what is no URL at all."""
    try:
        parsed = sa.make_url(url)
    except (ArgumentError, ValueError):
        return False
    return parsed.password is not None or "password" in parsed.query


def open_existing(url: str) -> Engine:
    """Open a database that must be there, as ``open_engine`` does; SQLite would create it.

    Raises:
        UsageError: as ``open_engine``.
        LocalError: FILE_MISSING.
    """
    engine = open_engine(url, create=False)
    path = str(engine.url.database)
    named = engine.dialect.name == "sqlite" and not path.startswith("file:")
    if named and not Path(path).is_file():
        raise LocalError(CoreCode.FILE_MISSING, f"{path}: there is no such database")
    return engine


def open_engine(url: str, *, create: bool = True) -> Engine:
    """Create an engine for a database URL, ``sqlite:///PATH`` or ``postgresql+psycopg://…``.

    On SQLite a writing transaction takes the write lock at its start, so that its reads are still
    valid when it commits. Every commit is synced to disk (synchronous=FULL, synchronous_commit).
    Nothing waits for a lock, a statement or a server without bound.

    Args:
        url: of the database.
        create: whether to make SQLite's file, readable by its owner only, if it is not there.

    Raises:
        UsageError: BAD_CONFIG, the URL is malformed, has an invalid option, names no file, or its
            driver is not installed.
    """
    try:
        parsed = sa.make_url(url)
        if parsed.get_backend_name() == "sqlite":
            _prepare_file(parsed, create=create)
        engine = sa.create_engine(parsed, **_options(parsed))
    except ImportError as exc:
        broken = UsageError(CoreCode.BAD_CONFIG, "database URL: its driver does not import")
        raise missing_extra(exc) or broken from exc
    except (ArgumentError, ValueError) as exc:
        # The URL may contain a password, so the message does not repeat it.
        raise UsageError(CoreCode.BAD_CONFIG, f"database URL: {type(exc).__name__}") from exc
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "connect", _sqlite_connect)
        sa.event.listen(engine, "begin", _sqlite_begin)
    elif engine.dialect.name == "postgresql":
        sa.event.listen(engine, "connect", _postgresql_connect)
    return engine


def _options(url: sa.URL) -> dict[str, Any]:
    """Options of the engine for a server that may be gone, or may be slow."""
    if url.get_backend_name() != "postgresql":
        return {}
    # A server that was restarted has ended the connections in the pool: try one before its use.
    # What the URL says itself comes first.
    bounds = {name: value for name, value in _REACH.items() if name not in url.query}
    return {"pool_pre_ping": True, "pool_timeout": _POOL_TIMEOUT_S, "connect_args": bounds}


def _prepare_file(url: sa.URL, *, create: bool) -> None:
    """Create SQLite's file for its owner only; the files that SQLite puts beside it follow."""
    if url.database in {None, "", ":memory:"} or url.query.get("mode") == "memory":
        raise UsageError(
            CoreCode.BAD_CONFIG, "database URL: sqlite:///PATH, a file that outlives the process"
        )
    if not create or str(url.database).startswith("file:"):  # with options, for what exists
        return
    with suppress(OSError):  # SQLite will meet it too, and say so
        Path(str(url.database)).touch(mode=0o600)


def _sqlite_connect(connection: _DBAPIConnection, _record: object) -> None:
    # Keep the driver from sending BEGIN on its own: _sqlite_begin chooses the kind of transaction.
    connection.isolation_level = None
    connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")


def _postgresql_connect(connection: _DBAPIConnection, _record: object) -> None:
    # Of the session, whatever the server's administrator chose for others.
    for name, value in SESSION.items():
        connection.execute(f"SET SESSION {name} = '{value}'")
    connection.commit()


def _sqlite_begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITE, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


@contextmanager
def transaction(engine: Engine, *, writes: bool) -> Iterator[Connection]:
    """Run a transaction, which commits at the end of the block. Raises SQLAlchemyError.

    Args:
        engine: the log's or the broker's database.
        writes: whether to take the write lock at the start, so that a second writer waits instead
            of failing later.
    """
    with (
        engine.connect().execution_options(**{_WRITE: writes}) as connection,
        connection.begin(),
    ):
        yield connection


def create_missing(connection: Connection, tables: sa.MetaData) -> None:
    """Create the tables that are missing; what else the transaction writes waits for it, too.

    Several brokers may start on an empty database at the same time, and PostgreSQL would give all
    but one of them an error. SQLite has locked the database already.

    Args:
        connection: in a transaction that writes.
        tables: of the log, or of the broker.
    """
    one_creates(connection)
    tables.create_all(connection)


def one_creates(connection: Connection) -> None:
    """Wait until no other broker creates anything, until the end of a transaction that writes."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_CREATION)))


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """Run a transaction that writes to the log. Any failure is LogError LOG_UNWRITABLE."""
    try:
        with transaction(engine, writes=True) as connection:
            yield connection
    except SQLAlchemyError as exc:
        raise LogError(TlogCode.LOG_UNWRITABLE, cause(exc)) from exc


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """Run a transaction that reads the log. Any failure is LogError LOG_UNREADABLE."""
    try:
        with transaction(engine, writes=False) as connection:
            yield connection
    except SQLAlchemyError as exc:
        raise LogError(TlogCode.LOG_UNREADABLE, cause(exc)) from exc


def cause(exc: SQLAlchemyError) -> str:
    """The database's own error message, without statement, parameters or URL."""
    origin = getattr(exc, "orig", None)
    text = str(origin) if origin is not None else type(exc).__name__
    return f"database: {text.splitlines()[0][:200] if text else type(exc).__name__}"
