"""Sends a sealed model to a store of versions: its blobs first, and the version last.

A push that is killed leaves blobs and no version. The next one finds those blobs and goes on. Two
pushes at once send the same blobs under the same names, and each writes a version of its own.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TYPE_CHECKING, NamedTuple

from regalia.core.errors import UnavailableError
from regalia.core.types import Digest
from regalia.store.content import Content
from regalia.store.names import StoreCode
from regalia.store.repository import taken

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from regalia.core.weights import BlobSource
    from regalia.store.image import Blob, Image
    from regalia.store.repository import Repository

_LOOKS_AT_ONCE = 8
_FILES_AT_ONCE = 3  # each may hold some parts of 16 MiB in memory


class Pushed(NamedTuple):
    """What a push did.

    Attributes:
        digest: of the version's document.
        sent: blobs that were sent.
        sent_bytes: bytes of them.
        kept: blobs that the store had.
        kept_bytes: bytes of them.
    """

    digest: Digest
    sent: int
    sent_bytes: int
    kept: int
    kept_bytes: int


class _Counter:
    """Adds up bytes of several threads, and tells them on."""

    def __init__(self, total: int, progress: Callable[[int, int], None]) -> None:
        self._total = total
        self._done = 0
        self._progress = progress
        self._lock = threading.Lock()

    def add(self, count: int) -> None:
        with self._lock:
            self._done += count
            self._progress(self._done, self._total)


def push(  # noqa: PLR0913 - what, where to, and how
    source: BlobSource,
    image: Image,
    repository: Repository,
    tag: str,
    *,
    replace: bool,
    progress: Callable[[int, int], None],
) -> Pushed:
    """Send what the store lacks of a sealed model, and then make it a version.

    Args:
        source: holds the files.
        image: names, digests and sizes of the files, from a verified manifest.
        repository: where to.
        tag: name of the version.
        replace: take the name from another version.
        progress: called with bytes done and bytes in all.

    Raises:
        IntegrityError: BLOB_CHANGED, a file is not what the manifest says; STORE_ANSWER_WRONG.
        UnavailableError: VERSION_EXISTS; the store fails or refuses.
        LocalError: a file cannot be read.
    """
    document = image.encode()
    _refuse_taken(repository, tag, Digest.of(document), replace=replace)
    counter = _Counter(sum(blob.size for blob in image.blobs), progress)
    with repository.pushing(document):
        missing = _missing(repository.has, image.blobs)
        for blob in image.blobs:
            if blob not in missing:
                counter.add(blob.size)
        _send(repository, source, missing, counter.add)
        # Somebody may have removed what was there in the beginning. Age says nothing here: S3 dates
        # what was sent in parts by the upload's beginning.
        again = _missing(repository.is_there, image.blobs)
        _send(repository, source, again, lambda _count: None)
        if again and (lost := _missing(repository.is_there, again)):
            raise UnavailableError(
                StoreCode.STORE_FAILED,
                f"{repository.describe()} does not keep what is sent: {lost[0].name}",
            )
        repository.publish(tag, document, replace=replace)
    sent = sum(blob.size for blob in missing)
    kept = sum(blob.size for blob in image.blobs) - sent
    return Pushed(Digest.of(document), len(missing), sent, len(image.blobs) - len(missing), kept)


def _refuse_taken(repository: Repository, tag: str, digest: Digest, *, replace: bool) -> None:
    """Refuse a name that another version has before the long work, not only after it."""
    if replace:
        return
    found = repository.resolve(tag)
    if found is not None and found != digest:
        raise taken(repository.describe(), tag, found)


def _missing(look: Callable[[Blob], bool], blobs: Sequence[Blob]) -> list[Blob]:
    with ThreadPoolExecutor(_LOOKS_AT_ONCE) as pool:
        there = list(pool.map(look, blobs))
    return [blob for blob, has in zip(blobs, there, strict=True) if not has]


def _send(
    repository: Repository,
    source: BlobSource,
    blobs: Sequence[Blob],
    count: Callable[[int], None],
) -> None:
    """Send several files at once, as one connection seldom fills a line."""
    stopped = threading.Event()
    with ThreadPoolExecutor(_FILES_AT_ONCE) as pool:
        waiting = [
            pool.submit(repository.put, Content(source, blob, count, stopped.is_set))
            for blob in blobs
        ]
        try:
            # The first failure in time, not the first in the list, which another may wait for.
            for future in as_completed(waiting):
                future.result()
        finally:
            stopped.set()
            pool.shutdown(cancel_futures=True)
