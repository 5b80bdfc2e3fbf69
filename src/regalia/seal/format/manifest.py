"""Encodes and parses the payload of the manifest, the public part of a sealed model.

Spec: docs/spec/sealed-model.md, "Manifest". Parsing checks that the manifest is consistent.
``regalia.seal.manifest`` verifies the owner's signature.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from regalia.core.codec import MIB, b64, canonical_json, parse_json, unb64
from regalia.core.errors import CoreCode, ParseError
from regalia.core.types import Digest, ModelId
from regalia.seal.format.sealed import (
    INDEX_LIMIT,
    INDEX_PADDING,
    SHARD_CHUNKS_MAX,
    SHARDS_MAX,
    STRIDES,
    VERSION_MAX,
    Geometry,
    SealedCode,
    SealId,
    WrappedKey,
    plaintext_size,
    stored_size,
    wrap_context,
)

FORMAT = "regalia/sealed-model/v1"
SUITE_NAME = "aes-256-gcm+hkdf-sha-512"
PAYLOAD_TYPE = "application/vnd.regalia.sealed-model.v1+json"
LIMIT = 8 * MIB  # bytes of payload
_KEK_LIMIT = 256  # characters
_ALGORITHM_LIMIT = 64  # characters
_BLOB_LIMIT = 4096  # bytes
_SPKI_LIMIT = 4096  # bytes; a key with ML-DSA-65 has some 2,000
_STREAM_LIMIT = 1 << 53  # bytes; beyond it, JSON readers that use doubles lose precision


class _Doc(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of the wire structs: unknown fields are an error."""


class _Version(msgspec.Struct, frozen=True, kw_only=True):
    """What stands in every version of a manifest. Other members are not looked at."""

    format: str
    suite: str


class _File(_Doc, frozen=True, kw_only=True):
    prefix_digest: str
    digest: str
    size: int


class _Wrapped(_Doc, frozen=True, kw_only=True):
    kek: str
    algorithm: str
    blob: str


class _Wire(_Doc, frozen=True, kw_only=True):
    format: str
    suite: str
    seal_id: str
    model_id: str
    version: int
    stride: int
    shard_chunks: int
    stream_size: int
    signer: str | None
    wrapped_key: _Wrapped
    index: _File
    shards: list[_File]
    base: str | msgspec.UnsetType = msgspec.UNSET  # of adapters only


@dataclass(frozen=True, slots=True)
class SealedFile:
    """Size and digests of one encrypted file."""

    size: int  # bytes, prefix included
    prefix_digest: Digest  # SHA-256 of the first 4096 bytes
    digest: Digest  # SHA-256 of the whole file, as sha256sum prints it


@dataclass(frozen=True, slots=True)
class Manifest:
    """A well-formed manifest, whose author is not verified."""

    seal_id: SealId
    model_id: ModelId
    version: int  # 1 … 2^53 - 1; the owner increases it with every release of the model
    geometry: Geometry
    signer: bytes | None  # SubjectPublicKeyInfo of the owner's key; None when unsigned
    wrapped_key: WrappedKey
    index: SealedFile
    shards: tuple[SealedFile, ...]
    base: ModelId | None = None  # of an adapter: the model that it changes

    def stored_total(self) -> int:
        """Number of bytes of all encrypted files together."""
        return self.index.size + sum(shard.size for shard in self.shards)

    def wrap_context(self) -> bytes:
        """The associated data that the wrapped model key is bound to."""
        return wrap_context(self.model_id, self.version, self.seal_id)

    def encode(self) -> bytes:
        """Encode as canonical JSON, which is the DSSE payload."""
        return canonical_json(
            _Wire(
                format=FORMAT,
                suite=SUITE_NAME,
                seal_id=str(self.seal_id),
                model_id=str(self.model_id),
                version=self.version,
                stride=self.geometry.stride,
                shard_chunks=self.geometry.shard_chunks,
                stream_size=self.geometry.stream_size,
                signer=None if self.signer is None else b64(self.signer),
                wrapped_key=_Wrapped(
                    kek=self.wrapped_key.kek,
                    algorithm=self.wrapped_key.algorithm,
                    blob=b64(self.wrapped_key.blob),
                ),
                index=_file_wire(self.index),
                shards=[_file_wire(shard) for shard in self.shards],
                base=msgspec.UNSET if self.base is None else str(self.base),
            )
        )


def _file_wire(file: SealedFile) -> _File:
    return _File(size=file.size, prefix_digest=str(file.prefix_digest), digest=str(file.digest))


def parse_manifest(payload: bytes) -> Manifest:
    """Parse raw, untrusted bytes into a consistent manifest. Inverse of ``Manifest.encode``.

    Raises:
        ParseError: TOO_LARGE, MALFORMED, SEALED_VERSION_UNKNOWN or SEALED_SUITE_UNKNOWN.
    """
    _require_known_version(payload)
    wire = parse_json(payload, _Wire, limit=LIMIT, what="manifest")
    if not 1 <= wire.version <= VERSION_MAX:
        raise _malformed(f"version {wire.version}")
    geometry = _parse_geometry(wire)
    signer = None
    if wire.signer is not None:
        signer = unb64(wire.signer, what="manifest.signer", limit=_SPKI_LIMIT)
    manifest = Manifest(
        seal_id=SealId.parse(wire.seal_id),
        model_id=ModelId.parse(wire.model_id),
        version=wire.version,
        geometry=geometry,
        signer=signer,
        wrapped_key=_parse_wrapped(wire.wrapped_key),
        index=_parse_file(wire.index),
        shards=tuple(_parse_file(shard) for shard in wire.shards),
        base=None if wire.base is msgspec.UNSET else ModelId.parse(wire.base),
    )
    if manifest.base == manifest.model_id:
        raise _malformed("an adapter that is its own base")
    if manifest.index.size > stored_size(INDEX_LIMIT, geometry.stride):
        raise ParseError(CoreCode.TOO_LARGE, f"manifest: index of {manifest.index.size} bytes")
    # Sizes follow from the layout, so a wrong one is noticed before any file is read.
    index_size = plaintext_size(manifest.index.size, geometry.stride)
    if not index_size or index_size % INDEX_PADDING:
        raise _malformed(f"no index has {manifest.index.size} bytes")
    for number, shard in enumerate(manifest.shards):
        want = stored_size(geometry.shard_size(number), geometry.stride)
        if shard.size != want:
            raise _malformed(f"shard {number} has {shard.size} bytes, the layout says {want}")
    return manifest


def _require_known_version(payload: bytes) -> None:
    """Look at format and suite first: another version may have other members.

    Raises:
        ParseError: TOO_LARGE, SEALED_VERSION_UNKNOWN or SEALED_SUITE_UNKNOWN. What cannot be read
            at all is left to the parser.
    """
    if len(payload) > LIMIT:
        raise ParseError(CoreCode.TOO_LARGE, f"manifest: {len(payload)} bytes, at most {LIMIT}")
    try:
        seen = msgspec.json.decode(payload, type=_Version)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return
    if seen.format != FORMAT:
        raise ParseError(
            SealedCode.SEALED_VERSION_UNKNOWN,
            f"manifest: format {seen.format[:80]!r}; the one known here is {FORMAT}",
        )
    if seen.suite != SUITE_NAME:
        raise ParseError(SealedCode.SEALED_SUITE_UNKNOWN, f"manifest: suite {seen.suite[:80]!r}")


def _malformed(what: str) -> ParseError:
    return ParseError(CoreCode.MALFORMED, f"manifest: {what}")


def _parse_geometry(wire: _Wire) -> Geometry:
    if wire.stride not in STRIDES:
        raise _malformed(f"stride {wire.stride} is not one of {STRIDES}")
    if not 1 <= wire.shard_chunks <= SHARD_CHUNKS_MAX:
        raise _malformed(f"{wire.shard_chunks} chunks per shard, at most {SHARD_CHUNKS_MAX}")
    if not 0 <= wire.stream_size <= _STREAM_LIMIT:
        raise _malformed(f"stream of {wire.stream_size} bytes")
    geometry = Geometry(wire.stride, wire.shard_chunks, wire.stream_size)
    if geometry.shard_count > SHARDS_MAX:
        raise ParseError(CoreCode.TOO_LARGE, f"manifest: {geometry.shard_count} shards")
    if len(wire.shards) != geometry.shard_count:
        raise _malformed(f"{len(wire.shards)} shards, the layout says {geometry.shard_count}")
    return geometry


def _parse_wrapped(wire: _Wrapped) -> WrappedKey:
    for name, text, limit in (
        ("kek", wire.kek, _KEK_LIMIT),
        ("algorithm", wire.algorithm, _ALGORITHM_LIMIT),
    ):
        if len(text.encode()) > limit:
            raise ParseError(
                CoreCode.TOO_LARGE, f"manifest: wrapped_key.{name}: more than {limit} bytes"
            )
        # ASCII alone: what else is printable changes with the version of Unicode.
        if not text or not (text.isascii() and text.isprintable()):
            raise _malformed(f"wrapped_key.{name}: want 1 to {limit} printable ASCII characters")
    blob = unb64(wire.blob, what="manifest.wrapped_key.blob", limit=_BLOB_LIMIT)
    if not 1 <= len(blob) <= _BLOB_LIMIT:
        raise _malformed(f"wrapped_key.blob: {len(blob)} bytes")
    return WrappedKey(kek=wire.kek, algorithm=wire.algorithm, blob=blob)


def _parse_file(wire: _File) -> SealedFile:
    return SealedFile(
        size=wire.size,
        prefix_digest=Digest.parse(wire.prefix_digest),
        digest=Digest.parse(wire.digest),
    )
