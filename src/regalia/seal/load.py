"""Decrypts a sealed model into memory that the caller supplies, without writing it to disk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from regalia.seal.reader import open_sealed

if TYPE_CHECKING:
    from regalia.core.secret import SecretBytes
    from regalia.core.weights import BlobSource
    from regalia.seal.format.index import Entry, Index
    from regalia.seal.manifest import VerifiedManifest
    from regalia.seal.progress import Progress


class Destination(Protocol):
    """Memory for plaintext weights. The runtime's is locked and left out of core dumps."""

    def allocate(self, size: int) -> memoryview:
        """Allocate ``size`` bytes of writable, contiguous, page-aligned memory, all zeros.

        The first allocation holds the model. Raises LocalError if the memory cannot be allocated.
        """

    def discard(self, start: int, stop: int) -> None:
        """Overwrite a part of the first allocation with zeros, and free it where that is possible.

        Args:
            start: offset of the first byte.
            stop: offset after the last byte.
        """

    def wipe(self) -> None:
        """Overwrite the memory with zeros. May be called again."""


class LoadedModel:
    """A decrypted model: views on one destination. Implements ``core.weights.ModelFiles``."""

    def __init__(self, index: Index, stream: memoryview, destination: Destination) -> None:
        """Use ``load_model`` instead."""
        self.index = index
        self._entries: dict[str, Entry] = {entry.path: entry for entry in index.entries}
        self._stream: memoryview | None = stream.toreadonly()
        self._destination = destination

    def paths(self) -> tuple[str, ...]:
        """Relative POSIX paths of the files, in the order that the model id is computed in."""
        return tuple(self._entries)

    def view(self, path: str) -> memoryview:
        """A read-only view on a file's bytes, without a copy.

        Raises:
            KeyError: the model has no such file.
            RuntimeError: the model has been wiped.
        """
        if self._stream is None:
            raise RuntimeError("model used after wipe")
        entry = self._entries[path]
        return self._stream[entry.offset : entry.end]

    def allocate(self, size: int) -> memoryview:
        """More memory of the destination, wiped with the model. Raises LocalError."""
        return self._destination.allocate(size)

    def discard(self, path: str, start: int, stop: int) -> None:
        """Overwrite a part of a file that nothing uses any more.

        Args:
            path: path of the file.
            start: offset in the file of the first byte.
            stop: offset after the last byte.

        Raises:
            ValueError: it is not a part of the file.
        """
        entry = self._entries[path]
        if not 0 <= start <= stop <= entry.end - entry.offset:
            raise ValueError("not a part of the file")
        self._destination.discard(entry.offset + start, entry.offset + stop)

    def wipe(self) -> None:
        """Overwrite the weights. Views from before must not be used any more."""
        self._stream = None
        self._destination.wipe()


def load_model(  # noqa: PLR0913 - what, proof, key, where to: none can be left out
    source: BlobSource,
    manifest: VerifiedManifest,
    model_key: SecretBytes,
    destination: Destination,
    *,
    threads: int,
    progress: Progress,
) -> LoadedModel:
    """Verify and decrypt a whole sealed model into ``destination``.

    The digests of the plaintext files are not computed again. Every chunk is authenticated under
    the model key with its position, and a second pass with SHA-256 would cost six to eight times
    as much as the decryption.

    Args:
        source: store of the ciphertext, untrusted.
        manifest: verified manifest of the model.
        model_key: the model key; the caller wipes it.
        destination: allocates the memory for the plaintext.
        threads: number of threads that read and decrypt.
        progress: called with the number of plaintext bytes.

    Raises:
        As ``open_sealed`` and ``SealedReader.read_all``; the destination is then wiped.
    """
    reader = open_sealed(source, manifest, model_key)
    try:
        stream = destination.allocate(reader.stream_size)
        reader.read_all(stream, threads=threads, progress=progress)
    except BaseException:
        destination.wipe()
        raise
    return LoadedModel(reader.index, stream, destination)
