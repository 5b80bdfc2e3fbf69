"""Verifies a sealed model without its key: every file, by the digests that the owner signed."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from regalia.core.codec import MIB
from regalia.core.errors import CoreCode, IntegrityError, LocalError
from regalia.core.types import Digest
from regalia.seal.codes import SealCode
from regalia.seal.format.prefix import Kind
from regalia.seal.format.sealed import INDEX_NAME, MANIFEST_NAME, shard_name
from regalia.seal.opened import Place, read_prefix
from regalia.seal.progress import Counter
from regalia.seal.workers import SharedItems, in_threads

if TYPE_CHECKING:
    from regalia.core.weights import BlobSource
    from regalia.seal.format.manifest import Manifest, SealedFile
    from regalia.seal.manifest import VerifiedManifest
    from regalia.seal.progress import Progress
    from regalia.seal.workers import Crew

_BLOCK = MIB  # bytes read at once


def expected_names(manifest: Manifest) -> frozenset[str]:
    """Names of all files that a sealed model consists of."""
    shards = (shard_name(number) for number in range(len(manifest.shards)))
    return frozenset({MANIFEST_NAME, INDEX_NAME, *shards})


def verify_ciphertext(
    source: BlobSource,
    manifest: VerifiedManifest,
    *,
    names: frozenset[str],
    threads: int,
    progress: Progress,
) -> None:
    """Check that a store holds exactly the files that the owner signed.

    Args:
        source: store of the ciphertext, untrusted.
        manifest: verified manifest of the model.
        names: names of all files in the store.
        threads: number of files that are hashed at the same time.
        progress: called with the number of ciphertext bytes.

    Raises:
        LocalError: FILE_MISSING, or a file cannot be read.
        IntegrityError: UNEXPECTED_FILE, SIZE_CHANGED, PREFIX_CHANGED, SHARD_MISPLACED or
            CIPHERTEXT_CHANGED.
        ParseError: a prefix that the owner signed is malformed.
    """
    content = manifest.content
    wanted = expected_names(content)
    if missing := sorted(wanted - names):
        raise LocalError(CoreCode.FILE_MISSING, f"{source.describe()}: {missing[0]} is missing")
    if extra := sorted(names - wanted):
        raise IntegrityError(
            SealCode.UNEXPECTED_FILE, f"{source.describe()}: {extra[0]!a} does not belong here"
        )
    files = [(Place(Kind.INDEX, 0), content.index)]
    files += [(Place(Kind.DATA, number), file) for number, file in enumerate(content.shards)]
    # The prefixes first: they are small, so swapped or truncated files are reported at once
    # instead of after hours of hashing.
    for place, _ in files:
        read_prefix(source, content, place)
    counter = Counter(progress, content.stored_total())
    shared = SharedItems(iter(files))

    def run(crew: Crew) -> None:
        while (item := shared.take()) is not None:
            _check_digest(source, *item, counter, crew)

    in_threads(threads, run)


def _check_digest(
    source: BlobSource,
    place: Place,
    file: SealedFile,
    counter: Counter,
    crew: Crew,
) -> None:
    buffer = memoryview(bytearray(min(_BLOCK, file.size)))
    hasher = hashlib.sha256()
    for offset in range(0, file.size, _BLOCK):
        if crew.stopped:
            return
        part = buffer[: min(_BLOCK, file.size - offset)]
        source.read_into(place.name, offset, part)
        hasher.update(part)
        counter.add(part.nbytes)
    got = Digest(hasher.digest())
    if got != file.digest:
        raise IntegrityError(
            SealCode.CIPHERTEXT_CHANGED, f"{place.name} is {got}, the manifest says {file.digest}"
        )
