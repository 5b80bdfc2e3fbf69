"""The log: appends records, and proves their inclusion. Every record is one transaction."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from regalia.core.codec import b64
from regalia.core.errors import LogError
from regalia.tlog.codes import TlogCode
from regalia.tlog.database import (
    ENTRIES,
    HASHES,
    METADATA,
    STATE,
    create_missing,
    reading,
    writing,
)
from regalia.tlog.merkle import EMPTY_ROOT, Frontier, consistency_path, inclusion_path, leaf_hash
from regalia.tlog.note import Checkpoint, log_key, parse_log_key, sign_checkpoint, verify_checkpoint
from regalia.tlog.statements import entries_of, head_of, require_appendable
from regalia.tlog.tiles import ENTRY_MAX, TILE_HEIGHT, TILE_WIDTH, encode_bundle
from regalia.tlog.verify import verify_inclusion, verify_with_key
from regalia.wire.release import LogProof, parse_entry

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection, Engine

    from regalia.crypto.sign import SigningKey
    from regalia.tlog.merkle import Subtree
    from regalia.tlog.note import LogKey
    from regalia.tlog.statements import Head
    from regalia.tlog.tiles import Tile
    from regalia.wire.release import LoggedRecord, LogNotice, ReleaseRecord
    from regalia.wire.statement import LogStatement


class LogReader:
    """Reads a log's database without verifying it. Callers verify what it returns."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def log_key(self) -> LogKey:
        """The verifier key in the database. It is unverified, so do not trust a log by it."""
        with reading(self._engine) as connection:
            return parse_log_key(_state(connection).log_key)

    def checkpoint(self) -> str:
        """Latest checkpoint, as a signed note."""
        with reading(self._engine) as connection:
            return _state(connection).checkpoint

    def size(self) -> int:
        """Number of entries."""
        with reading(self._engine) as connection:
            return _state(connection).size

    def tile(self, tile: Tile) -> bytes:
        """Contents of one tile or entry bundle.

        Raises:
            LogError: NO_SUCH_ENTRY, or LOG_INCONSISTENT if the database lost a part of the log.
        """
        # Entry n of a tile of level L is the subtree of tree level 8·L at position n.
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
        """Prove that entry ``index`` is included in the latest checkpoint.

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

    def entries(self, first: int, last: int) -> list[bytes]:
        """Entries ``first`` to ``last`` - 1, exact bytes.

        Args:
            first: index of the first entry.
            last: index after the last entry.

        Raises:
            LogError: NO_SUCH_ENTRY, or LOG_INCONSISTENT if the database lost a part of the log.
        """
        with reading(self._engine) as connection:
            size = _state(connection).size
            if not 0 <= first <= last <= size:
                raise LogError(TlogCode.NO_SUCH_ENTRY, f"entries {first} to {last} of {size}")
            query = sa.select(ENTRIES.c.entry).where(ENTRIES.c.idx >= first, ENTRIES.c.idx < last)
            rows = connection.execute(query.order_by(ENTRIES.c.idx)).scalars().all()
        if len(rows) != last - first:
            raise LogError(TlogCode.LOG_INCONSISTENT, f"{len(rows)} of {last - first} entries")
        return [bytes(row) for row in rows]

    def head(self, tenant: str) -> Head:
        """The newest statement of a tenant; ``NO_HEAD`` if it has none."""
        with reading(self._engine) as connection:
            return head_of(connection, tenant)

    def statements(self, tenant: str, first: int, most: int) -> list[tuple[int, bytes]]:
        """Index and entry of a tenant's statements, in their order.

        Args:
            tenant: its name.
            first: lowest sequence.
            most: how many.
        """
        with reading(self._engine) as connection:
            return entries_of(connection, tenant, first, most)

    def root_at(self, size: int) -> bytes:
        """Root of the first ``size`` entries, as the stored hashes give it.

        Raises:
            LogError: NO_SUCH_ENTRY, or LOG_INCONSISTENT if the database lost a part of the log.
        """
        with reading(self._engine) as connection:
            entries = _state(connection).size
            if not 0 <= size <= entries:
                raise LogError(TlogCode.NO_SUCH_ENTRY, f"{size} of {entries} entries")
            return Frontier.resume(size, _Subtrees(connection)).root()

    def prove_consistency(self, old: int, new: int) -> list[bytes]:
        """RFC 6962 consistency proof between two sizes of the log.

        Args:
            old: number of entries of the older tree.
            new: number of entries of the newer tree, at least ``old``.

        Raises:
            LogError: NO_SUCH_ENTRY, the log is smaller than ``new``.
        """
        with reading(self._engine) as connection:
            size = _state(connection).size
            if not 0 <= old <= new <= size:
                raise LogError(TlogCode.NO_SUCH_ENTRY, f"sizes {old} and {new} of {size}")
            return consistency_path(old, new, _Subtrees(connection))


class Log:
    """An append-only log. Several threads, and processes on one database, may append to it."""

    def __init__(self, engine: Engine, *, origin: str, key: SigningKey) -> None:
        """Open the log in this database, or create it.

        Args:
            engine: the database.
            origin: name of the log, which its checkpoints carry.
            key: Ed25519 key that signs checkpoints.

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
            create_missing(connection, METADATA)
            if connection.execute(sa.select(STATE.c.id)).first() is None:
                checkpoint = sign_checkpoint(Checkpoint(origin, 0, EMPTY_ROOT), key)
                connection.execute(
                    STATE.insert().values(
                        id=1, log_key=str(self._key), size=0, checkpoint=checkpoint
                    )
                )
            # Write without a change, so that a read-only database fails at the start and not at
            # the first release.
            connection.execute(STATE.update().values(size=self._resume(connection).size))

    @property
    def origin(self) -> str:
        """Name of the log."""
        return self._key.origin

    @property
    def log_key(self) -> str:
        """Verifier key of the log, in C2SP signed-note text."""
        return str(self._key)

    def append(self, record: ReleaseRecord) -> LoggedRecord:
        """Append a record durably, and return it with the proof of its inclusion.

        Entry, hashes and the new signed checkpoint are written in one transaction.

        Raises:
            LogError: STATEMENT_INTERVENED, LOG_UNWRITABLE, RECORD_TOO_LARGE, LOG_INCONSISTENT,
                CHECKPOINT_INVALID or LOG_DATABASE_MISMATCH. The record was not appended, or it is
                unknown whether it was (a commit whose answer was lost), so the caller must not
                release a key.
            ParseError: the record is malformed.
        """
        proof = self._append(record.encode())
        # Verify our own proof like any client: this also is what makes a LoggedRecord.
        return verify_with_key(proof, self._key)

    def note(self, notice: LogNotice) -> Checkpoint:
        """Append a notice durably. Raises as ``append``.

        Returns:
            The checkpoint of the log with it.
        """
        return self.checkpoint_of(self._append(notice.encode()))

    def publish(self, statement: LogStatement) -> tuple[int, Checkpoint]:
        """Append a statement durably, behind its predecessor. Raises as ``append``.

        Args:
            statement: whose signatures the caller has verified.

        Returns:
            The statement's index, and the checkpoint of the log with it.

        Raises:
            LogError: also STATEMENT_CHAIN_BROKEN, another statement was appended before.
        """
        proof = self._append(statement.encode())
        return proof.index, self.checkpoint_of(proof)

    def statements(self, tenant: str, first: int, most: int) -> list[tuple[int, bytes]]:
        """As ``LogReader.statements``, but each of them was verified to be in the log.

        Nobody signs when a statement was accepted, so only the log's tree vouches for that.

        Args:
            tenant: its name.
            first: lowest sequence.
            most: how many.

        Raises:
            LogError: LOG_INCONSISTENT, the database names an entry that the log does not have.
        """
        found = self.reader.statements(tenant, first, most)
        for index, entry in found:
            self._require_included(index, entry)
        return found

    def _require_included(self, index: int, entry: bytes) -> None:
        try:
            included = verify_inclusion(self.reader.prove(index), self._key)
        except LogError as exc:
            if exc.code not in {TlogCode.NO_SUCH_ENTRY, TlogCode.PROOF_INVALID}:
                raise
            raise LogError(TlogCode.LOG_INCONSISTENT, f"entry {index}: {exc.what}") from exc
        if included != entry:
            raise LogError(TlogCode.LOG_INCONSISTENT, f"entry {index} changed meanwhile")

    def checkpoint_of(self, proof: LogProof) -> Checkpoint:
        """Verify the checkpoint of a proof of this log. Raises LogError CHECKPOINT_INVALID."""
        return verify_checkpoint(proof.checkpoint, self._key)

    def _append(self, entry: bytes) -> LogProof:
        if len(entry) > ENTRY_MAX:
            raise LogError(
                TlogCode.RECORD_TOO_LARGE, f"{len(entry)} bytes of record, at most {ENTRY_MAX}"
            )
        parsed = parse_entry(entry)  # refuse here what every reader and auditor would refuse
        with self._lock, writing(self._engine) as connection:
            frontier = self._resume(connection)
            index = frontier.size
            require_appendable(connection, index, parsed)
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
            return _proof(connection, entry, index, frontier.size, checkpoint)

    def _resume(self, connection: Connection) -> Frontier:
        """Restore the tree from the database, and check it against the last signed checkpoint.

        Without the check, the log would sign whatever history a damaged or altered database
        holds, even if it contradicts earlier checkpoints.
        """
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
    """Looks up hashes of complete subtrees in the database."""

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
    """The single row of ``tlog_state``."""

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
