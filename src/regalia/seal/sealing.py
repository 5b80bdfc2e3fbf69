"""One sealing: its model key, its seal id, and what runs before this one have done of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from regalia.core.errors import IntegrityError, KeyAccessError, LocalError, ParseError
from regalia.seal.codes import SealCode
from regalia.seal.filekeys import MODEL_KEY_SIZE
from regalia.seal.format.sealed import SealId
from regalia.seal.journal import PlanRecord, ShardRecord, begin_journal, open_journal
from regalia.seal.randomness import random_bytes, random_secret
from regalia.seal.resume import Earlier, read_earlier
from regalia.seal.stream import FileDigests
from regalia.seal.unfinished import whole_shards

if TYPE_CHECKING:
    from regalia.core.secret import SecretBytes
    from regalia.seal.format.manifest import SealedFile
    from regalia.seal.journal import Journal, OpenedJournal, Unwrap, Wrap
    from regalia.seal.plan import Plan
    from regalia.seal.randomness import RandomSource
    from regalia.seal.stream import Mark
    from regalia.seal.unfinished import UnfinishedDirectory


@dataclass(frozen=True, slots=True)
class OwnerKeys:
    """How the owner's key store encrypts a model key and decrypts it again."""

    wrap: Wrap
    unwrap: Unwrap


@dataclass(frozen=True, slots=True)
class Sealing:
    """A sealing that is under way.

    Attributes:
        model_key: the model key; whoever has the sealing wipes it.
        seal_id: identifier in all its files.
        earlier: what runs before this one have sealed.
        journal: where this one writes down what it has sealed; None if nobody will continue it.
    """

    model_key: SecretBytes
    seal_id: SealId
    earlier: Earlier
    journal: Journal | None


def fresh_sealing(random: RandomSource) -> Sealing:
    """A new sealing without a journal."""
    return Sealing(
        random_secret(random, MODEL_KEY_SIZE),
        SealId(random_bytes(random, SealId.SIZE)),
        Earlier((), FileDigests()),
        None,
    )


def begin_or_continue(
    place: UnfinishedDirectory,
    plan: Plan,
    version: int,
    keys: OwnerKeys,
    random: RandomSource,
) -> Sealing:
    """Continue the sealing that an interrupted run has left, or begin one.

    Args:
        place: working directory.
        plan: of this run.
        version: of the model.
        keys: the owner's key store.
        random: source of randomness.

    Raises:
        LocalError: SEALING_UNFINISHED, MODEL_CHANGED, or a file cannot be read or written.
        Exception: as ``keys.wrap``.
    """
    if place.continued:
        return _continue(place, plan, version, keys, random)
    fresh = fresh_sealing(random)
    try:
        journal = begin_journal(
            place.state, fresh.model_key, fresh.seal_id, version, wrap=keys.wrap, random=random
        )
        journal.write_plan(PlanRecord.of(plan))
    except BaseException:
        fresh.model_key.close()
        raise
    return Sealing(fresh.model_key, fresh.seal_id, fresh.earlier, journal)


def _continue(
    place: UnfinishedDirectory,
    plan: Plan,
    version: int,
    keys: OwnerKeys,
    random: RandomSource,
) -> Sealing:
    opened = _open(place, keys, random)
    try:
        _check_version(place, opened.version, version)
        whole = whole_shards(place.path.parent)
        earlier = read_earlier(place.path, opened.journal, whole, plan)
        place.keep_shards(len(earlier.shards))
    except (ParseError, IntegrityError) as exc:
        opened.model_key.close()
        raise _unreadable(place, exc) from exc
    except BaseException:
        opened.model_key.close()
        raise
    return Sealing(opened.model_key, opened.seal_id, earlier, opened.journal)


def _check_version(place: UnfinishedDirectory, before: int, now: int) -> None:
    if before != now:
        raise LocalError(
            SealCode.SEALING_UNFINISHED,
            f"{place.name} was begun as version {before}, and this is {now}",
        )


def _open(place: UnfinishedDirectory, keys: OwnerKeys, random: RandomSource) -> OpenedJournal:
    try:
        return open_journal(place.state, unwrap=keys.unwrap, random=random)
    except (ParseError, KeyAccessError) as exc:
        raise _unreadable(place, exc) from exc


def _unreadable(
    place: UnfinishedDirectory, exc: ParseError | IntegrityError | KeyAccessError
) -> LocalError:
    return LocalError(SealCode.SEALING_UNFINISHED, f"{place.name} cannot be read: {exc.what}")


class Recorder:
    """Writes down every shard that is whole, in order."""

    def __init__(self, plan: Plan, sealing: Sealing) -> None:
        self._plan = plan
        self._journal = sealing.journal
        self._digests = sealing.earlier.digests
        self._shard = len(sealing.earlier.shards)
        self._file = 0  # the first one that did not end in an earlier shard
        self._skip(self._start())

    def _start(self) -> int:
        return self._plan.geometry.shard_start(self._shard)

    def _skip(self, end: int) -> list[int]:
        """Pass the files that end before an offset, and return those of them that hold bytes."""
        placed, passed = self._plan.placed, []
        while self._file < len(placed) and placed[self._file].end <= end:
            if placed[self._file].file.size:
                passed.append(self._file)
            self._file += 1
        return passed

    def shard_is_whole(self, entry: SealedFile, mark: Mark) -> None:
        """The next shard is on the disk.

        Args:
            entry: its size and digests.
            mark: where the digests of the files were after its last chunk.
        """
        if self._journal is None:
            return
        self._shard += 1
        end = self._start()
        ended = {
            number: mark.digest if number == mark.file else self._digests.ended(number)
            for number in self._skip(end)
        }
        placed = self._plan.placed
        goes_on = self._file < len(placed) and placed[self._file].offset < end
        record = ShardRecord(entry, ended, mark.digest if goes_on else None)
        self._journal.write_shard(self._shard - 1, record)
