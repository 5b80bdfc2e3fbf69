"""Sealed models to attack: made small, with everything that their owner knows, and ways to spoil
them. The functions named after a product function do what it does.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from regalia.core.codec import canonical_json
from regalia.core.errors import RegaliaError
from regalia.core.secret import SecretBytes
from regalia.core.types import Digest
from regalia.crypto.dsse import parse_envelope, sign
from regalia.seal.check import verify_ciphertext
from regalia.seal.filekeys import FileIdentity, new_file
from regalia.seal.format.manifest import PAYLOAD_TYPE, SealedFile, parse_manifest
from regalia.seal.format.prefix import Kind
from regalia.seal.format.sealed import (
    INDEX_NAME,
    MANIFEST_NAME,
    PREFIX_SIZE,
    WrappedKey,
    chunk_at,
    chunk_count,
    shard_name,
)
from regalia.seal.load import load_model
from regalia.seal.manifest import verify_manifest
from regalia.seal.output import SealedOutput
from regalia.seal.progress import no_progress
from regalia.seal.randomness import system_random
from regalia.seal.recover import recover_files
from regalia.seal.scan import DEFAULT
from regalia.seal.writer import SealOptions, seal_model
from regalia.store.local import LocalBlobs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from regalia.core.errors import Code
    from regalia.crypto.sign import SigningKey
    from regalia.seal.format.manifest import Manifest
    from regalia.seal.load import LoadedModel
    from regalia.seal.manifest import VerifiedManifest
    from regalia.seal.scan import ScanOptions

STRIDE = 64 * 1024  # bytes; the smallest, so that test models are small
PAYLOAD = STRIDE - 16  # bytes of plaintext in a chunk


class KeptMemory:
    """A destination that keeps what it gave, so that tests can look at it afterwards."""

    def __init__(self) -> None:
        self.buffer = bytearray()
        self.allocated = 0
        self.wipes = 0

    def allocate(self, size: int) -> memoryview:
        """Memory that is not zero, so that a test sees what was never written."""
        self.allocated += 1
        self.buffer = bytearray(b"\xaa" * size)
        return memoryview(self.buffer)

    def discard(self, start: int, stop: int) -> None:
        """Zeros in a part.

        Args:
            start: first byte.
            stop: byte after the last one.
        """
        self.buffer[start:stop] = bytes(stop - start)

    def wipe(self) -> None:
        """Zeros everywhere."""
        self.wipes += 1
        self.buffer[:] = bytes(len(self.buffer))


@dataclass(frozen=True)
class OwnedModel:
    """A sealed model together with everything that its owner knows."""

    folder: Path
    model: Path
    key: SecretBytes
    owner: SigningKey

    @property
    def manifest_path(self) -> Path:
        """Where the manifest lies."""
        return self.folder / MANIFEST_NAME

    def manifest(self) -> Manifest:
        """The manifest, unverified."""
        envelope = parse_envelope(self.manifest_path.read_bytes(), what="manifest")
        return parse_manifest(envelope.unverified_payload)

    def verified(self, minimum_version: int = 1) -> VerifiedManifest:
        """The manifest, verified under the owner's key."""
        return verify_manifest(
            self.manifest_path.read_bytes(),
            signers=(self.owner.verify_key,),
            minimum_version=minimum_version,
        )

    def verify(self) -> None:
        """What ``regalia verify`` does."""
        manifest = self.verified()
        with LocalBlobs(self.folder) as blobs:
            verify_ciphertext(blobs, manifest, names=blobs.names(), threads=2, progress=no_progress)

    def load(self, destination: KeptMemory | None = None, threads: int = 2) -> LoadedModel:
        """What the runtime does."""
        manifest = self.verified()
        with LocalBlobs(self.folder) as blobs:
            return load_model(
                blobs,
                manifest,
                self.key,
                destination or KeptMemory(),
                threads=threads,
                progress=no_progress,
            )

    def recover(self, out: Path) -> None:
        """What ``regalia open`` does."""
        manifest = self.verified()
        with LocalBlobs(self.folder) as blobs:
            recover_files(blobs, manifest, self.key, out, threads=2, progress=no_progress)

    def sign_payload(self, payload: bytes) -> None:
        """Put the owner's signature on arbitrary bytes."""
        self.manifest_path.write_bytes(sign(PAYLOAD_TYPE, payload, (self.owner,)).encode())

    def resign(self, change: Callable[[Manifest], Manifest] = lambda m: m) -> None:
        """Write the manifest anew, changed, with the digests that the files now have."""
        manifest = change(self.manifest())
        shards = tuple(self._entry(shard_name(number)) for number in range(len(manifest.shards)))
        manifest = replace(manifest, index=self._entry(INDEX_NAME), shards=shards)
        self.sign_payload(manifest.encode())

    def resign_raw(self, **fields: object) -> None:
        """Sign a manifest some of whose JSON members are replaced."""
        document = json.loads(self.manifest().encode())
        document.update(fields)
        self.sign_payload(canonical_json(document))

    def _entry(self, name: str) -> SealedFile:
        data = (self.folder / name).read_bytes()
        return SealedFile(len(data), Digest.of(data[:PREFIX_SIZE]), Digest.of(data))

    def patch(self, name: str, offset: int, mask: int = 1) -> None:
        """Flip bits of one byte; a negative offset counts from the end."""
        path = self.folder / name
        data = bytearray(path.read_bytes())
        data[offset] ^= mask
        path.write_bytes(data)

    def write_index(self, plaintext: bytes) -> None:
        """Seal arbitrary bytes as the index, as somebody with the model key could."""
        manifest = self.manifest()
        identity = FileIdentity(
            Kind.INDEX, 0, 1, manifest.geometry.stride, len(plaintext), manifest.seal_id
        )
        prefix, cipher = new_file(identity, self.key, system_random)
        path = self.folder / INDEX_NAME
        path.unlink()
        output = SealedOutput(path, prefix, cipher)
        for number in range(chunk_count(len(plaintext), prefix.stride)):
            chunk = chunk_at(number, len(plaintext), prefix.stride)
            sealed = memoryview(bytearray(chunk.stored))
            part = memoryview(plaintext)[chunk.start : chunk.start + chunk.size]
            cipher.seal_into(number, part, sealed, last=chunk.last)
            output.write(chunk, sealed)
        output.close()

    def copy(self, folder: Path) -> OwnedModel:
        """Another copy of the sealed files, to damage."""
        shutil.copytree(self.folder, folder)
        return replace(self, folder=folder)


def write_model(folder: Path, files: dict[str, bytes]) -> Path:
    """Write files by their relative paths; returns the folder."""
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def seal_testbed(  # noqa: PLR0913 - what varies between tests, by name
    model: Path,
    out: Path,
    owner: SigningKey,
    *,
    version: int = 7,
    stride: int = STRIDE,
    shard_chunks: int = 2,
    contents: ScanOptions = DEFAULT,
) -> OwnedModel:
    """Seal a model directory and keep its model key."""
    keys: list[SecretBytes] = []

    def wrap(model_key: SecretBytes, _context: bytes) -> WrappedKey:
        keys.append(SecretBytes.copy_of(model_key.view()))
        return WrappedKey("test-kek", "test", b"opaque")

    options = SealOptions(
        version=version,
        stride=stride,
        shard_chunks=shard_chunks,
        threads=2,
        contents=contents,
    )
    seal_model(model, out, options, wrap=wrap, signing_key=owner, progress=no_progress)
    return OwnedModel(out, model, keys[0], owner)


def pattern(size: int, seed: int = 0) -> bytes:
    """Bytes that are not zero and differ from place to place."""
    unit = bytes((seed + 7 * i + i // 251) % 255 + 1 for i in range(4093))
    return (unit * (size // len(unit) + 1))[:size]


def refused(code: Code, call: Callable[[], object]) -> RegaliaError:
    """Call something that must be refused with exactly this code; returns the refusal."""
    try:
        call()
    except RegaliaError as error:
        if error.code is not code:
            raise AssertionError(f"want {code}, got {error}") from error
        return error
    raise AssertionError(f"want {code}, got no refusal")


def refused_by_load(sealed: OwnedModel, memory: KeptMemory, code: Code) -> RegaliaError:
    """Loading must refuse, and leave no byte of the model in the destination."""
    error = refused(code, lambda: sealed.load(memory))
    if any(memory.buffer) or memory.wipes < memory.allocated:
        raise AssertionError("the destination was not wiped")
    return error
