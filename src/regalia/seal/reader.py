"""Reading a sealed model: everything is checked that can be before the first byte is decrypted.
Spec: "Verification order".
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
    from collections.abc import Iterator

    from regalia.core.secret import SecretBytes
    from regalia.core.weights import BlobSource
    from regalia.seal.format.index import Index
    from regalia.seal.format.manifest import Manifest
    from regalia.seal.format.sealed import Chunk
    from regalia.seal.manifest import VerifiedManifest
    from regalia.seal.opened import OpenedFile
    from regalia.seal.progress import Progress


class SealedReader:
    """An opened sealed model: its index, and its plaintext stream on demand."""

    def __init__(self, manifest: Manifest, index: Index, shards: tuple[OpenedFile, ...]) -> None:
        """Called by ``open_sealed``."""
        self.manifest = manifest
        self.index = index
        self._shards = shards

    @property
    def stream_size(self) -> int:
        """Bytes of the plaintext stream: what a destination must hold."""
        return self.index.stream_size

    def chunks(self) -> Iterator[tuple[OpenedFile, Chunk, int]]:
        """Every chunk of the stream in order, with its shard and its offset in the stream."""
        for number, shard in enumerate(self._shards):
            start = self.manifest.geometry.shard_start(number)
            for index in range(shard.chunk_count):
                chunk = shard.chunk(index)
                yield shard, chunk, start + chunk.start

    def read_range(self, offset: int, out: memoryview) -> None:
        """Fill ``out`` with stream bytes from ``offset``, decrypting only the chunks it touches.

        Args:
            offset: in the plaintext stream, in bytes.
            out: filled whole; its length says how much to read.

        Raises:
            ValueError: the range leaves the stream.
            IntegrityError: CHUNK_FORGED; ``out`` is then all zero.
            LocalError, UnavailableError: ciphertext cannot be had; ``out`` is then all zero.
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
        """Decrypt the whole stream into ``out``, which must hold exactly ``stream_size`` bytes.

        Args:
            out: contiguous and writable; ciphertext never touches it.
            threads: how many read and decrypt at once, each with one stride of ciphertext.
            progress: told of plaintext bytes.

        Raises:
            IntegrityError: CHUNK_FORGED; ``out`` is then all zero.
            LocalError, UnavailableError: ciphertext cannot be had; ``out`` is then all zero.
            ValueError: ``out`` has another size (the caller's bug).
        """
        if out.nbytes != self.stream_size:
            raise ValueError("the destination has another size than the stream")
        work = _SharedWork(self.chunks())
        counter = Counter(progress, self.stream_size)
        pages = PageFaulter(out)

        def run() -> None:
            scratch = memoryview(bytearray(self.manifest.geometry.stride))
            for shard, chunk, start in work:
                target = out[start : start + chunk.size]
                pages.prepare(start, chunk.size)
                try:
                    shard.read_chunk(chunk, scratch, target)
                except BaseException:
                    work.stop()
                    raise
                counter.add(chunk.size)

        try:
            with ThreadPoolExecutor(threads) as pool:
                try:
                    for future in [pool.submit(run) for _ in range(threads)]:
                        future.result()
                finally:
                    work.stop()
        except BaseException:
            wipe(out[: work.reached])  # what was never begun is untouched, and may be terabytes
            raise


class _SharedWork:
    """One iterator for several threads."""

    def __init__(self, items: Iterator[tuple[OpenedFile, Chunk, int]]) -> None:
        self._items = items
        self._lock = threading.Lock()
        self._stopped = False
        self.reached = 0  # stream offset behind the last chunk handed out

    def __iter__(self) -> Iterator[tuple[OpenedFile, Chunk, int]]:
        while True:
            with self._lock:
                item = None if self._stopped else next(self._items, None)
                if item is None:
                    return
                self.reached = item[2] + item[1].size
            yield item

    def stop(self) -> None:
        """Hand out nothing more."""
        self._stopped = True


def open_sealed(
    source: BlobSource, manifest: VerifiedManifest, model_key: SecretBytes
) -> SealedReader:
    """Check every prefix and commitment, and open the index.

    Args:
        source: gives ciphertext, untrusted.
        manifest: signed by the owner.
        model_key: secret; the caller wipes it.

    Raises:
        KeyAccessError: WRONG_MODEL_KEY.
        IntegrityError: SIZE_CHANGED, PREFIX_CHANGED, SHARD_MISPLACED, COMMITMENT_MISMATCH,
            CHUNK_FORGED (in the index) or MODEL_ID_MISMATCH.
        ParseError: the owner sealed an index that no reader accepts.
        LocalError, UnavailableError: a file cannot be had.
    """
    content = manifest.content
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
    """The index holds names, not weights: it is small and may live in ordinary memory."""
    plaintext = memoryview(bytearray(file.plaintext_size))
    for number in range(file.chunk_count):
        chunk = file.chunk(number)
        scratch = memoryview(bytearray(chunk.stored))
        file.read_chunk(chunk, scratch, plaintext[chunk.start : chunk.start + chunk.size])
    return parse_index(plaintext.tobytes())
