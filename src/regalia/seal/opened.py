"""One sealed file whose prefix has been checked, ready to give chunks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from regalia.core.errors import IntegrityError, KeyAccessError
from regalia.core.types import Digest
from regalia.seal.codes import SealCode
from regalia.seal.filekeys import existing_file
from regalia.seal.format.prefix import Kind, parse_prefix
from regalia.seal.format.sealed import (
    INDEX_NAME,
    PREFIX_SIZE,
    chunk_at,
    chunk_count,
    shard_name,
    stored_size,
)

if TYPE_CHECKING:
    from regalia.core.secret import SecretBytes
    from regalia.core.weights import BlobSource
    from regalia.crypto.aead import ChunkCipher
    from regalia.seal.format.manifest import Manifest
    from regalia.seal.format.prefix import Prefix
    from regalia.seal.format.sealed import Chunk


@dataclass(frozen=True, slots=True)
class Place:
    """Which of a sealed model's files is meant."""

    kind: Kind
    number: int  # 0 for the index

    @property
    def name(self) -> str:
        """Name of the blob."""
        return INDEX_NAME if self.kind is Kind.INDEX else shard_name(self.number)


def read_prefix(source: BlobSource, manifest: Manifest, place: Place) -> Prefix:
    """Read a file's prefix and check that it is the one that the manifest describes.

    The digest comes first: nothing is interpreted that the owner did not sign.

    Args:
        source: gives ciphertext, untrusted.
        manifest: signed by the owner.
        place: which file of the sealed model.

    Raises:
        IntegrityError: SIZE_CHANGED, PREFIX_CHANGED or SHARD_MISPLACED.
        ParseError: the owner signed what no reader accepts.
        LocalError, UnavailableError: the file cannot be had.
    """
    is_index = place.kind is Kind.INDEX
    file = manifest.index if is_index else manifest.shards[place.number]
    size = source.size(place.name)
    if size != file.size:
        raise IntegrityError(
            SealCode.SIZE_CHANGED, f"{place.name} has {size} bytes, the manifest says {file.size}"
        )
    buffer = bytearray(PREFIX_SIZE)
    source.read_into(place.name, 0, memoryview(buffer))
    if Digest.of(buffer) != file.prefix_digest:
        raise IntegrityError(
            SealCode.PREFIX_CHANGED, f"the first {PREFIX_SIZE} bytes of {place.name} differ"
        )
    prefix = parse_prefix(bytes(buffer), what=place.name)
    geometry = manifest.geometry
    want = (
        place.kind,
        place.number,
        1 if is_index else geometry.shard_count,
        geometry.stride,
        manifest.seal_id,
        file.size,
    )
    got = (
        prefix.kind,
        prefix.shard_index,
        prefix.shard_count,
        prefix.stride,
        prefix.seal_id,
        stored_size(prefix.plaintext_size, prefix.stride),
    )
    if want != got:
        raise IntegrityError(
            SealCode.SHARD_MISPLACED, f"{place.name} says of itself {got}, the manifest {want}"
        )
    return prefix


class OpenedFile:
    """A sealed file under the right key. Safe to use from several threads."""

    def __init__(self, source: BlobSource, name: str, prefix: Prefix, cipher: ChunkCipher) -> None:
        self.name = name
        self.plaintext_size = prefix.plaintext_size
        self.chunk_count = chunk_count(prefix.plaintext_size, prefix.stride)
        self._stride = prefix.stride
        self._source = source
        self._cipher = cipher

    def chunk(self, number: int) -> Chunk:
        """Locate a chunk."""
        return chunk_at(number, self.plaintext_size, self._stride)

    def read_chunk(self, chunk: Chunk, scratch: memoryview, out: memoryview) -> None:
        """Decrypt one chunk into ``out`` (``chunk.size`` bytes).

        The ciphertext is copied to ``scratch`` (one stride, private to the caller's thread)
        before it is authenticated: whoever controls the storage cannot change it in between.

        Args:
            chunk: where it lies.
            scratch: memory for the ciphertext.
            out: memory for the plaintext.

        Raises:
            IntegrityError: CHUNK_FORGED; ``out`` is then all zero.
        """
        sealed = scratch[: chunk.stored]
        self._source.read_into(self.name, chunk.offset, sealed)
        try:
            self._cipher.open_into(chunk.number, sealed, out, last=chunk.last)
        except IntegrityError as exc:
            raise IntegrityError(exc.code, f"{self.name}: {exc.what}") from exc


def open_file(
    source: BlobSource, manifest: Manifest, place: Place, model_key: SecretBytes
) -> OpenedFile:
    """Check a file's prefix and its commitment to the model key.

    Args:
        source: gives ciphertext, untrusted.
        manifest: signed by the owner.
        place: which file of the sealed model.
        model_key: secret.

    Raises:
        KeyAccessError: WRONG_MODEL_KEY, when not even the index commits to this key.
        IntegrityError: COMMITMENT_MISMATCH, when the index does and this shard does not; and
            everything that ``read_prefix`` raises.
    """
    prefix = read_prefix(source, manifest, place)
    cipher = existing_file(prefix, model_key)
    if cipher is None:
        if place.kind is Kind.INDEX:
            raise KeyAccessError(
                SealCode.WRONG_MODEL_KEY, f"the key does not open {source.describe()}"
            )
        raise IntegrityError(
            SealCode.COMMITMENT_MISMATCH, f"{place.name} is not sealed under the model's key"
        )
    return OpenedFile(source, place.name, prefix, cipher)
