"""The owner's recovery: a sealed model becomes plain files again. The only code that writes
plaintext weights to disk.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from regalia.core.errors import IntegrityError
from regalia.crypto.aead import TAG_SIZE, wipe
from regalia.host.localfs import os_errors
from regalia.seal.codes import SealCode
from regalia.seal.output import write_all
from regalia.seal.pipeline import Pipeline, slot_count
from regalia.seal.progress import Counter
from regalia.seal.reader import open_sealed
from regalia.seal.staging import StagedDirectory
from regalia.seal.stream import FileDigests, Piece

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from regalia.core.secret import SecretBytes
    from regalia.core.weights import BlobSource
    from regalia.seal.format.index import Entry, Index
    from regalia.seal.format.sealed import Chunk
    from regalia.seal.manifest import VerifiedManifest
    from regalia.seal.opened import OpenedFile
    from regalia.seal.progress import Progress

_MODE = 0o700  # of every directory; files get 0600


@dataclass(frozen=True, slots=True)
class RecoverResult:
    """What was written."""

    files: int
    plaintext_size: int  # bytes
    removed_leftovers: tuple[str, ...]


class _Slot:
    """Buffers for one chunk, and what is in them."""

    def __init__(self, stride: int) -> None:
        self.scratch = memoryview(bytearray(stride))
        self._plain = memoryview(bytearray(stride - TAG_SIZE))
        self.shard: OpenedFile
        self.chunk: Chunk
        self.pieces: tuple[Piece, ...] = ()

    @property
    def plain(self) -> memoryview:
        return self._plain[: self.chunk.size]

    def wipe(self) -> None:
        wipe(self._plain)


class _PlainFiles:
    """Writes the stream's pieces, in order, to the files that they belong to."""

    def __init__(self, folder: Path, index: Index) -> None:
        self._folder = folder
        self._entries = index.entries
        self._number = -1
        self._fd = -1
        self._position = 0

    def create_empty(self) -> None:
        """Make the files that have no bytes, and every directory."""
        folders = {
            parent for entry in self._entries for parent in PurePosixPath(entry.path).parents
        }
        for folder in sorted(folders - {PurePosixPath()}):
            with os_errors(self._folder / folder):
                (self._folder / folder).mkdir(mode=_MODE)
        for entry in self._entries:
            if entry.length == 0:
                path = self._folder / entry.path
                with os_errors(path):
                    os.close(self._create(path))

    def write(self, pieces: tuple[Piece, ...], plain: memoryview) -> None:
        """Write one chunk's pieces."""
        for piece in pieces:
            path = self._folder / self._entries[piece.file].path
            with os_errors(path):
                if piece.file != self._number:
                    self.close()
                    self._fd = self._create(path)
                    self._number, self._position = piece.file, 0
                write_all(self._fd, plain[piece.start : piece.stop], self._position)
                self._position += piece.stop - piece.start

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _create(self, path: Path) -> int:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)


def recover_files(  # noqa: PLR0913 - what, proof, key, where to: none can be left out
    source: BlobSource,
    manifest: VerifiedManifest,
    model_key: SecretBytes,
    out: Path,
    *,
    threads: int,
    progress: Progress,
) -> RecoverResult:
    """Write every file of a sealed model, in clear, into the new directory ``out``.

    Every file's SHA-256 is computed again and compared with the owner's record. ``out`` appears
    when everything has held, and not before.

    Args:
        source: gives ciphertext, untrusted.
        manifest: signed by the owner.
        model_key: secret; the caller wipes it.
        out: the folder to make; it must not exist.
        threads: how many decrypt at once.
        progress: told of plaintext bytes.

    Raises:
        What ``open_sealed`` raises; IntegrityError CHUNK_FORGED or FILE_CHANGED; LocalError.
    """
    with StagedDirectory(out) as staged, ExitStack() as stack:
        reader = open_sealed(source, manifest, model_key)
        entries = reader.index.entries
        stride = manifest.content.geometry.stride
        slots = [_Slot(stride) for _ in range(slot_count(threads, 2 * stride))]
        for slot in slots:
            stack.callback(slot.wipe)
        files = _PlainFiles(staged.path, reader.index)
        stack.callback(files.close)
        digests = FileDigests()
        pipeline = stack.enter_context(
            Pipeline(
                slots,
                threads=threads,
                work=lambda slot: slot.shard.read_chunk(slot.chunk, slot.scratch, slot.plain),
                steps=(
                    lambda slot: digests.update(slot.pieces, slot.plain),
                    lambda slot: files.write(slot.pieces, slot.plain),
                ),
            )
        )
        files.create_empty()
        counter = Counter(progress, reader.stream_size)
        for shard, chunk, pieces in _pieces(reader.chunks(), entries):
            slot = pipeline.take()
            slot.shard, slot.chunk, slot.pieces = shard, chunk, pieces
            pipeline.submit(slot)
            counter.add(chunk.size)
        pipeline.drain()
        files.close()
        for number, entry in enumerate(entries):
            if digests.of(number) != entry.digest:
                raise IntegrityError(SealCode.FILE_CHANGED, f"{entry.path!a} is not {entry.digest}")
        staged.sync()
        staged.commit(mode=_MODE)
    return RecoverResult(
        files=len(entries),
        plaintext_size=sum(entry.length for entry in entries),
        removed_leftovers=staged.removed,
    )


def _pieces(
    chunks: Iterator[tuple[OpenedFile, Chunk, int]], entries: tuple[Entry, ...]
) -> Iterator[tuple[OpenedFile, Chunk, tuple[Piece, ...]]]:
    """Say which bytes of each chunk belong to which file. Both come in the stream's order."""
    first = 0
    for shard, chunk, start in chunks:
        stop = start + chunk.size
        while first < len(entries) and entries[first].end <= start:
            first += 1
        pieces = []
        for number in range(first, len(entries)):
            entry = entries[number]
            if entry.offset >= stop:
                break
            if entry.length:
                begin, end = max(entry.offset, start), min(entry.end, stop)
                pieces.append(Piece(number, begin - start, end - start))
        yield shard, chunk, tuple(pieces)
