"""What a sealing that is under way writes down, so that another run can continue it.

    key.json            in clear: seal id, version, and the model key wrapped under the owner's KEK
    plan.state          encrypted: the files, what tells them from others, and their places
    shard-00000.state   encrypted, one for each whole shard: its digests, and those of the files
                        that end in it

Every encrypted part has a key of its own, derived from the model key with a fresh salt, its name
and the digest of ``key.json``. So a part is read as what it was written as, or not at all, and
writing one again repeats no nonce. Sizes are padded as the index is.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import msgspec

from regalia.core.codec import b64, canonical_json, lp, parse_json, unb64
from regalia.core.errors import CoreCode, IntegrityError, ParseError
from regalia.core.types import Digest
from regalia.crypto.aead import KEY_SIZE, TAG_SIZE, ChunkCipher
from regalia.crypto.kdf import hkdf_sha512
from regalia.host.localfs import read_file, write_new
from regalia.seal.format.manifest import SealedFile
from regalia.seal.format.sealed import (
    INDEX_LIMIT,
    INDEX_PADDING,
    Geometry,
    SealId,
    WrappedKey,
    shard_name,
)
from regalia.seal.randomness import random_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from regalia.core.secret import SecretBytes
    from regalia.seal.plan import Plan
    from regalia.seal.randomness import RandomSource

    # (wrapped key, context) -> the model key, for its owner
    Unwrap = Callable[[WrappedKey, bytes], SecretBytes]
    # (model key, context) -> the model key, encrypted under a KEK and bound to the context
    Wrap = Callable[[SecretBytes, bytes], WrappedKey]

FORMAT = "regalia/sealing-state/v1"
KEY_NAME = "key.json"
PLAN_NAME = "plan.state"
_DOMAIN = FORMAT.encode()
_SALT_SIZE = 32  # bytes
_KEY_LIMIT = 64 * 1024  # bytes of key.json
_BLOB_LIMIT = 4096  # bytes of a wrapped key
_LENGTH = struct.Struct(">Q")
_IDENTITY = struct.Struct(">QQQqq")


class _Doc(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of the wire structs: unknown fields are an error."""


class _KeyDoc(_Doc, frozen=True, kw_only=True):
    format: str
    seal_id: str
    version: int
    kek: str
    algorithm: str
    blob: str


class _FileDoc(_Doc, frozen=True, kw_only=True):
    path: str
    offset: int
    size: int
    identity: str


class _PlanDoc(_Doc, frozen=True, kw_only=True):
    stride: int
    shard_chunks: int
    stream_size: int
    files: list[_FileDoc]


class _EndedDoc(_Doc, frozen=True, kw_only=True):
    file: int
    digest: str


class _ShardDoc(_Doc, frozen=True, kw_only=True):
    size: int
    prefix_digest: str
    digest: str
    ended: list[_EndedDoc]
    unended: str | None


D = TypeVar("D", bound=_Doc)


@dataclass(frozen=True, slots=True)
class PlannedFile:
    """A file as it was when the sealing began."""

    path: str
    offset: int  # in the stream
    size: int
    identity: Digest  # of device, inode, size and times


@dataclass(frozen=True, slots=True)
class PlanRecord:
    """What the sealing was begun with."""

    geometry: Geometry
    files: tuple[PlannedFile, ...]

    @classmethod
    def of(cls, plan: Plan) -> PlanRecord:
        """What is written down of a plan."""
        return cls(
            plan.geometry,
            tuple(
                PlannedFile(
                    placed.file.path,
                    placed.offset,
                    placed.file.size,
                    Digest.of(
                        _IDENTITY.pack(
                            placed.file.device,
                            placed.file.inode,
                            placed.file.size,
                            placed.file.modified_ns,
                            placed.file.changed_ns,
                        )
                    ),
                )
                for placed in plan.placed
            ),
        )


@dataclass(frozen=True, slots=True)
class ShardRecord:
    """A whole shard.

    Attributes:
        file: its entry in the manifest.
        ended: digests of the files whose last byte is in it, by their numbers in the plan.
        unended: digest of the beginning of the file that goes on in the next shard, if one does.
    """

    file: SealedFile
    ended: Mapping[int, Digest]
    unended: Digest | None


def wrap_context(seal_id: SealId, version: int) -> bytes:
    """Build the associated data that the wrapped key of an unfinished sealing is bound to.

    It is no manifest's context, so no broker unwraps this key.

    Args:
        seal_id: identifier of the sealing.
        version: version of the model.
    """
    return _DOMAIN + lp(seal_id.raw, _LENGTH.pack(version))


def record_name(number: int) -> str:
    """Name of a shard's record, such as ``shard-00000.state``."""
    return shard_name(number).replace(".seal", ".state")


class Journal:
    """The records of one sealing, in a folder of its own."""

    def __init__(
        self, folder: Path, head: bytes, model_key: SecretBytes, random: RandomSource
    ) -> None:
        """Use ``begin_journal`` or ``open_journal`` instead."""
        self._folder = folder
        self._binding = Digest.of(head).raw
        self._model_key = model_key
        self._random = random

    def write_plan(self, plan: PlanRecord) -> None:
        """Write down what the sealing begins with."""
        geometry = plan.geometry
        document = _PlanDoc(
            stride=geometry.stride,
            shard_chunks=geometry.shard_chunks,
            stream_size=geometry.stream_size,
            files=[
                _FileDoc(path=f.path, offset=f.offset, size=f.size, identity=str(f.identity))
                for f in plan.files
            ],
        )
        self._write(PLAN_NAME, canonical_json(document))

    def read_plan(self) -> PlanRecord:
        """Read it again. Raises ParseError, IntegrityError or LocalError."""
        wire = self._read(PLAN_NAME, _PlanDoc)
        return PlanRecord(
            Geometry(wire.stride, wire.shard_chunks, wire.stream_size),
            tuple(
                PlannedFile(f.path, f.offset, f.size, Digest.parse(f.identity)) for f in wire.files
            ),
        )

    def write_shard(self, number: int, record: ShardRecord) -> None:
        """Write down that a shard is whole. It must be on the disk.

        Args:
            number: of the shard.
            record: what is to be known about it.
        """
        document = _ShardDoc(
            size=record.file.size,
            prefix_digest=str(record.file.prefix_digest),
            digest=str(record.file.digest),
            ended=[
                _EndedDoc(file=file, digest=str(digest)) for file, digest in record.ended.items()
            ],
            unended=None if record.unended is None else str(record.unended),
        )
        self._write(record_name(number), canonical_json(document))

    def read_shard(self, number: int) -> ShardRecord:
        """Read a shard's record. Raises ParseError, IntegrityError or LocalError."""
        wire = self._read(record_name(number), _ShardDoc)
        return ShardRecord(
            SealedFile(wire.size, Digest.parse(wire.prefix_digest), Digest.parse(wire.digest)),
            {each.file: Digest.parse(each.digest) for each in wire.ended},
            None if wire.unended is None else Digest.parse(wire.unended),
        )

    def _write(self, name: str, body: bytes) -> None:
        size = -(-(_LENGTH.size + len(body)) // INDEX_PADDING) * INDEX_PADDING
        padded = memoryview((_LENGTH.pack(len(body)) + body).ljust(size, b"\0"))
        salt = random_bytes(self._random, _SALT_SIZE)
        sealed = bytearray(salt) + bytearray(size + TAG_SIZE)
        cipher = self._cipher(name, salt)
        cipher.seal_into(0, padded, memoryview(sealed)[_SALT_SIZE:], last=True)
        write_new(self._folder / name, bytes(sealed), mode=0o600)

    def _read(self, name: str, kind: type[D]) -> D:
        data = read_file(self._folder / name, limit=INDEX_LIMIT)
        size = len(data) - _SALT_SIZE - TAG_SIZE
        if size < _LENGTH.size:
            raise ParseError(CoreCode.MALFORMED, f"{name}: {len(data)} bytes")
        padded = bytearray(size)
        try:
            self._cipher(name, data[:_SALT_SIZE]).open_into(
                0, memoryview(data)[_SALT_SIZE:], memoryview(padded), last=True
            )
        except IntegrityError as exc:
            raise IntegrityError(exc.code, f"{name}: {exc.what}") from exc
        (length,) = _LENGTH.unpack_from(padded)
        body = bytes(padded[_LENGTH.size : _LENGTH.size + length])
        if len(body) != length:
            raise ParseError(CoreCode.MALFORMED, f"{name}: its length is wrong")
        return parse_json(body, kind, limit=INDEX_LIMIT, what=name)

    def _cipher(self, name: str, salt: bytes) -> ChunkCipher:
        info = _DOMAIN + lp(self._binding, name.encode())
        with hkdf_sha512(self._model_key, salt=salt, info=info, size=KEY_SIZE) as key:
            return ChunkCipher(key.view(), self._binding)


@dataclass(frozen=True, slots=True)
class OpenedJournal:
    """A journal that an interrupted run has left, and whose key is known."""

    journal: Journal
    model_key: SecretBytes
    seal_id: SealId
    version: int


def begin_journal(  # noqa: PLR0913 - whose it is, where, under which key
    folder: Path,
    model_key: SecretBytes,
    seal_id: SealId,
    version: int,
    *,
    wrap: Wrap,
    random: RandomSource,
) -> Journal:
    """Write the head of a new journal.

    Args:
        folder: empty folder for the records.
        model_key: the model key. The journal uses it, and the caller wipes it.
        seal_id: identifier of the sealing.
        version: version of the model.
        wrap: encrypts the model key for its owner.
        random: source of randomness.

    Raises:
        LocalError: a file cannot be written.
        Exception: as ``wrap``.
    """
    wrapped = wrap(model_key, wrap_context(seal_id, version))
    head = canonical_json(
        _KeyDoc(
            format=FORMAT,
            seal_id=str(seal_id),
            version=version,
            kek=wrapped.kek,
            algorithm=wrapped.algorithm,
            blob=b64(wrapped.blob),
        )
    )
    write_new(folder / KEY_NAME, head, mode=0o600)
    return Journal(folder, head, model_key, random)


def open_journal(folder: Path, *, unwrap: Unwrap, random: RandomSource) -> OpenedJournal:
    """Open what an interrupted run has left.

    Args:
        folder: folder of the records.
        unwrap: decrypts the model key for its owner.
        random: source of randomness.

    Raises:
        ParseError: the head is malformed.
        LocalError: it cannot be read.
        Exception: as ``unwrap``.
    """
    head = read_file(folder / KEY_NAME, limit=_KEY_LIMIT)
    wire = parse_json(head, _KeyDoc, limit=_KEY_LIMIT, what=KEY_NAME)
    if wire.format != FORMAT:
        raise ParseError(CoreCode.MALFORMED, f"{KEY_NAME}: format {wire.format[:80]!r}")
    seal_id = SealId.parse(wire.seal_id)
    blob = unb64(wire.blob, what=f"{KEY_NAME}: blob", limit=_BLOB_LIMIT)
    wrapped = WrappedKey(wire.kek, wire.algorithm, blob)
    if not 0 <= wire.version < 1 << 64:
        raise ParseError(CoreCode.MALFORMED, f"{KEY_NAME}: version {wire.version}")
    model_key = unwrap(wrapped, wrap_context(seal_id, wire.version))
    return OpenedJournal(Journal(folder, head, model_key, random), model_key, seal_id, wire.version)
