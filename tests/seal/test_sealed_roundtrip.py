"""Whatever goes in comes out: on disk, in memory, and by range."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from regalia.core.errors import ParseError
from regalia.seal.format.paths import check_collisions
from regalia.seal.reader import open_sealed
from regalia.store.local import LocalBlobs
from regalia_testing.sealed import PAYLOAD, pattern, seal_testbed, write_model

if TYPE_CHECKING:
    from regalia.crypto.sign import SigningKey
    from regalia_testing.sealed import KeptMemory, OwnedModel

EDGES = [0, 1, 63, 64, 65, PAYLOAD - 1, PAYLOAD, PAYLOAD + 1, 2 * PAYLOAD, 2 * PAYLOAD + 1]

names = st.text("abcXYZ019._- äß日", min_size=1, max_size=6).filter(
    lambda name: name not in {".", ".."}
)
trees = st.dictionaries(
    st.lists(names, min_size=1, max_size=3).map("/".join),
    st.sampled_from(EDGES) | st.integers(0, 3 * PAYLOAD),
    min_size=1,
    max_size=6,
)


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def check_round_trip(sealed: OwnedModel, files: dict[str, bytes], out: Path) -> None:
    sealed.verify()
    loaded = sealed.load()
    assert list(loaded.paths()) == sorted(files, key=lambda path: path.encode())
    for path, data in files.items():
        view = loaded.view(path)
        assert view.readonly
        assert view == data
    sealed.recover(out)
    assert files_of(out) == files


@given(tree=trees, shard_chunks=st.sampled_from([1, 2, 4096]))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_directory_tree(
    owner: SigningKey,
    tree: dict[str, int],
    shard_chunks: int,
) -> None:
    files = {path: pattern(size, len(path)) for path, size in tree.items()}
    try:
        check_collisions(files)
    except ParseError:
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sealed = seal_testbed(
            write_model(folder / "model", files),
            folder / "sealed",
            owner,
            shard_chunks=shard_chunks,
        )
        check_round_trip(sealed, files, folder / "out")


@pytest.mark.parametrize("size", EDGES)
@pytest.mark.parametrize("shard_chunks", [1, 2])
def test_edge_sizes_alone(
    owner: SigningKey,
    tmp_path: Path,
    size: int,
    shard_chunks: int,
) -> None:
    files = {"weights.bin": pattern(size)}
    model = write_model(tmp_path / "model", files)
    sealed = seal_testbed(model, tmp_path / "sealed", owner, shard_chunks=shard_chunks)
    check_round_trip(sealed, files, tmp_path / "out")
    geometry = sealed.manifest().geometry
    assert geometry.shard_count == max(1, -(-size // (PAYLOAD * shard_chunks)))


@pytest.mark.parametrize("stride", [1 << 20, 4 << 20])
def test_other_strides(
    owner: SigningKey,
    tmp_path: Path,
    stride: int,
) -> None:
    payload = stride - 16
    files = {f"f{size}": pattern(size) for size in (0, 1, payload - 1, payload, payload + 1)}
    model = write_model(tmp_path / "model", files)
    sealed = seal_testbed(model, tmp_path / "sealed", owner, stride=stride)
    check_round_trip(sealed, files, tmp_path / "out")


def test_no_name_and_no_plaintext_in_the_sealed_files(pristine: OwnedModel) -> None:
    everything = b"".join(path.read_bytes() for path in pristine.folder.iterdir())
    for needle in (b"config", b"weights", b"tokenizer", b'{"hidden":1}'):
        assert needle not in everything
    weights = (pristine.model / "weights.bin").read_bytes()
    for start in range(0, len(weights) - 32, 9973):
        assert weights[start : start + 32] not in everything


def safetensors(size: int) -> bytes:
    header = json.dumps({"t": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}})
    return len(header).to_bytes(8, "little") + header.encode() + bytes(size)


def test_alignment(owner: SigningKey, tmp_path: Path) -> None:
    """Files lie at multiples of 64; of safetensors it is the data section that does."""
    files = {
        "a.safetensors": safetensors(1000),
        "b.bin": b"x" * 77,
        "c.safetensors": safetensors(3),
        "liar.safetensors": b"\xff" * 80,
        "short.safetensors": b"abc",
        "z": b"z",
    }
    sealed = seal_testbed(write_model(tmp_path / "model", files), tmp_path / "sealed", owner)
    check_round_trip(sealed, files, tmp_path / "out")
    for entry in sealed.load().index.entries:
        lead = 0
        if entry.path in {"a.safetensors", "c.safetensors"}:
            lead = 8 + int.from_bytes(files[entry.path][:8], "little")
        assert (entry.offset + lead) % 64 == 0, entry


def test_gaps_are_zero(pristine: OwnedModel) -> None:
    with LocalBlobs(pristine.folder) as blobs:
        reader = open_sealed(blobs, pristine.verified(), pristine.key)
        stream = memoryview(bytearray(b"\xaa" * reader.stream_size))
        reader.read_range(0, stream)
    covered = bytearray(len(stream))
    for entry in reader.index.entries:
        covered[entry.offset : entry.end] = b"\1" * entry.length
    assert 0 in covered
    assert not any(byte for byte, used in zip(stream, covered, strict=True) if not used)


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_any_range(pristine: OwnedModel, data: st.DataObject) -> None:
    with LocalBlobs(pristine.folder) as blobs:
        reader = open_sealed(blobs, pristine.verified(), pristine.key)
        size = reader.stream_size
        whole = memoryview(bytearray(size))
        reader.read_range(0, whole)
        start = data.draw(st.integers(0, size))
        stop = data.draw(st.integers(start, min(size, start + 3 * PAYLOAD)))
        part = memoryview(bytearray(stop - start))
        reader.read_range(start, part)
        assert part == whole[start:stop]
        for bad, length in ((-1, 1), (size, 1), (0, size + 1)):
            with pytest.raises(ValueError, match="range leaves"):
                reader.read_range(bad, memoryview(bytearray(length)))


def test_range_reads_only_the_chunks_it_needs(pristine: OwnedModel) -> None:
    class Counting(LocalBlobs):
        reads: list[tuple[str, int, int]] = []  # noqa: RUF012 - this test's own

        def read_into(self, name: str, offset: int, buffer: memoryview) -> None:
            self.reads.append((name, offset, buffer.nbytes))
            super().read_into(name, offset, buffer)

    with Counting(pristine.folder) as blobs:
        reader = open_sealed(blobs, pristine.verified(), pristine.key)
        blobs.reads.clear()
        reader.read_range(3 * PAYLOAD + 5, memoryview(bytearray(10)))
        assert blobs.reads == [("shard-00001.seal", 4096 + 65536, 65536)]


@pytest.mark.parametrize("threads", [1, 2, 8])
def test_load_with_threads_and_progress(
    pristine: OwnedModel, memory: KeptMemory, threads: int
) -> None:
    loaded = pristine.load(memory, threads=threads)
    assert loaded.view("weights.bin") == (pristine.model / "weights.bin").read_bytes()
    assert memory.allocated == 1
    loaded.wipe()
    assert not any(memory.buffer)
    with pytest.raises(RuntimeError):
        loaded.view("weights.bin")


def test_unknown_file(pristine: OwnedModel) -> None:
    with pytest.raises(KeyError):
        pristine.load().view("nothing")


def seal_many(owner: SigningKey, folder: Path, count: int) -> OwnedModel:
    model = folder / "model"
    for number in range(count):
        path = model / f"{number % 100:02}" / f"{number:05}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"%d" % number)
    return seal_testbed(model, folder / "sealed", owner, stride=1 << 20, shard_chunks=4096)


def test_many_small_files(owner: SigningKey, tmp_path: Path) -> None:
    sealed = seal_many(owner, tmp_path, 500)
    check_round_trip(sealed, files_of(tmp_path / "model"), tmp_path / "out")


@pytest.mark.slow
def test_ten_thousand_small_files(owner: SigningKey, tmp_path: Path) -> None:
    began = time.monotonic()
    sealed = seal_many(owner, tmp_path, 10_000)
    sealed.verify()
    loaded = sealed.load()
    assert len(loaded.paths()) == 10_000
    assert loaded.view("99/09999.txt").tobytes() == b"9999"
    assert len(list(sealed.folder.iterdir())) == 3
    assert time.monotonic() - began < 60


def test_resealing_gives_the_same_model_id(pristine: OwnedModel, twin: OwnedModel) -> None:
    assert pristine.manifest().model_id == twin.manifest().model_id


def test_renaming_a_file_changes_the_model_id(
    pristine: OwnedModel, owner: SigningKey, tmp_path: Path
) -> None:
    shutil.copytree(pristine.model, tmp_path / "model")
    (tmp_path / "model" / "config.json").rename(tmp_path / "model" / "config2.json")
    other = seal_testbed(tmp_path / "model", tmp_path / "sealed", owner)
    assert other.manifest().model_id != pristine.manifest().model_id


def test_swapping_two_files_changes_the_model_id(
    pristine: OwnedModel, owner: SigningKey, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    shutil.copytree(pristine.model, model)
    (model / "config.json").rename(model / "x")
    (model / "empty").rename(model / "config.json")
    (model / "x").rename(model / "empty")
    other = seal_testbed(model, tmp_path / "sealed", owner)
    assert other.manifest().model_id != pristine.manifest().model_id
