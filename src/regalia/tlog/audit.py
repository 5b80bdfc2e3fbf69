"""Audits a whole log: every entry and hash, the signature, and consistency with earlier audits.

An auditor needs only the log's public data and its verifier key, and checks that

(1) the checkpoint is signed by the log's key,
(2) the hashes of all entries give the checkpoint's root,
(3) every hash tile contains the hashes of these entries,
(4) every entry is a release record, a notice or a statement in canonical form,
(5) the checkpoint of an earlier audit, if there was one, is a prefix of this log,
(6) the statements of each tenant are a chain, and every release names the newest of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from regalia.core.errors import LogError, ParseError
from regalia.tlog.codes import TlogCode
from regalia.tlog.merkle import HASH_SIZE, Frontier, leaf_hash
from regalia.tlog.note import verify_checkpoint
from regalia.tlog.statements import Chains
from regalia.tlog.tiles import LEVEL_MAX, TILE_HEIGHT, TILE_WIDTH, Tile, parse_bundle, tiles_of
from regalia.wire.release import LogNotice, parse_entry
from regalia.wire.statement import LogStatement

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from regalia.core.types import Digest
    from regalia.tlog.merkle import Subtree
    from regalia.tlog.note import Checkpoint, LogKey
    from regalia.tlog.source import LogSource
    from regalia.tlog.statements import Head, Unexplained
    from regalia.wire.release import LogEntry


@dataclass(frozen=True, slots=True)
class Audit:
    """The result of an audit.

    Attributes:
        checkpoint: the verified checkpoint.
        note: the same checkpoint as a signed note; keep it, and pass it to the next audit.
        releases: number of releases in the log.
        denials: number of denials in the log.
        notices: number of notices in the log, which are no decisions.
        heads: the newest statement of each tenant, by its name.
        charters: the digest of each tenant's statement 1; compare it with what its owners say.
        unexplained: releases that name another statement than the newest, or none.
        remembered: size of the older checkpoint that is a prefix of this log; None if none was
            given.
    """

    checkpoint: Checkpoint
    note: str
    releases: int
    denials: int
    notices: int
    heads: dict[str, Head]
    charters: dict[str, Digest]
    unexplained: tuple[Unexplained, ...]
    remembered: int | None


def audit_log(
    source: LogSource,
    key: LogKey,
    *,
    remembered: str | None,
    visit: Callable[[int, LogEntry], None],
) -> Audit:
    """Verify a whole log, in memory that is bounded by one entry bundle.

    Args:
        source: the log's data, untrusted.
        key: verifier key of the log, pinned.
        remembered: the note of an earlier audit; None if there was none.
        visit: called with every index and entry, in order. The entries are untrusted until this
            function returns, because the root is verified last.

    Raises:
        LogError: CHECKPOINT_INVALID, LOG_INCONSISTENT, LOG_FORKED, STATEMENT_CHAIN_BROKEN or
            LOG_UNREADABLE.
        UnavailableError: the log cannot be reached.
    """
    old = None if remembered is None else verify_checkpoint(remembered, key)
    note = source.checkpoint()
    checkpoint = verify_checkpoint(note, key)
    if old is not None and old.size > checkpoint.size:
        raise LogError(
            TlogCode.LOG_FORKED, f"the log had {old.size} entries and now has {checkpoint.size}"
        )
    replay = _Replay(source, checkpoint.size)
    counts = {"release": 0, "denial": 0, "notice": 0, "statement": 0}
    chains = Chains()
    # Also before the first entry: the older checkpoint may be of the empty log.
    _compare_old(old, replay.frontier)
    for index, entry in replay.entries():
        try:
            record = parse_entry(entry)
        except ParseError as exc:
            raise LogError(TlogCode.LOG_INCONSISTENT, f"entry {index}: {exc.what}") from exc
        counts[_kind(record)] += 1
        chains.visit(index, record)
        visit(index, record)
        _compare_old(old, replay.frontier)
    if replay.frontier.root() != checkpoint.root:
        raise LogError(
            TlogCode.LOG_INCONSISTENT,
            f"the {checkpoint.size} entries do not give the root that was signed",
        )
    return Audit(
        checkpoint=checkpoint,
        note=note,
        releases=counts["release"],
        denials=counts["denial"],
        notices=counts["notice"],
        heads=chains.heads(),
        charters=chains.charters(),
        unexplained=tuple(chains.unexplained),
        remembered=None if old is None else old.size,
    )


def _kind(entry: LogEntry) -> str:
    if isinstance(entry, LogStatement):
        return "statement"
    return "notice" if isinstance(entry, LogNotice) else entry.decision


def _compare_old(old: Checkpoint | None, frontier: Frontier) -> None:
    # All entries are replayed anyway, so the older root is computed from them directly. No
    # consistency proof is needed.
    if old is not None and frontier.size == old.size and frontier.root() != old.root:
        raise LogError(
            TlogCode.LOG_FORKED, f"the first {old.size} entries are not those seen before"
        )


class _Replay:
    """Reads entries in order, and compares every hash tile with the hashes of the entries."""

    def __init__(self, source: LogSource, size: int) -> None:
        self._source = source
        self._size = size
        self._tiles: dict[int, bytearray] = {}  # tile level -> contents of its incomplete tile
        self.frontier = Frontier()

    def entries(self) -> Iterator[tuple[int, bytes]]:
        """Yield index and entry in order, and compare the hash tiles meanwhile."""
        for bundle in tiles_of(None, self._size):
            try:
                entries = parse_bundle(self._source.tile(bundle), bundle.width)
            except ParseError as exc:
                raise LogError(TlogCode.LOG_INCONSISTENT, f"{bundle.path()}: {exc.what}") from exc
            for offset, entry in enumerate(entries):
                for subtree, value in self.frontier.append(leaf_hash(entry)):
                    self._collect(subtree, value)
                yield bundle.n * TILE_WIDTH + offset, entry
        # The last tile of every level is partial unless its width was reached exactly.
        for level, pending in self._tiles.items():
            if pending:
                count = self._size >> (TILE_HEIGHT * level)
                width = len(pending) // HASH_SIZE
                self._compare(Tile(level, count // TILE_WIDTH, width), bytes(pending))

    def _collect(self, subtree: Subtree, value: bytes) -> None:
        # Tiles hold only every eighth level of the tree; readers compute the levels between.
        level, position = subtree
        if level % TILE_HEIGHT or level // TILE_HEIGHT > LEVEL_MAX:
            return
        pending = self._tiles.setdefault(level // TILE_HEIGHT, bytearray())
        pending += value
        if (position + 1) % TILE_WIDTH == 0:
            self._compare(Tile(level // TILE_HEIGHT, position // TILE_WIDTH), bytes(pending))
            pending.clear()

    def _compare(self, tile: Tile, want: bytes) -> None:
        if self._source.tile(tile) != want:
            raise LogError(TlogCode.LOG_INCONSISTENT, f"{tile.path()} does not match the entries")
