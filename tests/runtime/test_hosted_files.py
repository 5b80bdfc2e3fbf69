"""Files of a sealed model in parts: every byte as it was, no chunk twice, nothing left behind."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as given_settings
from hypothesis import strategies as st

from regalia.core.errors import IntegrityError
from regalia.core.secret import SecretBytes
from regalia.core.weights import FilePart
from regalia.crypto.aead import AeadCode
from regalia.crypto.sign import SigningKey
from regalia.runtime.hosted.chunks import CHUNKS
from regalia.runtime.hosted.files import SealedFiles, SmallFiles
from regalia.runtime.startup import fetch_manifest
from regalia.seal.format.sealed import WrappedKey
from regalia.seal.reader import open_sealed
from regalia.seal.writer import SealOptions, seal_model
from regalia.store.locate import open_store

if TYPE_CHECKING:
    from pathlib import Path

    from regalia.core.weights import BlobSource
    from regalia.seal.manifest import VerifiedManifest

STRIDE = 64 * 1024
PAYLOAD = STRIDE - 16
SIZES = {"a.bin": 5 * PAYLOAD + 1234, "b.bin": 3, "c.bin": 2 * PAYLOAD}


@dataclass
class Counting:
    """A store that counts what is read, and may change it."""

    source: BlobSource
    read: int = 0
    chunks: list[tuple[str, int]] = field(default_factory=list)
    damaged: int | None = None  # offset in the shard

    def size(self, name: str) -> int:
        return self.source.size(name)

    def read_into(self, name: str, offset: int, buffer: memoryview) -> None:
        self.source.read_into(name, offset, buffer)
        self.read += buffer.nbytes
        self.chunks.append((name, offset))
        if self.damaged is not None and offset <= self.damaged < offset + buffer.nbytes:
            buffer[self.damaged - offset] ^= 1

    def describe(self) -> str:
        return self.source.describe()


@dataclass(repr=False)
class SealedModel:
    """A sealed model, its key, and what it holds."""

    folder: Path
    manifest: VerifiedManifest
    key: bytes
    plain: dict[str, bytes]

    def open(self, threads: int = 1) -> tuple[SealedFiles, Counting]:
        source = Counting(open_store(str(self.folder), self.folder))
        with SecretBytes(bytearray(self.key)) as key:
            files = SealedFiles(open_sealed(source, self.manifest, key), threads=threads)
        source.read, source.chunks = 0, []
        return files, source


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> SealedModel:
    folder = tmp_path_factory.mktemp("sealed")
    (folder / "plain").mkdir()
    plain = {name: random.Random(name).randbytes(size) for name, size in SIZES.items()}  # noqa: S311 - no secret
    plain["config.json"] = b"{}"
    for name, data in plain.items():
        (folder / "plain" / name).write_bytes(data)
    owner = SigningKey.generate_ed25519()
    kept: list[bytes] = []

    def wrap(key: SecretBytes, _: bytes) -> WrappedKey:
        kept.append(bytes(key.view()))
        return WrappedKey(kek="k", algorithm="test", blob=b"x" * 40)

    written = seal_model(
        folder / "plain",
        folder / "out",
        SealOptions(version=1, stride=STRIDE),
        wrap=wrap,
        signing_key=owner,
        progress=lambda _done, _total: None,
    )
    manifest = fetch_manifest(
        open_store(str(folder / "out"), folder),
        owner_key=str(owner.verify_key.fingerprint),
        model_id=str(written.manifest.model_id),
    )
    return SealedModel(folder / "out", manifest, kept[0], plain)


def take(files: SealedFiles, *parts: tuple[str, int, int]) -> list[bytes]:
    outs = [bytearray(b"\xee" * (stop - start)) for _, start, stop in parts]
    files.read(
        [
            FilePart(path, start, memoryview(out))
            for (path, start, _), out in zip(parts, outs, strict=True)
        ]
    )
    return [bytes(out) for out in outs]


def is_wiped(files: SealedFiles) -> bool:
    return files._kept._memory.wiped


@st.composite
def readings(draw: Any) -> list[list[tuple[str, int, int]]]:  # noqa: ANN401
    def part() -> tuple[str, int, int]:
        path = draw(st.sampled_from(sorted(SIZES)))
        start = draw(st.integers(0, SIZES[path] - 1))
        near = st.integers(start + 1, min(SIZES[path], start + 200))
        stop = draw(st.one_of(near, st.integers(start + 1, SIZES[path])))
        return path, start, stop

    return [
        [part() for _ in range(draw(st.integers(1, 4)))] for _ in range(draw(st.integers(1, 5)))
    ]


@given(readings(), st.integers(1, 2))
@given_settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_reading_gives_the_bytes_of_the_files(
    sealed: SealedModel, wanted: list[list[tuple[str, int, int]]], threads: int
) -> None:
    files, source = sealed.open(threads)
    for parts in wanted:
        assert take(files, *parts) == [sealed.plain[path][a:b] for path, a, b in parts]
    assert files.bytes_read == source.read
    files.forget()
    assert is_wiped(files)


@pytest.mark.parametrize("step", [1000, PAYLOAD // 3, PAYLOAD, PAYLOAD + 1, 2 * PAYLOAD + 77])
def test_a_walk_through_the_model_reads_no_chunk_twice(sealed: SealedModel, step: int) -> None:
    files, source = sealed.open()
    for path, size in SIZES.items():
        for start in range(0, size, step):
            stop = min(start + step, size)
            assert take(files, (path, start, stop)) == [sealed.plain[path][start:stop]]
    assert len(set(source.chunks)) == len(source.chunks), "each chunk once"
    assert source.read <= sealed.manifest.content.geometry.stream_size + 16 * 9
    assert files.bytes_read == source.read


def test_small_parts_beside_large_ones_cost_nothing_more(sealed: SealedModel) -> None:
    files, source = sealed.open()
    take(files, ("a.bin", 0, 10), ("a.bin", 3 * PAYLOAD, 4 * PAYLOAD + 10))
    before = source.read
    take(files, ("a.bin", 10, 2000))
    take(files, ("a.bin", 4 * PAYLOAD + 10, 4 * PAYLOAD + 30))
    assert source.read == before


def test_few_chunks_are_kept_and_the_oldest_goes(sealed: SealedModel) -> None:
    files, source = sealed.open()
    for number in range(CHUNKS + 1):
        take(files, ("a.bin", number * PAYLOAD + 5, number * PAYLOAD + 6))
    assert len(files._kept._places) == CHUNKS
    assert files._kept._memory.size == CHUNKS * PAYLOAD
    before = source.read
    take(files, ("a.bin", CHUNKS * PAYLOAD + 7, CHUNKS * PAYLOAD + 8))
    assert source.read == before
    take(files, ("a.bin", 5, 6))
    assert source.read == before + STRIDE


def test_what_is_kept_is_wiped(sealed: SealedModel) -> None:
    files, source = sealed.open()
    take(files, ("a.bin", 5, 100))
    assert not is_wiped(files)
    files.forget()
    assert is_wiped(files)
    before = source.read
    assert take(files, ("a.bin", 5, 100)) == [sealed.plain["a.bin"][5:100]]
    assert source.read == before + STRIDE, "it was forgotten as well"


def test_a_forged_chunk_leaves_nothing(sealed: SealedModel) -> None:
    """Neither in the parts, which held something else before, nor in what is kept."""
    files, source = sealed.open()
    take(files, ("a.bin", 5, 100))
    source.damaged = max(offset for _, offset in source.chunks) + STRIDE + 100
    outs = [bytearray(b"\xee" * 50), bytearray(b"\xee" * 2 * PAYLOAD)]
    parts = [
        FilePart("a.bin", 10, memoryview(outs[0])),
        FilePart("a.bin", 60, memoryview(outs[1])),
    ]
    with pytest.raises(IntegrityError) as caught:
        files.read(parts)
    assert caught.value.code is AeadCode.CHUNK_FORGED
    assert not any(map(any, outs))
    assert is_wiped(files)
    source.damaged = None
    files.read(parts)
    assert bytes(outs[0]) == sealed.plain["a.bin"][10:60]


def test_parts_that_leave_their_file_are_a_bug(sealed: SealedModel) -> None:
    files, source = sealed.open()
    for offset in (-1, SIZES["b.bin"] - 1):
        with pytest.raises(ValueError, match="not a part"):
            files.read([FilePart("b.bin", offset, memoryview(bytearray(2)))])
    assert source.read == 0


def test_small_files_in_ordinary_memory(sealed: SealedModel) -> None:
    files, _ = sealed.open()
    small = SmallFiles.of(files, ["config.json", "b.bin"])
    assert bytes(small.view("config.json")) == b"{}"
    small.discard("b.bin", 0, 2)
    assert bytes(small.view("b.bin")) == b"\0\0" + sealed.plain["b.bin"][2:]
