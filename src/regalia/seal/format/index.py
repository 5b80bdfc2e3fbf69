"""Encodes and parses the index: names, offsets and digests of a model's files.

The index is stored encrypted. Spec: docs/spec/sealed-model.md, "Index".
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from regalia.core.codec import canonical_json, lp, parse_json
from regalia.core.errors import CoreCode, ParseError
from regalia.core.types import Digest, ModelId
from regalia.seal.format.paths import check_collisions, check_path
from regalia.seal.format.sealed import FILES_MAX, INDEX_LIMIT, INDEX_PADDING

if TYPE_CHECKING:
    from collections.abc import Iterable

FORMAT = "regalia/sealed-index/v1"
ALIGNMENT = 64  # bytes; gaps in the stream are smaller than this
_LENGTH = struct.Struct(">Q")
_MODEL_ID_DOMAIN = b"regalia/model-id/v1"


class _Doc(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of the wire structs: unknown fields are an error."""


class _Entry(_Doc, frozen=True, kw_only=True):
    path: str
    offset: int
    length: int
    digest: str


class _Wire(_Doc, frozen=True, kw_only=True):
    format: str
    stream_size: int
    files: list[_Entry]


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of the model. ``offset`` and ``length`` are in bytes of the plaintext stream."""

    path: str
    offset: int
    length: int
    digest: Digest

    @property
    def end(self) -> int:
        """Stream offset of the first byte after the file."""
        return self.offset + self.length


@dataclass(frozen=True, slots=True)
class Index:
    """All files of a model, in ascending order of their paths' UTF-8 bytes."""

    entries: tuple[Entry, ...]
    stream_size: int

    def model_id(self) -> ModelId:
        """Compute the model id of these files."""
        return model_id((entry.path, entry.length, entry.digest) for entry in self.entries)

    def encode(self) -> bytes:
        """Encode as u64 length, canonical JSON, and zeros up to a multiple of 64 KiB."""
        body = canonical_json(
            _Wire(
                format=FORMAT,
                stream_size=self.stream_size,
                files=[
                    _Entry(path=e.path, offset=e.offset, length=e.length, digest=str(e.digest))
                    for e in self.entries
                ],
            )
        )
        return (_LENGTH.pack(len(body)) + body).ljust(_padded(len(body)), b"\0")


def model_id(files: Iterable[tuple[str, int, Digest]]) -> ModelId:
    """Compute a model id: SHA-256 over a domain and lp(path, u64 length, SHA-256) of the files.

    The files must be in order of their paths. ``lp`` prefixes lengths, so that two different
    lists of files cannot give the same input.
    """
    hasher = hashlib.sha256(_MODEL_ID_DOMAIN)
    for path, length, digest in files:
        hasher.update(lp(path.encode(), _LENGTH.pack(length), digest.raw))
    return ModelId(hasher.digest())


def _padded(body: int) -> int:
    return -(-(_LENGTH.size + body) // INDEX_PADDING) * INDEX_PADDING


def parse_index(data: bytes) -> Index:
    """Parse a decrypted index. Inverse of ``Index.encode``.

    Raises:
        ParseError: TOO_LARGE, MALFORMED, PATH_REFUSED or PATHS_COLLIDE.
    """
    if len(data) > INDEX_LIMIT:
        raise ParseError(CoreCode.TOO_LARGE, f"index: {len(data)} bytes, at most {INDEX_LIMIT}")
    if len(data) < _LENGTH.size:
        raise ParseError(CoreCode.MALFORMED, f"index: {len(data)} bytes")
    (size,) = _LENGTH.unpack_from(data)
    body = data[_LENGTH.size : _LENGTH.size + size]
    if len(body) != size or len(data) != _padded(size) or any(data[_LENGTH.size + size :]):
        raise ParseError(CoreCode.MALFORMED, "index: length or padding is wrong")
    wire = parse_json(body, _Wire, limit=INDEX_LIMIT, what="index")
    if wire.format != FORMAT:
        raise ParseError(CoreCode.MALFORMED, f"index: format {wire.format[:80]!r}")
    if not 1 <= len(wire.files) <= FILES_MAX:
        raise ParseError(CoreCode.TOO_LARGE, f"index: {len(wire.files)} files")
    entries = tuple(Entry(e.path, e.offset, e.length, Digest.parse(e.digest)) for e in wire.files)
    _check_order(entries, wire.stream_size)
    check_collisions(entry.path for entry in entries)
    return Index(entries, wire.stream_size)


def _check_order(entries: tuple[Entry, ...], stream_size: int) -> None:
    """Check that files are in order of path, and at most 63 bytes after one another."""
    previous: bytes = b""
    end = 0
    for entry in entries:
        check_path(entry.path)
        if entry.path.encode() <= previous:
            raise ParseError(CoreCode.MALFORMED, f"index: {entry.path!a} is out of order")
        if entry.length < 0 or not 0 <= entry.offset - end < ALIGNMENT:
            raise ParseError(CoreCode.MALFORMED, f"index: {entry.path!a} is misplaced")
        previous, end = entry.path.encode(), entry.end
    if end != stream_size:
        raise ParseError(CoreCode.MALFORMED, f"index: stream of {stream_size} bytes ends at {end}")
