"""Names, limits and layout arithmetic of a sealed model. Spec: docs/spec/sealed-model.md.

A sealed model is a directory, or any flat set of named blobs:

    manifest.json       public, signed by the owner
    index.seal          encrypted: file names, offsets, lengths, digests
    shard-00000.seal …  encrypted: the files' bytes, one after the other in one stream

The modules ``prefix``, ``manifest`` and ``index`` parse the parts.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from regalia.core.codec import MIB, lp
from regalia.core.errors import Code
from regalia.core.types import FixedBytes

if TYPE_CHECKING:
    from regalia.core.types import ModelId

MANIFEST_NAME = "manifest.json"
INDEX_NAME = "index.seal"

PREFIX_SIZE = 4096  # bytes
TAG_SIZE = 16  # bytes of an AES-GCM tag
STRIDES = (64 * 1024, MIB, 4 * MIB)  # bytes of one stored chunk, tag included
STRIDE = MIB
SHARD_CHUNKS = 4096  # chunks of a full shard: 4 GiB stored at the default stride
SHARD_CHUNKS_MAX = 1 << 16
SHARDS_MAX = 10_000
FILES_MAX = 100_000
INDEX_PADDING = 64 * 1024  # bytes; padding hides the number of files
INDEX_LIMIT = 64 * MIB  # bytes of index plaintext, including padding
VERSION_MAX = (1 << 53) - 1  # the largest integer that every JSON parser represents exactly

_WRAP_DOMAIN = b"regalia/wrapped-model-key/v1"


class SealedCode(Code):
    """Refusals of the parsers."""

    NOT_A_SEALED_FILE = (
        "The bytes do not begin like a file of a sealed model.",
        "Check that this is the right directory, and fetch the file again.",
    )
    SEALED_VERSION_UNKNOWN = (
        "Bytes of an unknown format version are never guessed at.",
        "Update Regalia, or check who made the file.",
    )
    SEALED_SUITE_UNKNOWN = (
        "An unknown cipher suite cannot be checked, so nothing is opened with it.",
        "Update Regalia, or check who made the file.",
    )
    PATH_REFUSED = (
        "A name that leads out of its directory, or that shows as another, is an attack.",
        "Rename the file in the model directory and seal again.",
    )
    PATHS_COLLIDE = (
        "On another file system one of these files would silently replace the other.",
        "Rename one of them and seal again.",
    )


class SealId(FixedBytes):
    """Identifier of one run of sealing: 32 random bytes in every file that it wrote."""

    PREFIX = "seal"


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """The model key, encrypted under a key-encryption key (KEK).

    Attributes:
        kek: name of the KEK in its key store; at most 256 characters.
        algorithm: the key store's name of its wrapping; at most 64 characters.
        blob: the wrapped key, which only that key store can interpret; at most 4096 bytes.
    """

    kek: str
    algorithm: str
    blob: bytes


def wrap_context(model_id: ModelId, version: int, seal_id: SealId) -> bytes:
    """Build the associated data that a wrapped model key is bound to.

    Args:
        model_id: identifier of the model.
        version: version of the model, which the owner only increases.
        seal_id: identifier of the run of sealing, so that the wrapped key of another run cannot
            be substituted.
    """
    return _WRAP_DOMAIN + lp(model_id.raw, struct.pack(">Q", version), seal_id.raw)


def shard_name(index: int) -> str:
    """Name of a shard, such as ``shard-00000.seal``. It follows from the shard's number."""
    return f"shard-{index:05d}.seal"


def chunk_count(plaintext_size: int, stride: int) -> int:
    """Number of chunks in a sealed file. Even an empty plaintext has one, which is empty.

    Args:
        plaintext_size: number of plaintext bytes.
        stride: stored size of one chunk in bytes, including its tag.
    """
    return max(1, -(-plaintext_size // (stride - TAG_SIZE)))


def stored_size(plaintext_size: int, stride: int) -> int:
    """Number of bytes in a sealed file.

    Args:
        plaintext_size: number of plaintext bytes.
        stride: stored size of one chunk in bytes, including its tag.
    """
    return PREFIX_SIZE + plaintext_size + TAG_SIZE * chunk_count(plaintext_size, stride)


def plaintext_size(stored: int, stride: int) -> int | None:
    """Inverse of ``stored_size``; None for a size that no sealed file can have.

    Args:
        stored: number of bytes in the file.
        stride: stored size of one chunk in bytes, including its tag.
    """
    chunks = -(-(stored - PREFIX_SIZE) // stride)
    size = stored - PREFIX_SIZE - TAG_SIZE * chunks
    return size if size >= 0 and stored_size(size, stride) == stored else None


@dataclass(frozen=True, slots=True)
class Chunk:
    """Position of one chunk in its file."""

    number: int
    start: int  # offset in the file's plaintext, in bytes
    size: int  # bytes of plaintext
    offset: int  # offset in the stored file, in bytes
    last: bool

    @property
    def stored(self) -> int:
        """Stored size in bytes: ciphertext and tag."""
        return self.size + TAG_SIZE


def chunk_at(number: int, plaintext_size: int, stride: int) -> Chunk:
    """Compute the position of a chunk.

    Args:
        number: number of the chunk, from 0.
        plaintext_size: number of plaintext bytes in the file.
        stride: stored size of one chunk in bytes, including its tag.
    """
    payload = stride - TAG_SIZE
    start = number * payload
    return Chunk(
        number=number,
        start=start,
        size=min(payload, plaintext_size - start),
        offset=PREFIX_SIZE + number * stride,
        last=number == chunk_count(plaintext_size, stride) - 1,
    )


@dataclass(frozen=True, slots=True)
class Geometry:
    """Division of a stream of ``stream_size`` bytes into shards and chunks."""

    stride: int
    shard_chunks: int
    stream_size: int

    @property
    def payload(self) -> int:
        """Number of plaintext bytes in every chunk except the last."""
        return self.stride - TAG_SIZE

    @property
    def shard_payload(self) -> int:
        """Number of plaintext bytes in every shard except the last."""
        return self.payload * self.shard_chunks

    @property
    def shard_count(self) -> int:
        """Number of shards; at least one."""
        return max(1, -(-self.stream_size // self.shard_payload))

    def shard_start(self, index: int) -> int:
        """Stream offset of a shard's first byte."""
        return index * self.shard_payload

    def shard_size(self, index: int) -> int:
        """Number of plaintext bytes in a shard."""
        return min(self.shard_payload, self.stream_size - self.shard_start(index))

    def stored_total(self) -> int:
        """Stored size of all shards together, in bytes."""
        return sum(
            stored_size(self.shard_size(index), self.stride) for index in range(self.shard_count)
        )
