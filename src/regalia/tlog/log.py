"""The log itself: append, and prove. One writer transaction for each record."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from regalia.core.codec import b64
from regalia.core.errors import LogError
from regalia.tlog.codes import TlogCode
from regalia.tlog.database import ENTRIES, HASHES, METADATA, STATE, reading, writing
from regalia.tlog.merkle import EMPTY_ROOT, Frontier, consistency_path, inclusion_path, leaf_hash
from regalia.tlog.note import Checkpoint, log_key, parse_log_key, sign_checkpoint, verify_checkpoint
from regalia.tlog.tiles import ENTRY_MAX, TILE_HEIGHT, TILE_WIDTH, encode_bundle
from regalia.tlog.verify import verify_with_key
from regalia.wire.release import LogProof, parse_record

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection, Engine

    from regalia.crypto.sign import SigningKey
    from regalia.tlog.merkle import Subtree
    from regalia.tlog.note import LogKey
    from regalia.tlog.tiles import Tile
    from regalia.wire.release import LoggedRecord, ReleaseRecord


class LogReader:
    """Reads a log's database. Trusts nothing in it: what it returns proves itself or does not."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def log_key(self) -> LogKey:
        """The key that the database says it was made with. A hint, not an anchor."""
        with reading(self._engine) as connection:
            return parse_log_key(_state(connection).log_key)

    def checkpoint(self) -> str:
        """Latest checkpoint, a signed note."""
        with reading(self._engine) as connection:
            return _state(connection).checkpoint

    def size(self) -> int:
        """Number of entries."""
        with reading(self._engine) as connection:
            return _state(connection).size

    def tile(self, tile: Tile) -> bytes:
        """Contents of one tile or entry bundle. Raises LogError NO_SUCH_ENTRY."""
        level = TILE_HEIGHT * (tile.level or 0)
        first, last = tile.n * TILE_WIDTH, tile.n * TILE_WIDTH + tile.width
        with reading(self._engine) as connection:
            if last << level > _state(connection).size:
                raise LogError(TlogCode.NO_SUCH_ENTRY, f"{tile.path()} is not complete yet")
            if tile.level is None:
                query = sa.select(ENTRIES.c.entry).where(
                    ENTRIES.c.idx >= first, ENTRIES.c.idx < last
                )
                rows = connection.execute(query.order_by(ENTRIES.c.idx)).scalars().all()
            else:
                query = sa.select(HASHES.c.hash).where(
                    HASHES.c.level == level,
                    HASHES.c.position >= first,
                    HASHES.c.position < last,
                )
                rows = connection.execute(query.order_by(HASHES.c.position)).scalars().all()
        if len(rows) != tile.width:
            raise LogError(TlogCode.LOG_INCONSISTENT, f"{tile.path()}: {len(rows)} rows")
        return encode_bundle(rows) if tile.level is None else b"".join(rows)

    def prove(self, index: int) -> LogProof:
        """Proof that entry ``index`` is in the log as of its latest checkpoint.

        Raises:
            LogError: NO_SUCH_ENTRY, or LOG_INCONSISTENT if the database lost a part of the log.
        """
        with reading(self._engine) as connection:
            state = _state(connection)
            if not 0 <= index < state.size:
                raise LogError(
                    TlogCode.NO_SUCH_ENTRY, f"entry {index} of a log of {state.size} entries"
                )
            entry = connection.execute(
                sa.select(ENTRIES.c.entry).where(ENTRIES.c.idx == index)
            ).scalar()
            if entry is None:
                raise LogError(TlogCode.LOG_INCONSISTENT, f"entry {index} is missing")
            return _proof(connection, entry, index, state.size, state.checkpoint)

    def prove_consistency(self, old: int, new: int) -> list[bytes]:
        """RFC 6962 consistency proof between two sizes that the log had.

        Args:
            old: entries.
            new: entries, at least ``old``.

        Raises:
            LogError: NO_SUCH_ENTRY, the log never had one of these sizes.
        """
        with reading(self._engine) as connection:
            size = _state(connection).size
            if not 0 <= old <= new <= size:
                raise LogError(TlogCode.NO_SUCH_ENTRY, f"sizes {old} and {new} of {size}")
            return consistency_path(old, new, _Subtrees(connection))


class Log:
    """An append-only log. Safe for several threads, and for several processes on one database."""

    def __init__(self, engine: Engine, *, origin: str, key: SigningKey) -> None:
        """Open the log in this database, or begin it there.

        Raises:
            LogError: LOG_UNWRITABLE, LOG_DATABASE_MISMATCH, LOG_KEY_MALFORMED,
                CHECKPOINT_INVALID or LOG_INCONSISTENT.
        """
        self._engine = engine
        self._signer = key
        self._key = log_key(origin, key.verify_key)
        self._lock = threading.Lock()
        self.reader = LogReader(engine)
        with writing(engine) as connection:
            METADATA.create_all(connection)
            if connection.execute(sa.select(STATE.c.id)).first() is None:
                checkpoint = sign_checkpoint(Checkpoint(origin, 0, EMPTY_ROOT), key)
                connection.execute(
                    STATE.insert().values(
                        id=1, log_key=str(self._key), size=0, checkpoint=checkpoint
                    )
                )
            # A write that changes nothing: a log that cannot be written is refused at the start.
            connection.execute(STATE.update().values(size=self._resume(connection).size))

    @property
    def origin(self) -> str:
        """The log's name."""
        return self._key.origin

    @property
    def log_key(self) -> str:
        """The log's verifier key, C2SP text."""
        return str(self._key)

    def append(self, record: ReleaseRecord) -> LoggedRecord:
        """Add a record, durably, and return it with the proof that it is in the log.

        Entry, hashes and the new signed checkpoint are one transaction: all of them or none.

        Raises:
            LogError: LOG_UNWRITABLE, RECORD_TOO_LARGE, LOG_INCONSISTENT, CHECKPOINT_INVALID or
                LOG_DATABASE_MISMATCH. Nothing was appended, or nobody knows whether it was: the
                caller releases nothing.
            ParseError: the record is none.
        """
        entry = record.encode()
        if len(entry) > ENTRY_MAX:
            raise LogError(
                TlogCode.RECORD_TOO_LARGE, f"{len(entry)} bytes of record, at most {ENTRY_MAX}"
            )
        parse_record(entry)
        with self._lock, writing(self._engine) as connection:
            frontier = self._resume(connection)
            index = frontier.size
            completed = frontier.append(leaf_hash(entry))
            checkpoint = sign_checkpoint(
                Checkpoint(self.origin, frontier.size, frontier.root()), self._signer
            )
            connection.execute(ENTRIES.insert().values(idx=index, entry=entry))
            connection.execute(
                HASHES.insert(),
                [{"level": lv, "position": pos, "hash": h} for (lv, pos), h in completed],
            )
            connection.execute(STATE.update().values(size=frontier.size, checkpoint=checkpoint))
            proof = _proof(connection, entry, index, frontier.size, checkpoint)
        return verify_with_key(proof, self._key)

    def _resume(self, connection: Connection) -> Frontier:
        """The tree so far, checked against what this log signed last."""
        state = _state(connection, lock=True)
        if state.log_key != str(self._key):
            raise LogError(
                TlogCode.LOG_DATABASE_MISMATCH,
                f"the database is of {state.log_key}, not {self._key}",
            )
        signed = verify_checkpoint(state.checkpoint, self._key)
        frontier = Frontier.resume(state.size, _Subtrees(connection))
        if signed.size != state.size or signed.root != frontier.root():
            raise LogError(
                TlogCode.LOG_INCONSISTENT, "the stored tree is not the one that was signed last"
            )
        return frontier


class _Subtrees:
    """Hashes of complete subtrees, from the database."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def __call__(self, subtree: Subtree) -> bytes:
        level, position = subtree
        found = self._connection.execute(
            sa.select(HASHES.c.hash).where(HASHES.c.level == level, HASHES.c.position == position)
        ).scalar()
        if found is None:
            raise LogError(
                TlogCode.LOG_INCONSISTENT, f"hash {position} of level {level} is missing"
            )
        return bytes(found)


@dataclass(frozen=True, slots=True)
class _State:
    """The one row of ``tlog_state``."""

    log_key: str
    size: int
    checkpoint: str


def _state(connection: Connection, *, lock: bool = False) -> _State:
    query = sa.select(STATE.c.log_key, STATE.c.size, STATE.c.checkpoint)
    row = connection.execute(query.with_for_update() if lock else query).first()
    if row is None:
        raise LogError(TlogCode.LOG_UNREADABLE, "the database holds no log")
    return _State(log_key=row.log_key, size=row.size, checkpoint=row.checkpoint)


def _proof(
    connection: Connection, entry: bytes, index: int, size: int, checkpoint: str
) -> LogProof:
    path = inclusion_path(index, size, _Subtrees(connection))
    return LogProof(
        record=b64(entry), index=index, path=[b64(item) for item in path], checkpoint=checkpoint
    )
