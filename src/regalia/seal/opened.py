"""Opens a sealed file: verifies its prefix and key commitment, and decrypts its chunks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from regalia.core.errors import IntegrityError, KeyAccessError
from regalia.core.types import Digest
from regalia.core.weights import HasCopies
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
    from collections.abc import Callable

    from regalia.core.secret import SecretBytes
    from regalia.core.weights import BlobSource
    from regalia.crypto.aead import ChunkCipher
    from regalia.seal.format.manifest import Manifest
    from regalia.seal.format.prefix import Prefix
    from regalia.seal.format.sealed import Chunk


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Place:
    """Identifies one of a sealed model's encrypted files."""

    kind: Kind
    number: int  # number of the shard; 0 for the index

    @property
    def name(self) -> str:
        """Name of the file."""
        return INDEX_NAME if self.kind is Kind.INDEX else shard_name(self.number)


def _has_only_the_store_left(source: BlobSource) -> bool:
    """Give up all copies of a store. Whether reading again makes sense, since there were some.

    Another thread may have given up the copies before; what was read until then may still be one.
    """
    return isinstance(source, HasCopies) and source.distrust()


def _reading_again(source: BlobSource, read: Callable[[], T]) -> T:
    """Read and check, and once more from the store alone if what may be a copy is refused."""
    try:
        return read()
    except IntegrityError:
        if not _has_only_the_store_left(source):
            raise
        return read()


def read_prefix(source: BlobSource, manifest: Manifest, place: Place) -> Prefix:
    """Read a file's prefix, and check that it is the one that the manifest describes.

    The digest is compared before the prefix is parsed, so the parser sees only bytes that the
    owner signed.

    Args:
        source: store of the ciphertext, untrusted.
        manifest: manifest with a verified signature.
        place: the file.

    Raises:
        IntegrityError: SIZE_CHANGED, PREFIX_CHANGED or SHARD_MISPLACED.
        ParseError: the prefix that the owner signed is malformed.
        LocalError, UnavailableError: the file cannot be read.
    """
    is_index = place.kind is Kind.INDEX
    file = manifest.index if is_index else manifest.shards[place.number]
    size = source.size(place.name)
    if size != file.size:
        raise IntegrityError(
            SealCode.SIZE_CHANGED, f"{place.name} has {size} bytes, the manifest says {file.size}"
        )
    buffer = bytearray(PREFIX_SIZE)

    def read() -> None:
        source.read_into(place.name, 0, memoryview(buffer))
        if Digest.of(buffer) != file.prefix_digest:
            raise IntegrityError(
                SealCode.PREFIX_CHANGED, f"the first {PREFIX_SIZE} bytes of {place.name} differ"
            )

    _reading_again(source, read)
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
    """A sealed file whose key is known to be right. May be used from several threads."""

    def __init__(self, source: BlobSource, name: str, prefix: Prefix, cipher: ChunkCipher) -> None:
        self.name = name
        self.plaintext_size = prefix.plaintext_size
        self.chunk_count = chunk_count(prefix.plaintext_size, prefix.stride)
        self._stride = prefix.stride
        self._source = source
        self._cipher = cipher

    def chunk(self, number: int) -> Chunk:
        """Compute the position of a chunk."""
        return chunk_at(number, self.plaintext_size, self._stride)

    def read_chunk(self, chunk: Chunk, scratch: memoryview, out: memoryview) -> None:
        """Read and decrypt one chunk. As ``fetch`` and ``open_chunk``."""
        sealed = scratch[: chunk.stored]
        self.fetch(chunk.offset, sealed)
        self.open_chunk(chunk, sealed, out)

    def fetch(self, offset: int, scratch: memoryview) -> None:
        """Copy ciphertext of one or more chunks, so that the storage cannot change it any more.

        Args:
            offset: offset in the file of the first byte.
            scratch: buffer to fill, which no other thread uses.

        Raises:
            LocalError, UnavailableError, IntegrityError: it cannot be read.
        """
        _reading_again(self._source, lambda: self._source.read_into(self.name, offset, scratch))

    def open_chunk(self, chunk: Chunk, sealed: memoryview, out: memoryview) -> None:
        """Decrypt one chunk into ``out``.

        Args:
            chunk: position of the chunk.
            sealed: its ciphertext and tag. It is read again if it was not what the owner sealed
                and may have come from a copy of the store.
            out: buffer of ``chunk.size`` bytes for the plaintext.

        Raises:
            IntegrityError: CHUNK_FORGED; ``out`` is then all zero.
            LocalError, UnavailableError: it cannot be read again.
        """
        try:
            self._decrypt(chunk, sealed, out)
        except IntegrityError:
            if not _has_only_the_store_left(self._source):
                raise
            self._source.read_into(self.name, chunk.offset, sealed)
            self._decrypt(chunk, sealed, out)

    def _decrypt(self, chunk: Chunk, sealed: memoryview, out: memoryview) -> None:
        try:
            self._cipher.open_into(chunk.number, sealed, out, last=chunk.last)
        except IntegrityError as exc:
            raise IntegrityError(exc.code, f"{self.name}: {exc.what}") from exc


def open_file(
    source: BlobSource, manifest: Manifest, place: Place, model_key: SecretBytes
) -> OpenedFile:
    """Verify a file's prefix and its commitment to the model key.

    Args:
        source: store of the ciphertext, untrusted.
        manifest: manifest with a verified signature.
        place: the file.
        model_key: the model key, 32 bytes.

    Raises:
        KeyAccessError: WRONG_MODEL_KEY, the index does not commit to this key.
        IntegrityError: COMMITMENT_MISMATCH, a shard does not commit to this key, although the
            index does; or as ``read_prefix``.
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
