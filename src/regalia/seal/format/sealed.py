"""The sealed model: names, limits and the arithmetic of its layout.
Spec: docs/spec/sealed-model.md.

A sealed model is a directory, or any flat set of named blobs:

    manifest.json       what anybody may know, signed by the owner
    index.seal          encrypted: file names, offsets, lengths, digests
    shard-00000.seal …  encrypted: the files' bytes, laid end to end in one stream

``sealed_prefix``, ``sealed_manifest`` and ``sealed_index`` parse the three parts.
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
TAG_SIZE = 16  # bytes
STRIDES = (64 * 1024, MIB, 4 * MIB)  # bytes of one stored chunk, tag included
STRIDE = MIB
SHARD_CHUNKS = 4096  # chunks of a full shard: 4 GiB stored at the default stride
SHARD_CHUNKS_MAX = 1 << 16
SHARDS_MAX = 10_000
FILES_MAX = 100_000
INDEX_PADDING = 64 * 1024  # bytes; the stored size hides how many files there are
INDEX_LIMIT = 64 * MIB  # bytes of index plaintext, padding included
VERSION_MAX = (1 << 53) - 1  # the largest integer that every JSON reader keeps exact

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
    """Names one sealing run: 32 random bytes in every file that the run wrote."""

    PREFIX = "seal"


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """The model key under a key-encryption key.

    Attributes:
        kek: name of the key-encryption key in its key store; at most 256 characters.
        algorithm: how it is wrapped, in the key store's words; at most 64 characters.
        blob: opaque to everybody but that key store; at most 4096 bytes.
    """

    kek: str
    algorithm: str
    blob: bytes


def wrap_context(model_id: ModelId, version: int, seal_id: SealId) -> bytes:
    """What the wrapping of a model key is bound to, as associated data.

    Args:
        model_id: of the model.
        version: the owner's number, which only grows.
        seal_id: of this one sealing, so that a model key of another sealing does not open it.
    """
    return _WRAP_DOMAIN + lp(model_id.raw, struct.pack(">Q", version), seal_id.raw)


def shard_name(index: int) -> str:
    """``shard-00000.seal`` and so on. Names are implied by position, never stated."""
    return f"shard-{index:05d}.seal"


def chunk_count(plaintext_size: int, stride: int) -> int:
    """Chunks of one sealed file. An empty plaintext still has one, which is empty.

    Args:
        plaintext_size: bytes.
        stride: bytes that one chunk takes in the file, tag included.
    """
    return max(1, -(-plaintext_size // (stride - TAG_SIZE)))


def stored_size(plaintext_size: int, stride: int) -> int:
    """Bytes of one sealed file.

    Args:
        plaintext_size: bytes.
        stride: bytes that one chunk takes in the file, tag included.
    """
    return PREFIX_SIZE + plaintext_size + TAG_SIZE * chunk_count(plaintext_size, stride)


def plaintext_size(stored: int, stride: int) -> int | None:
    """Inverse of ``stored_size``; None for a size that no sealed file has.

    Args:
        stored: bytes of the file.
        stride: bytes that one chunk takes in the file, tag included.
    """
    chunks = -(-(stored - PREFIX_SIZE) // stride)
    size = stored - PREFIX_SIZE - TAG_SIZE * chunks
    return size if size >= 0 and stored_size(size, stride) == stored else None


@dataclass(frozen=True, slots=True)
class Chunk:
    """Where one chunk lies. ``start`` counts in the file's plaintext, ``offset`` in its blob."""

    number: int
    start: int
    size: int  # bytes of plaintext
    offset: int
    last: bool

    @property
    def stored(self) -> int:
        """Bytes in the blob: ciphertext and tag."""
        return self.size + TAG_SIZE


def chunk_at(number: int, plaintext_size: int, stride: int) -> Chunk:
    """Locate one chunk of a sealed file by arithmetic.

    Args:
        number: of the chunk, from 0.
        plaintext_size: of the file, in bytes.
        stride: bytes that one chunk takes in the file, tag included.
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
    """How a stream of ``stream_size`` bytes is cut into shards and chunks."""

    stride: int
    shard_chunks: int
    stream_size: int

    @property
    def shard_payload(self) -> int:
        """Plaintext bytes of every shard but the last."""
        return (self.stride - TAG_SIZE) * self.shard_chunks

    @property
    def shard_count(self) -> int:
        """Number of shards; at least one."""
        return max(1, -(-self.stream_size // self.shard_payload))

    def shard_start(self, index: int) -> int:
        """Stream offset of a shard's first byte."""
        return index * self.shard_payload

    def shard_size(self, index: int) -> int:
        """Plaintext bytes of a shard."""
        return min(self.shard_payload, self.stream_size - self.shard_start(index))

    def stored_total(self) -> int:
        """Bytes of all shards as stored."""
        return sum(
            stored_size(self.shard_size(index), self.stride) for index in range(self.shard_count)
        )
