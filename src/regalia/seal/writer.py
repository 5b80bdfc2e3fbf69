"""Seals a model directory, in one pass and in bounded memory.

A sealing has a model key and a seal id of its own, and every file is encrypted from its first chunk
to its last by one run, under a salt that is drawn when it is begun. A run that continues an
interrupted one keeps the whole shards, and begins everything else anew under fresh salts, and so
under fresh keys. So a nonce is never used twice under one key.
"""

from __future__ import annotations

import os
import shutil
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from regalia.core.errors import CoreCode, LocalError, UsageError
from regalia.crypto.aead import TAG_SIZE, wipe
from regalia.crypto.dsse import sign
from regalia.host.localfs import os_errors, write_new
from regalia.seal.codes import SealCode
from regalia.seal.contents import check_base
from regalia.seal.filekeys import FileIdentity, new_file
from regalia.seal.format.index import Entry, Index
from regalia.seal.format.manifest import PAYLOAD_TYPE, Manifest, parse_manifest
from regalia.seal.format.prefix import Kind
from regalia.seal.format.sealed import (
    INDEX_LIMIT,
    INDEX_NAME,
    MANIFEST_NAME,
    SHARD_CHUNKS,
    SHARD_CHUNKS_MAX,
    STRIDE,
    STRIDES,
    VERSION_MAX,
    chunk_at,
    chunk_count,
    shard_name,
    stored_size,
    wrap_context,
)
from regalia.seal.output import SealedOutput
from regalia.seal.pipeline import Pipeline, slot_count
from regalia.seal.plan import plan
from regalia.seal.progress import Counter
from regalia.seal.randomness import system_random
from regalia.seal.scan import DEFAULT, check_unchanged, scan
from regalia.seal.sealing import OwnerKeys, Recorder, begin_or_continue, fresh_sealing
from regalia.seal.staging import StagedDirectory
from regalia.seal.stream import ModelStream
from regalia.seal.unfinished import UnfinishedDirectory

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from regalia.core.types import ModelId
    from regalia.crypto.sign import SigningKey
    from regalia.seal.format.manifest import SealedFile
    from regalia.seal.format.sealed import Chunk
    from regalia.seal.journal import Unwrap, Wrap
    from regalia.seal.plan import Plan
    from regalia.seal.progress import Progress
    from regalia.seal.randomness import RandomSource
    from regalia.seal.scan import ScanOptions
    from regalia.seal.sealing import Sealing
    from regalia.seal.stream import FileDigests, Mark, Piece

_MODE = 0o755  # mode of the finished directory, which holds only ciphertext


@dataclass(frozen=True, slots=True)
class SealOptions:
    """Parameters of sealing. Other values than the defaults are rarely useful.

    Attributes:
        version: version of the model, chosen by the owner; it must increase.
        stride: stored size of one chunk in bytes, including its tag.
        shard_chunks: maximum number of chunks in one shard.
        threads: number of threads that encrypt.
        contents: what belongs to the model.
        restart: discard what an interrupted run has left, instead of continuing it.
        base: the model that an adapter is sealed for; None for a model by itself.

    Raises:
        UsageError: BAD_USAGE, a value exceeds the limits of the format.
    """

    version: int
    stride: int = STRIDE
    shard_chunks: int = SHARD_CHUNKS
    threads: int = 1
    contents: ScanOptions = DEFAULT
    restart: bool = False
    base: ModelId | None = None

    def __post_init__(self) -> None:
        if (
            not 1 <= self.version <= VERSION_MAX
            or self.stride not in STRIDES
            or not 1 <= self.shard_chunks <= SHARD_CHUNKS_MAX
            or self.threads < 1
        ):
            raise UsageError(CoreCode.BAD_USAGE, f"{self} is outside the format's limits")


@dataclass(frozen=True, slots=True)
class SealResult:
    """The result of sealing."""

    manifest: Manifest
    files: int
    safetensors: int  # files among them, by the endings of their names
    plaintext_size: int  # bytes of all files, without the gaps for alignment
    left_out: tuple[str, ...]  # paths in the directory that are not part of the model
    unneeded: tuple[str, ...]  # paths that are sealed although no engine needs them
    removed_leftovers: tuple[str, ...]
    continued: int  # shards that an interrupted run had sealed


class _Slot:
    """Buffers for one chunk, and the description of their contents."""

    def __init__(self, stride: int) -> None:
        self._plain = memoryview(bytearray(stride - TAG_SIZE))
        self._sealed = memoryview(bytearray(stride))
        self.chunk: Chunk
        self.output: SealedOutput
        self.pieces: tuple[Piece, ...] = ()
        self.mark: Mark  # of the digests, after the last chunk of a shard

    @property
    def plain(self) -> memoryview:
        return self._plain[: self.chunk.size]

    @property
    def sealed(self) -> memoryview:
        return self._sealed[: self.chunk.stored]

    def wipe(self) -> None:
        wipe(self._plain)


def seal_model(  # noqa: PLR0913 - each is a decision of the caller's, most by name only
    model: Path,
    out: Path,
    options: SealOptions,
    *,
    wrap: Wrap,
    signing_key: SigningKey | None,
    progress: Progress,
    unwrap: Unwrap | None = None,
    random: RandomSource = system_random,
) -> SealResult:
    """Seal ``model``, a directory of regular files, into the new directory ``out``.

    Args:
        model: directory to seal.
        out: directory to create; it must not exist, and must be outside of ``model``.
        options: version, layout and threads.
        wrap: called with the model key and the context to bind it to: once at the end, and with
            ``unwrap`` also at the beginning.
        signing_key: the owner's key. With None the result is unsigned, and readers refuse it
            unless they accept unsigned models.
        progress: called with the number of plaintext bytes.
        unwrap: the inverse of ``wrap``. With it a run that ends early leaves its whole shards, and
            the next one continues; with None it leaves nothing.
        random: source of randomness: the kernel, except for reproducible test vectors.

    Raises:
        LocalError: as ``scan`` and ``check_base``, DISK_FULL, FILE_EXISTS, OUTPUT_INSIDE_MODEL,
            MODEL_CHANGED or SEALING_UNFINISHED.
        ParseError: as ``scan``.
        Exception: as ``wrap``.
    """
    _check_output(model, out)
    found = scan(model, options.contents)
    check_base((file.path for file in found.files), options.base)
    the_plan = plan(model, found.files, stride=options.stride, shard_chunks=options.shard_chunks)
    with ExitStack() as stack:
        place: StagedDirectory | UnfinishedDirectory
        if unwrap is None:
            place = stack.enter_context(StagedDirectory(out))
            sealing = fresh_sealing(random)
        else:
            place = stack.enter_context(UnfinishedDirectory(out, restart=options.restart))
            keys = OwnerKeys(wrap, unwrap)
            sealing = begin_or_continue(place, the_plan, options.version, keys, random)
        stack.enter_context(sealing.model_key)
        _check_space(place.path, the_plan, sealing)
        run = _Run(the_plan, place.path, options, sealing, random)
        shards, digests = run.write_shards(progress)
        index = Index(
            tuple(
                Entry(placed.file.path, placed.offset, placed.file.size, digests.of(number))
                for number, placed in enumerate(the_plan.placed)
            ),
            the_plan.geometry.stream_size,
        )
        index_file = run.write_index(index)
        # The scan before and this one enclose all reads, so also a file that was added since is
        # noticed.
        check_unchanged(model, found, options.contents)
        model_id = index.model_id()
        context = wrap_context(model_id, options.version, sealing.seal_id)
        manifest = Manifest(
            seal_id=sealing.seal_id,
            model_id=model_id,
            version=options.version,
            geometry=the_plan.geometry,
            signer=None if signing_key is None else signing_key.verify_key.spki,
            wrapped_key=wrap(sealing.model_key, context),
            index=index_file,
            shards=shards,
            base=options.base,
        )
        _write_manifest(place.path / MANIFEST_NAME, manifest, signing_key)
        place.commit(mode=_MODE)
    return SealResult(
        manifest=manifest,
        files=len(the_plan.placed),
        safetensors=sum(each.file.path.endswith(".safetensors") for each in the_plan.placed),
        plaintext_size=sum(placed.file.size for placed in the_plan.placed),
        left_out=found.left_out,
        unneeded=found.unneeded,
        removed_leftovers=place.removed,
        continued=len(sealing.earlier.shards),
    )


class _Run:
    """One run of sealing, which begins a sealing or continues it."""

    def __init__(
        self,
        the_plan: Plan,
        folder: Path,
        options: SealOptions,
        sealing: Sealing,
        random: RandomSource,
    ) -> None:
        self._plan = the_plan
        self._folder = folder
        self._options = options
        self._sealing = sealing
        self._random = random

    def write_shards(self, progress: Progress) -> tuple[tuple[SealedFile, ...], FileDigests]:
        """Read the model once, and write all shards that are not there yet."""
        geometry, earlier = self._plan.geometry, self._sealing.earlier
        first = len(earlier.shards)
        start = min(geometry.shard_start(first), geometry.stream_size)
        counter = Counter(progress, geometry.stream_size)
        if start:
            counter.add(start)
        digests = earlier.digests
        stride = self._options.stride
        slots = [_Slot(stride) for _ in range(slot_count(self._options.threads, 2 * stride))]
        outputs: list[SealedOutput] = []

        def hash_plain(slot: _Slot) -> None:
            digests.update(slot.pieces, slot.plain)
            if slot.chunk.last:
                slot.mark = digests.mark()

        with ExitStack() as stack:
            # An ExitStack unwinds in reverse order: the threads stop first, and only then are
            # files closed and buffers wiped.
            stack.callback(_release, slots, outputs)
            stream = stack.enter_context(ModelStream(self._plan, start))
            recorder = Recorder(self._plan, self._sealing)
            pipeline = stack.enter_context(
                Pipeline(
                    slots,
                    threads=self._options.threads,
                    work=_seal_chunk,
                    steps=(
                        hash_plain,
                        lambda slot: slot.output.hash(slot.sealed),
                        lambda slot: slot.output.write(slot.chunk, slot.sealed),
                    ),
                    done=lambda slot: self._record(recorder, slot),
                )
            )
            for shard in range(first, geometry.shard_count):
                size = geometry.shard_size(shard)
                output = self._begin(Kind.DATA, shard, size, shard_name(shard))
                outputs.append(output)
                for chunk in self._chunks(size):
                    slot = pipeline.take()
                    slot.chunk, slot.output = chunk, output
                    slot.pieces = stream.fill(slot.plain)
                    pipeline.submit(slot)
                    counter.add(chunk.size)
            stream.finish()
            pipeline.drain()
        return (*earlier.shards, *(output.entry() for output in outputs)), digests

    @staticmethod
    def _record(recorder: Recorder, slot: _Slot) -> None:
        if slot.chunk.last:
            recorder.shard_is_whole(slot.output.entry(), slot.mark)

    def write_index(self, index: Index) -> SealedFile:
        """Encrypt and write the index. It is small, so this thread does it alone."""
        plaintext = memoryview(index.encode())
        if plaintext.nbytes > INDEX_LIMIT:
            raise LocalError(
                SealCode.MODEL_TOO_LARGE,
                f"{self._plan.model}: an index of {plaintext.nbytes} bytes, at most {INDEX_LIMIT}",
            )
        output = self._begin(Kind.INDEX, 0, plaintext.nbytes, INDEX_NAME)
        try:
            for chunk in self._chunks(plaintext.nbytes):
                sealed = memoryview(bytearray(chunk.stored))
                part = plaintext[chunk.start : chunk.start + chunk.size]
                output.cipher.seal_into(chunk.number, part, sealed, last=chunk.last)
                output.hash(sealed)
                output.write(chunk, sealed)
        finally:
            output.close()
        return output.entry()

    def _begin(self, kind: Kind, shard: int, size: int, name: str) -> SealedOutput:
        count = 1 if kind is Kind.INDEX else self._plan.geometry.shard_count
        identity = FileIdentity(
            kind, shard, count, self._options.stride, size, self._sealing.seal_id
        )
        prefix, cipher = new_file(identity, self._sealing.model_key, self._random)
        return SealedOutput(self._folder / name, prefix, cipher)

    def _chunks(self, size: int) -> Iterator[Chunk]:
        stride = self._options.stride
        return (chunk_at(number, size, stride) for number in range(chunk_count(size, stride)))


def _release(slots: list[_Slot], outputs: list[SealedOutput]) -> None:
    for slot in slots:
        slot.wipe()
    for output in outputs:
        output.close()


def _seal_chunk(slot: _Slot) -> None:
    slot.output.cipher.seal_into(slot.chunk.number, slot.plain, slot.sealed, last=slot.chunk.last)


def _write_manifest(path: Path, manifest: Manifest, signing_key: SigningKey | None) -> None:
    payload = manifest.encode()
    parse_manifest(payload)  # refuse here what every reader would refuse
    keys = () if signing_key is None else (signing_key,)
    write_new(path, sign(PAYLOAD_TYPE, payload, keys).encode())


def _check_output(model: Path, out: Path) -> None:
    with os_errors(model):
        if not model.is_dir():
            code = CoreCode.NOT_A_DIRECTORY if model.exists() else CoreCode.FILE_MISSING
            raise LocalError(code, f"{model}: not a directory")
    if out.resolve().is_relative_to(model.resolve()):
        raise LocalError(SealCode.OUTPUT_INSIDE_MODEL, f"{out} lies inside {model}")


def _check_space(folder: Path, the_plan: Plan, sealing: Sealing) -> None:
    """Report a full disk early. Writing still fails if the space runs out later."""
    need = the_plan.geometry.stored_total() + stored_size(0, the_plan.geometry.stride)
    need -= sum(shard.size for shard in sealing.earlier.shards)
    free = shutil.disk_usage(folder).free
    if free < need:
        raise LocalError(
            CoreCode.DISK_FULL, f"{folder.parent}: {need} bytes needed, {free} are free"
        )


def available_threads() -> int:
    """Number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0))
