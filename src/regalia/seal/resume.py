"""Checks that an interrupted sealing can be continued: the same model, whole shards."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from regalia.core.codec import MIB
from regalia.core.errors import LocalError
from regalia.core.types import Digest
from regalia.host.localfs import os_errors
from regalia.seal.codes import SealCode
from regalia.seal.format.sealed import PREFIX_SIZE, shard_name, stored_size
from regalia.seal.journal import PlanRecord
from regalia.seal.scan import FoundFile
from regalia.seal.stream import FileDigests

if TYPE_CHECKING:
    from pathlib import Path

    from regalia.seal.format.manifest import SealedFile
    from regalia.seal.journal import Journal, ShardRecord
    from regalia.seal.plan import PlacedFile, Plan


@dataclass(frozen=True, slots=True)
class Earlier:
    """What earlier runs have sealed.

    Attributes:
        shards: entries of the whole shards.
        digests: of the files in them, so that hashing goes on where it stopped.
    """

    shards: tuple[SealedFile, ...]
    digests: FileDigests


def read_earlier(folder: Path, journal: Journal, whole: int, plan: Plan) -> Earlier:
    """Read what earlier runs have sealed, and check that it is a part of this plan.

    A file that was sealed to its end must be the one that it was, by device, inode, size and
    times, or else have the same digest. Of a file that goes on, the beginning is hashed again,
    because its digest must go on as well.

    Args:
        folder: holds the shards.
        journal: of the sealing.
        whole: number of shards that have records.
        plan: of this run.

    Raises:
        LocalError: SEALING_UNFINISHED if the run had other parameters, MODEL_CHANGED if a file
            changed, or a file cannot be read.
        ParseError, IntegrityError: a record is damaged.
    """
    before = journal.read_plan()
    _check_plan(before, plan)
    records: list[ShardRecord] = []
    for number in range(whole):
        record = journal.read_shard(number)
        if not _is_whole(folder / shard_name(number), record, plan, number):
            break
        records.append(record)
    return Earlier(
        tuple(record.file for record in records),
        _check_files(before, records, plan),
    )


def _check_plan(before: PlanRecord, plan: Plan) -> None:
    now = PlanRecord.of(plan)
    places = [{(f.path, f.offset, f.size) for f in each.files} for each in (before, now)]
    differing = sorted(path for path, _, _ in places[0] ^ places[1])
    if differing:
        raise LocalError(
            SealCode.MODEL_CHANGED,
            f"{plan.model}: {differing[0]!a} changed since the sealing began that was interrupted",
        )
    if before.geometry != now.geometry:
        raise LocalError(
            SealCode.SEALING_UNFINISHED,
            f"it was begun with {before.geometry}, and this is {now.geometry}",
        )


def _is_whole(path: Path, record: ShardRecord, plan: Plan, number: int) -> bool:
    """Whether a shard lies there as it was recorded. Only its size and its prefix are looked at.

    What else may have happened to it, `regalia verify` finds: the digest for the manifest is that
    of what was encrypted.
    """
    size = stored_size(plan.geometry.shard_size(number), plan.geometry.stride)
    with os_errors(path):
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            info = os.fstat(fd)
            if not stat.S_ISREG(info.st_mode) or not info.st_size == record.file.size == size:
                return False
            return Digest.of(os.pread(fd, PREFIX_SIZE, 0)) == record.file.prefix_digest
        finally:
            os.close(fd)


def _check_files(before: PlanRecord, records: list[ShardRecord], plan: Plan) -> FileDigests:
    """Check all files that begin in the sealed shards."""
    sealed = min(plan.geometry.shard_start(len(records)), plan.geometry.stream_size)
    digests = {number: digest for record in records for number, digest in record.ended.items()}
    now = PlanRecord.of(plan)
    continued = None
    for number, placed in enumerate(plan.placed):
        if not placed.file.size or placed.offset >= sealed:
            continue
        if placed.end <= sealed:
            same = before.files[number].identity == now.files[number].identity
            if not same and _hash(placed, placed.file.size).digest() != digests[number].raw:
                raise _changed(placed)
        else:
            hasher = _hash(placed, sealed - placed.offset)
            unended = records[-1].unended
            if unended is None or hasher.digest() != unended.raw:
                raise _changed(placed)
            continued = (number, hasher)
    return FileDigests(digests, continued)


def _hash(placed: PlacedFile, size: int) -> hashlib._Hash:
    """Hash the first ``size`` bytes of a file."""
    hasher = hashlib.sha256()
    path = placed.file.source
    buffer = memoryview(bytearray(MIB))
    with os_errors(path):
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            if FoundFile.of(placed.file.path, path, os.fstat(fd)) != placed.file:
                raise _changed(placed)
            done = 0
            while done < size:
                count = os.preadv(fd, [buffer[: min(MIB, size - done)]], done)
                if count == 0:
                    raise _changed(placed)
                hasher.update(buffer[:count])
                done += count
        finally:
            os.close(fd)
    return hasher


def _changed(placed: PlacedFile) -> LocalError:
    return LocalError(
        SealCode.MODEL_CHANGED,
        f"{placed.file.path!a} changed since the sealing began that was interrupted",
    )
