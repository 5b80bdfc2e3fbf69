"""Decrypts a sealed model, after all prefixes, commitments and the index were verified.

Spec: docs/spec/sealed-model.md, "Verification order".
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from regalia.core.errors import IntegrityError
from regalia.crypto.aead import wipe
from regalia.seal.codes import SealCode
from regalia.seal.faults import PageFaulter
from regalia.seal.format.index import parse_index
from regalia.seal.format.prefix import Kind
from regalia.seal.opened import Place, open_file
from regalia.seal.progress import Counter, Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from regalia.core.secret import SecretBytes
    from regalia.core.weights import BlobSource
    from regalia.seal.format.index import Index
    from regalia.seal.format.manifest import Manifest
    from regalia.seal.format.sealed import Chunk
    from regalia.seal.manifest import VerifiedManifest
    from regalia.seal.opened import OpenedFile
    from regalia.seal.progress import Progress


class SealedReader:
    """An opened sealed model, which decrypts parts of its plaintext stream on demand."""

    def __init__(self, manifest: Manifest, index: Index, shards: tuple[OpenedFile, ...]) -> None:
        """Use ``open_sealed`` instead."""
        self.manifest = manifest
        self.index = index
        self._shards = shards

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

    def read_range(self, offset: int, out: memoryview) -> None:
        """Fill ``out`` from the stream at ``offset``, decrypting only the necessary chunks.

        Args:
            offset: offset in the plaintext stream, in bytes.
            out: buffer to fill; its length is the number of bytes to read.

        Raises:
            ValueError: the range exceeds the stream, which is a bug of the caller.
            IntegrityError: CHUNK_FORGED; ``out`` is then all zero.
            LocalError, UnavailableError: ciphertext cannot be read; ``out`` is then all zero.
        """
        if offset < 0 or offset + out.nbytes > self.stream_size:
            raise ValueError("range leaves the stream")
        geometry = self.manifest.geometry
        scratch = memoryview(bytearray(geometry.stride))
        partial = memoryview(bytearray(geometry.stride))
        done = 0
        try:
            while done < out.nbytes:
                number, inner = divmod(offset + done, geometry.shard_payload)
                shard = self._shards[number]
                chunk = shard.chunk(inner // (geometry.shard_payload // geometry.shard_chunks))
                skip = inner - chunk.start
                size = min(chunk.size - skip, out.nbytes - done)
                # A chunk is authenticated as a whole, so a part of one must be decrypted into a
                # buffer of its own first.
                if size == chunk.size:
                    shard.read_chunk(chunk, scratch, out[done : done + size])
                else:
                    shard.read_chunk(chunk, scratch, partial[: chunk.size])
                    out[done : done + size] = partial[skip : skip + size]
                done += size
        except BaseException:
            wipe(out)
            raise
        finally:
            wipe(partial)

    def read_all(self, out: memoryview, *, threads: int, progress: Progress) -> None:
        """Decrypt the whole stream into ``out``.

        Args:
            out: contiguous, writable buffer of exactly ``stream_size`` bytes. It never holds
                ciphertext.
            threads: number of threads that read and decrypt, each with a buffer of one stride.
            progress: called with the number of plaintext bytes.

        Raises:
            IntegrityError: CHUNK_FORGED; ``out`` is then all zero.
            LocalError, UnavailableError: ciphertext cannot be read; ``out`` is then all zero.
            ValueError: ``out`` has the wrong size, which is a bug of the caller.
        """
        if out.nbytes != self.stream_size:
            raise ValueError("the destination has another size than the stream")
        work = _SharedWork(self.chunks())
        counter = Counter(progress, self.stream_size)
        pages = PageFaulter(out)

        def run() -> None:
            scratch = memoryview(bytearray(self.manifest.geometry.stride))
            while (item := work.take()) is not None:
                shard, chunk, start = item
                target = out[start : start + chunk.size]
                try:
                    pages.prepare(start, chunk.size)
                    shard.read_chunk(chunk, scratch, target)
                except BaseException:
                    work.stop()
                    raise
                finally:
                    work.done()
                counter.add(chunk.size)

        try:
            with ThreadPoolExecutor(threads) as pool:
                try:
                    for future in [pool.submit(run) for _ in range(threads)]:
                        future.result()
                finally:
                    work.stop()
        except BaseException:
            # The pool waits for its threads, but an interrupt while it starts one makes it forget
            # that one. What is written after the wipe would stay.
            _finish(work.settle)
            # Wipe only up to the last chunk that was begun: the rest is untouched, and zeroing it
            # would populate pages of up to terabytes.
            _finish(lambda: wipe(out[: work.reached]))
            raise


def _finish(step: Callable[[], object]) -> None:
    """Do what must be done before anything ends, however often somebody interrupts."""
    while True:
        try:
            step()
        except KeyboardInterrupt:
            continue
        return


class _SharedWork:
    """Chunks that several threads take one by one."""

    def __init__(self, items: Iterator[tuple[OpenedFile, Chunk, int]]) -> None:
        self._items = items
        self._condition = threading.Condition()
        self._stopped = False
        self._begun = 0  # chunks that were handed out and are not done
        self.reached = 0  # stream offset after the last chunk that was handed out

    def take(self) -> tuple[OpenedFile, Chunk, int] | None:
        """The next chunk; None if there is none. ``done`` must follow."""
        with self._condition:
            item = None if self._stopped else next(self._items, None)
            if item is not None:
                self._begun += 1
                self.reached = item[2] + item[1].size
            return item

    def done(self) -> None:
        """A chunk is written, or will not be."""
        with self._condition:
            self._begun -= 1
            self._condition.notify_all()

    def stop(self) -> None:
        """Hand out no more chunks."""
        with self._condition:
            self._stopped = True

    def settle(self) -> None:
        """Wait until nobody writes any more."""
        with self._condition:
            self._condition.wait_for(lambda: self._begun == 0)


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
    return SealedReader(content, index, shards)


def _read_index(file: OpenedFile) -> Index:
    """Decrypt the index, into ordinary memory: it is small and contains no weights."""
    plaintext = memoryview(bytearray(file.plaintext_size))
    for number in range(file.chunk_count):
        chunk = file.chunk(number)
        scratch = memoryview(bytearray(chunk.stored))
        file.read_chunk(chunk, scratch, plaintext[chunk.start : chunk.start + chunk.size])
    return parse_index(plaintext.tobytes())
