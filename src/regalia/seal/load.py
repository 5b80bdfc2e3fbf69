"""From ciphertext to a model in memory that the caller supplies: locked, and never on disk."""

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
    """Memory for plaintext weights. The runtime supplies it: locked, left out of core dumps."""

    def allocate(self, size: int) -> memoryview:
        """Writable, contiguous, page-aligned, exactly ``size`` bytes. Called once.

        Raises LocalError if the machine refuses.
        """

    def wipe(self) -> None:
        """Overwrite everything with zeros and give it back. Safe to call twice."""


class LoadedModel:
    """A model's files as views on one destination. Implements ``core.weights.ModelFiles``."""

    def __init__(self, index: Index, stream: memoryview, destination: Destination) -> None:
        """Called by ``load_model``."""
        self.index = index
        self._entries: dict[str, Entry] = {entry.path: entry for entry in index.entries}
        self._stream: memoryview | None = stream.toreadonly()
        self._destination = destination

    def paths(self) -> tuple[str, ...]:
        """Relative POSIX paths, in the order of the model id."""
        return tuple(self._entries)

    def view(self, path: str) -> memoryview:
        """The file's bytes, read-only, without a copy.

        Raises:
            KeyError: the model has no such file.
            RuntimeError: the model has been wiped.
        """
        if self._stream is None:
            raise RuntimeError("model used after wipe")
        entry = self._entries[path]
        return self._stream[entry.offset : entry.end]

    def wipe(self) -> None:
        """Overwrite the weights. Views handed out before see zeros, or must not be used."""
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
    """Check and decrypt a whole sealed model into ``destination``.

    File digests are not computed again: every chunk is authenticated under the model key, at
    its place, and a second pass of SHA-256 would cost six to eight times the decryption.

    Args:
        source: gives ciphertext, untrusted.
        manifest: signed by the owner.
        model_key: secret; the caller wipes it.
        destination: gives the memory that the plaintext is written to.
        threads: how many read and decrypt at once.
        progress: told of plaintext bytes.

    Raises:
        What ``open_sealed`` and ``SealedReader.read_all`` raise; the destination is then wiped
        and nothing is returned.
    """
    reader = open_sealed(source, manifest, model_key)
    try:
        stream = destination.allocate(reader.stream_size)
        reader.read_all(stream, threads=threads, progress=progress)
    except BaseException:
        destination.wipe()
        raise
    return LoadedModel(reader.index, stream, destination)
