"""Encodes and parses the prefix, the first 4096 bytes of every sealed file.

Spec: docs/spec/sealed-model.md, "Prefix".
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

from regalia.core.codec import exact
from regalia.core.errors import CoreCode, ParseError
from regalia.seal.format.sealed import (
    PREFIX_SIZE,
    SHARD_CHUNKS_MAX,
    SHARDS_MAX,
    STRIDES,
    SealedCode,
    SealId,
    chunk_count,
)

MAGIC = b"RGLSEAL\x00"
VERSION = 1
SUITE = 1  # AES-256-GCM chunks, HKDF-SHA-512 keys and commitment
SALT_SIZE = 32  # bytes
COMMITMENT_SIZE = 32  # bytes
COMMITMENT_OFFSET = 0x80

# magic, version, suite, kind, zero, index, count, stride, zero, length, zero, seal id, salt,
# commitment, zero. Big-endian; offsets are in the spec.
_LAYOUT = struct.Struct(">8sHHHHIIIIQ24s32s32s32s3936s")
_ZERO_24 = bytes(24)
_ZERO_TAIL = bytes(3936)


class Kind(IntEnum):
    """Kind of content of a sealed file."""

    INDEX = 1
    DATA = 2


@dataclass(frozen=True, slots=True)
class Prefix:
    """The unencrypted part of a sealed file."""

    kind: Kind
    shard_index: int
    shard_count: int
    stride: int
    plaintext_size: int
    seal_id: SealId
    salt: bytes  # 32 random bytes, fresh for every file
    commitment: bytes  # 32 bytes that bind the file to one model key

    def encode(self) -> bytes:
        """Encode as 4096 bytes."""
        return _LAYOUT.pack(
            MAGIC,
            VERSION,
            SUITE,
            self.kind,
            0,
            self.shard_index,
            self.shard_count,
            self.stride,
            0,
            self.plaintext_size,
            _ZERO_24,
            self.seal_id.raw,
            exact(self.salt, SALT_SIZE, what="salt"),
            exact(self.commitment, COMMITMENT_SIZE, what="commitment"),
            _ZERO_TAIL,
        )

    def committed(self) -> bytes:
        """The 128 bytes before the commitment, which are an input of the file's key."""
        return self.encode()[:COMMITMENT_OFFSET]


def parse_prefix(data: bytes, *, what: str) -> Prefix:
    """Parse a prefix. Inverse of ``Prefix.encode``.

    Args:
        data: the first 4096 bytes of the file, raw and untrusted.
        what: name of the file for error messages.

    Raises:
        ParseError: NOT_A_SEALED_FILE, SEALED_VERSION_UNKNOWN, SEALED_SUITE_UNKNOWN, MALFORMED,
            TOO_LARGE.
    """
    if len(data) != PREFIX_SIZE or data[: len(MAGIC)] != MAGIC:
        raise ParseError(SealedCode.NOT_A_SEALED_FILE, f"{what}: no sealed file's prefix")
    fields = _LAYOUT.unpack(data)
    _, version, suite, kind, zero_a, index, count, stride, zero_b, size, zero_c = fields[:11]
    seal_id, salt, commitment, zero_d = fields[11:]
    if version != VERSION:
        raise ParseError(SealedCode.SEALED_VERSION_UNKNOWN, f"{what}: format version {version}")
    if suite != SUITE:
        raise ParseError(SealedCode.SEALED_SUITE_UNKNOWN, f"{what}: suite {suite}")
    if kind not in set(Kind):
        raise ParseError(CoreCode.MALFORMED, f"{what}: kind {kind}")
    # Reserved bytes must be zero, so that the encoding is canonical.
    if zero_a or zero_b or zero_c != _ZERO_24 or zero_d != _ZERO_TAIL:
        raise ParseError(CoreCode.MALFORMED, f"{what}: reserved bytes are not zero")
    if stride not in STRIDES:
        raise ParseError(CoreCode.MALFORMED, f"{what}: stride {stride} is not one of {STRIDES}")
    if count > SHARDS_MAX:
        raise ParseError(CoreCode.TOO_LARGE, f"{what}: {count} shards, at most {SHARDS_MAX}")
    if index >= count:
        raise ParseError(CoreCode.MALFORMED, f"{what}: shard {index} of {count}")
    if chunk_count(size, stride) > SHARD_CHUNKS_MAX:
        raise ParseError(CoreCode.TOO_LARGE, f"{what}: {size} bytes in one shard")
    return Prefix(Kind(kind), index, count, stride, size, SealId(seal_id), salt, commitment)
