"""Finds and removes what no version of a store refers to. Safe beside pushes that are under way.

A blob is removed only if no version and no push holds it and it is old: a push names its blobs
before it looks for them, and takes no old one for present that no version holds. Versions and
pushes are read once more before each few removals, so that a push that began meanwhile counts.
A version that cannot be read holds something unknown, so then nothing is removed at all.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, NamedTuple

from regalia.core.types import Digest
from regalia.store.image import IMAGE_MAX, parse_image, stored_name
from regalia.store.names import ADDRESSED
from regalia.store.repository import BLOBS, PUSHES, REUSE_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from regalia.store.objects import Entry
    from regalia.store.repository import ObjectRepository

GRACE_S = 24 * 3600  # default age, in seconds, of what may go
# Longer than a push takes an unheld blob for present, by an hour for clocks that differ.
GRACE_LEAST_S = int(REUSE_S) + 3600
_LOOK_AGAIN_S = 5.0  # seconds that what versions and pushes hold is taken for true
_PUSH_NAME = re.compile("[0-9a-f]{64}")


class Collected(NamedTuple):
    """What no version refers to.

    Attributes:
        blobs: keys of blobs that may go, or have gone.
        blob_bytes: bytes of them.
        kept_young: blobs that nothing holds and that are too young.
        pushes: names of pushes that ended long ago without an end.
        uploads: uploads that were begun long ago and not finished; only known once removed.
    """

    blobs: tuple[str, ...]
    blob_bytes: int
    kept_young: int
    pushes: tuple[str, ...]
    uploads: tuple[str, ...]


def collect(
    repository: ObjectRepository,
    *,
    grace_s: float,
    remove: bool,
    clock: Callable[[], float] = time.monotonic,
) -> Collected:
    """Find what may go, and remove it if asked to.

    Args:
        repository: store of versions.
        grace_s: seconds that something must be old.
        remove: remove it.
        clock: replaces ``time.monotonic`` in tests.

    Raises:
        IntegrityError, ParseError, UnavailableError, LocalError: a version or a listing cannot be
            read; what was removed until then had to go.
    """
    held, looked = _held(repository, grace_s), clock()
    listed = list(repository.objects.entries(BLOBS))
    before = repository.objects.now() - grace_s
    gone: list[Entry] = []
    young = 0
    for entry in listed:
        name = entry.key.rpartition("/")[2]
        if not ADDRESSED.fullmatch(name) or name in held:
            continue
        if entry.modified >= before:
            young += 1
            continue
        if remove:
            if clock() - looked > _LOOK_AGAIN_S:
                held, looked = _held(repository, grace_s), clock()
            if name in held or not _still_old(repository, entry, before):
                continue
            repository.objects.delete(entry.key)
        gone.append(entry)
    pushes = _ended_pushes(repository, before, remove=remove)
    uploads = tuple(repository.objects.abandoned(before)) if remove else ()
    keys = tuple(entry.key for entry in gone)
    return Collected(keys, sum(entry.size for entry in gone), young, pushes, uploads)


def _still_old(repository: ObjectRepository, entry: Entry, before: float) -> bool:
    """Whether nobody has sent this blob again since it was listed."""
    found = repository.objects.size(entry.key)
    return found is not None and found.modified < before


def _held(repository: ObjectRepository, grace_s: float) -> frozenset[str]:
    """Names of blobs that versions and pushes hold, the versions' documents among them."""
    held: set[str] = set()
    # Pushes first: one that ends in between has become a version by then.
    before = repository.objects.now() - grace_s
    for entry in repository.objects.entries(PUSHES):
        found = repository.objects.get(entry.key, IMAGE_MAX) if entry.modified >= before else None
        if found is not None:
            image = parse_image(found.data, where=f"{repository.describe()}, {entry.key}")
            held.update(blob.stored for blob in image.blobs)
            held.add(stored_name(Digest.of(found.data)))
    for tag in repository.tags():
        digest, image = repository.load(tag)
        held.add(stored_name(digest))
        held.update(blob.stored for blob in image.blobs)
    return frozenset(held)


def _ended_pushes(repository: ObjectRepository, before: float, *, remove: bool) -> tuple[str, ...]:
    ended = []
    for entry in list(repository.objects.entries(PUSHES)):
        name = entry.key.rpartition("/")[2]
        if entry.modified < before and _PUSH_NAME.fullmatch(name):
            ended.append(name)
            if remove:
                repository.objects.delete(entry.key)
    return tuple(ended)
