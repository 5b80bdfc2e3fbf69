"""Decrypts a sealed model, after all prefixes, commitments and the index were verified.

Spec: docs/spec/sealed-model.md, "Verification order".
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from regalia.core.errors import IntegrityError
from regalia.core.weights import reading_of
from regalia.crypto.aead import wipe
from regalia.seal.codes import SealCode
from regalia.seal.faults import PageFaulter
from regalia.seal.format.index import parse_index
from regalia.seal.format.prefix import Kind
from regalia.seal.opened import Place, open_file
from regalia.seal.pieces import (
    Piece,
    chunk_jobs,
    in_order,
    read_amplification,
    touched_chunks,
)
from regalia.seal.progress import Counter, no_progress
from regalia.seal.reading import batches, plan_reading
from regalia.seal.workers import Crew, SharedItems, finish, in_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from regalia.core.secret import SecretBytes
    from regalia.core.weights import BlobSource, Reading
    from regalia.seal.format.index import Index
    from regalia.seal.format.manifest import Manifest
    from regalia.seal.format.sealed import Chunk, Geometry
    from regalia.seal.manifest import VerifiedManifest
    from regalia.seal.opened import OpenedFile
    from regalia.seal.pieces import ChunkJob
    from regalia.seal.progress import Progress
    from regalia.seal.reading import ReadPlan


class SealedReader:
    """An opened sealed model, which decrypts parts of its plaintext stream on demand."""

    def __init__(
        self,
        manifest: Manifest,
        index: Index,
        shards: tuple[OpenedFile, ...],
        reading: Reading | None,
    ) -> None:
        """Use ``open_sealed`` instead."""
        self.manifest = manifest
        self.index = index
        self._shards = shards
        self._reading = reading

    @property
    def stream_size(self) -> int:
        """Number of bytes in the plaintext stream, and therefore in a destination."""
        return self.index.stream_size

    def chunks(self) -> Iterator[tuple[OpenedFile, Chunk, int]]:
        """Yield shard, chunk and stream offset for every chunk, in order."""
        for number, shard in enumerate(self._shards):
            start = self.manifest.geometry.shard_start(number)
            for index in range(shard.chunk_count):
                chunk = shard.chunk(index)
                yield shard, chunk, start + chunk.start

    def load_into(self, pieces: Iterable[Piece], *, threads: int, progress: Progress) -> None:
        """Decrypt parts of the stream into memory that somebody else owns.

        Every chunk that a piece touches is read and decrypted once. It is decrypted in place
        where it lies inside a piece, and otherwise in a buffer that is wiped.

        Args:
            pieces: the parts, in any order. A byte of the stream may go to several of them, but
                no two may share memory.
            threads: number of threads that read and decrypt, each with buffers of two strides.
                One is the calling thread. With more of them, some read while others decrypt. From
                a distant store more of them read, each several chunks at a time.
            progress: called with the number of plaintext bytes in the chunks.

        Raises:
            IntegrityError: CHUNK_FORGED; all pieces are then all zero.
            LocalError, UnavailableError: ciphertext cannot be read; all pieces are then all zero.
            ValueError: a piece leaves the stream, two share memory, or there is no thread, which
                are bugs of the caller.
        """
        load = self._load(pieces, threads)
        try:
            load.run(progress)
        except BaseException:
            finish(load.wipe)
            raise

    def read_range(self, offset: int, out: memoryview) -> None:
        """Fill ``out`` from the stream at ``offset``, decrypting only the necessary chunks.

        Args:
            offset: offset in the plaintext stream, in bytes.
            out: buffer to fill; its length is the number of bytes to read.

        Raises:
            As ``load_into``.
        """
        if offset < 0 or offset + out.nbytes > self.stream_size:
            raise ValueError("range leaves the stream")
        if out.nbytes:
            self.load_into([Piece(offset, out)], threads=1, progress=no_progress)

    def read_all(self, out: memoryview, *, threads: int, progress: Progress) -> None:
        """Decrypt the whole stream into ``out``.

        Args:
            out: contiguous, writable buffer of exactly ``stream_size`` bytes. It never holds
                ciphertext.
            threads: as in ``load_into``.
            progress: called with the number of plaintext bytes.

        Raises:
            As ``load_into``, except that after a failure ``out`` is all zero up to the last chunk
            that was begun, and untouched behind it: zeroing it would populate pages of up to
            terabytes.
        """
        if out.nbytes != self.stream_size:
            raise ValueError("the destination has another size than the stream")
        if not out.nbytes:
            self._authenticate_empty(out, progress)
            return
        load = self._load([Piece(0, out)], threads)
        try:
            load.run(progress)
        except BaseException:
            finish(lambda: wipe(out[: load.reached]))
            raise

    def read_amplification(self, pieces: Iterable[Piece]) -> float:
        """Bytes of ciphertext that ``load_into`` would read for each byte that it is asked for."""
        spans = ((piece.offset, piece.out.nbytes) for piece in pieces)
        return read_amplification(spans, self.manifest.geometry)

    def _load(self, pieces: Iterable[Piece], threads: int) -> _Load:
        if threads < 1:
            raise ValueError("a load needs a thread")
        geometry = self.manifest.geometry
        ordered = in_order(pieces, geometry.stream_size)
        total = _bytes_in_chunks(ordered, geometry)
        plan = plan_reading(total, geometry.stride, threads=threads, reading=self._reading)
        return _Load(self._shards, geometry, ordered, plan)

    def _authenticate_empty(self, out: memoryview, progress: Progress) -> None:
        # An empty stream has one chunk, which is a tag alone.
        for shard, chunk, _ in self.chunks():
            shard.read_chunk(chunk, memoryview(bytearray(chunk.stored)), out)
            progress(0, 0)


class _Buffers:
    """What one thread needs beside the pieces.

    Args:
        stride: stored size of one chunk, in bytes.
        chunks: most chunks in one reading.
    """

    def __init__(self, stride: int, chunks: int) -> None:
        self.scratch = memoryview(bytearray(chunks * stride))  # for ciphertext
        self._stride = stride
        self._beside: memoryview | None = None

    def beside(self) -> memoryview:
        """Memory for the plaintext of a chunk, which most loads never need."""
        if self._beside is None:
            self._beside = memoryview(bytearray(self._stride))
        return self._beside

    def wipe(self) -> None:
        """Overwrite the plaintext."""
        if self._beside is not None:
            wipe(self._beside)


class _Load:
    """One call of ``load_into``: threads that share its chunks."""

    def __init__(
        self,
        shards: tuple[OpenedFile, ...],
        geometry: Geometry,
        ordered: tuple[Piece, ...],
        plan: ReadPlan,
    ) -> None:
        self._shards = shards
        self._geometry = geometry
        self._pieces = ordered
        self._plan = plan
        self._pages = PageFaulter(piece.out for piece in ordered)
        self._work = SharedItems(self._batches())
        self.reached = 0  # stream offset after the last chunk that was begun

    def run(self, progress: Progress) -> None:
        """Decrypt all chunks. When this returns or raises, nobody writes any more."""
        counter = Counter(progress, _bytes_in_chunks(self._pieces, self._geometry))
        if self._plan.threads == 1:
            self._work_on(Crew(), counter)
        else:
            in_threads(self._plan.threads, lambda crew: self._work_on(crew, counter))

    def wipe(self) -> None:
        """Overwrite all pieces with zeros."""
        for piece in self._pieces:
            wipe(piece.out)

    def _batches(self) -> Iterator[tuple[ChunkJob, ...]]:
        jobs = chunk_jobs(self._pieces, self._geometry)
        for batch in batches(jobs, self._geometry, self._plan.chunks):
            self.reached = batch[-1].stop
            yield batch

    def _work_on(self, crew: Crew, counter: Counter) -> None:
        buffers = _Buffers(self._geometry.stride, self._plan.chunks)
        try:
            while not crew.stopped and (batch := self._work.take()) is not None:
                self._read(batch, buffers, crew, counter)
        finally:
            finish(buffers.wipe)

    def _read(
        self, batch: tuple[ChunkJob, ...], buffers: _Buffers, crew: Crew, counter: Counter
    ) -> None:
        """Read the chunks of a batch at once, and decrypt one after the other."""
        number, inner = divmod(batch[0].number, self._geometry.shard_chunks)
        shard = self._shards[number]
        chunks = [shard.chunk(inner + place) for place in range(len(batch))]
        first = chunks[0].offset
        shard.fetch(first, buffers.scratch[: chunks[-1].offset + chunks[-1].stored - first])
        for job, chunk in zip(batch, chunks, strict=True):
            if crew.stopped:
                return
            start = chunk.offset - first
            sealed = buffers.scratch[start : start + chunk.stored]
            self._decrypt(job, partial(shard.open_chunk, chunk, sealed), buffers)
            counter.add(job.stop - job.start)

    def _decrypt(
        self, job: ChunkJob, open_into: Callable[[memoryview], None], buffers: _Buffers
    ) -> None:
        whole = job.whole
        if whole is None:
            # A chunk is authenticated as a whole, so it must be decrypted as a whole.
            target = buffers.beside()[: job.stop - job.start]
        else:
            target = whole.out[job.start - whole.offset : job.stop - whole.offset]
            self._pages.prepare(target)
        open_into(target)
        for piece in job.pieces:
            if piece is not whole:
                first, last = max(job.start, piece.offset), min(job.stop, piece.end)
                part = target[first - job.start : last - job.start]
                piece.out[first - piece.offset : last - piece.offset] = part


def _bytes_in_chunks(ordered: tuple[Piece, ...], geometry: Geometry) -> int:
    """Bytes of plaintext in all chunks that some pieces touch."""
    size, payload = geometry.stream_size, geometry.payload
    spans = ((piece.offset, piece.end) for piece in ordered)
    return sum(
        min(numbers.stop * payload, size) - numbers.start * payload
        for numbers in touched_chunks(spans, payload)
    )


def open_sealed(
    source: BlobSource, manifest: VerifiedManifest, model_key: SecretBytes
) -> SealedReader:
    """Verify all prefixes and commitments, and decrypt and verify the index.

    Args:
        source: store of the ciphertext, untrusted.
        manifest: verified manifest of the model.
        model_key: the model key; the caller wipes it.

    Raises:
        KeyAccessError: WRONG_MODEL_KEY.
        IntegrityError: SIZE_CHANGED, PREFIX_CHANGED, SHARD_MISPLACED, COMMITMENT_MISMATCH,
            CHUNK_FORGED (in the index) or MODEL_ID_MISMATCH.
        ParseError: the index that the owner sealed is malformed.
        LocalError, UnavailableError: a file cannot be read.
    """
    content = manifest.content
    # The index first: it tells a wrong key from a shard that belongs to another model.
    index = _read_index(open_file(source, content, Place(Kind.INDEX, 0), model_key))
    if index.stream_size != content.geometry.stream_size:
        raise IntegrityError(
            SealCode.MODEL_ID_MISMATCH,
            f"the index speaks of {index.stream_size} bytes, the manifest of "
            f"{content.geometry.stream_size}",
        )
    if index.model_id() != content.model_id:
        raise IntegrityError(
            SealCode.MODEL_ID_MISMATCH,
            f"the files inside are {index.model_id()}, the manifest says {content.model_id}",
        )
    shards = tuple(
        open_file(source, content, Place(Kind.DATA, number), model_key)
        for number in range(content.geometry.shard_count)
    )
    return SealedReader(content, index, shards, reading_of(source))


def _read_index(file: OpenedFile) -> Index:
    """Decrypt the index, into ordinary memory: it is small and contains no weights."""
    plaintext = memoryview(bytearray(file.plaintext_size))
    for number in range(file.chunk_count):
        chunk = file.chunk(number)
        scratch = memoryview(bytearray(chunk.stored))
        file.read_chunk(chunk, scratch, plaintext[chunk.start : chunk.start + chunk.size])
    return parse_index(plaintext.tobytes())
