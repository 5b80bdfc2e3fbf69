"""The attack testbed of the sealed model: one defect, one refusal with its own code."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from regalia.core.errors import CoreCode, IntegrityError, LocalError, ParseError
from regalia.core.types import Digest
from regalia.crypto.aead import AeadCode, ChunkCipher
from regalia.seal.codes import SealCode
from regalia.seal.format.sealed import SealedCode, SealId, WrappedKey
from regalia.seal.reader import open_sealed
from regalia.store.local import LocalBlobs
from regalia_testing.sealed import refused, refused_by_load

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from regalia.core.errors import Code
    from regalia_testing.sealed import KeptMemory, OwnedModel

STRIDE = 64 * 1024
PREFIX = 4096
SHARD = "shard-00000.seal"
SHARD_1 = "shard-00001.seal"
SHARD_2 = "shard-00002.seal"
INDEX = "index.seal"

# field: (offset of a byte in it, mask, code once the owner signs the changed prefix)
PREFIX_FIELDS: dict[str, tuple[int, int, Code]] = {
    "magic": (0, 1, SealedCode.NOT_A_SEALED_FILE),
    "magic_last": (7, 1, SealedCode.NOT_A_SEALED_FILE),
    "version": (9, 2, SealedCode.SEALED_VERSION_UNKNOWN),
    "suite": (11, 2, SealedCode.SEALED_SUITE_UNKNOWN),
    "kind_other": (13, 3, SealCode.SHARD_MISPLACED),
    "kind_unknown": (13, 8, CoreCode.MALFORMED),
    "reserved_a": (15, 1, CoreCode.MALFORMED),
    "shard_index": (19, 1, CoreCode.MALFORMED),  # the index: shard 1 of 1
    "shard_count": (23, 4, SealCode.SHARD_MISPLACED),
    "stride_unknown": (27, 1, CoreCode.MALFORMED),
    "stride_other": (25, 0x11, SealCode.SHARD_MISPLACED),  # 64 KiB becomes 1 MiB
    "reserved_b": (31, 1, CoreCode.MALFORMED),
    "plaintext_size": (39, 1, SealCode.SHARD_MISPLACED),
    "reserved_c": (40, 1, CoreCode.MALFORMED),
    "seal_id": (64, 1, SealCode.SHARD_MISPLACED),
    "salt": (96, 1, SealCode.WRONG_MODEL_KEY),
    "commitment": (128, 1, SealCode.WRONG_MODEL_KEY),
    "reserved_d_first": (160, 1, CoreCode.MALFORMED),
    "reserved_d_last": (4095, 0x80, CoreCode.MALFORMED),
}


@pytest.mark.parametrize("name", [INDEX, SHARD, SHARD_2])
@pytest.mark.parametrize("field", PREFIX_FIELDS)
def test_prefix_bit_flip(sealed: OwnedModel, memory: KeptMemory, field: str, name: str) -> None:
    offset, mask, _ = PREFIX_FIELDS[field]
    sealed.patch(name, offset, mask)
    refused(SealCode.PREFIX_CHANGED, sealed.verify)
    refused_by_load(sealed, memory, SealCode.PREFIX_CHANGED)
    assert memory.allocated == 0


@pytest.mark.parametrize("field", PREFIX_FIELDS)
def test_prefix_bit_flip_that_the_owner_signed(
    sealed: OwnedModel, memory: KeptMemory, field: str
) -> None:
    offset, mask, code = PREFIX_FIELDS[field]
    sealed.patch(INDEX, offset, mask)
    sealed.resign()
    refused_by_load(sealed, memory, code)
    assert memory.allocated == 0
    if code is not SealCode.WRONG_MODEL_KEY:  # which needs the key to be seen
        refused(code, sealed.verify)


@pytest.mark.parametrize("field", ["salt", "commitment"])
def test_wrong_commitment_of_a_shard(sealed: OwnedModel, memory: KeptMemory, field: str) -> None:
    sealed.patch(SHARD_1, PREFIX_FIELDS[field][0])
    sealed.resign()
    refused_by_load(sealed, memory, SealCode.COMMITMENT_MISMATCH)
    assert memory.allocated == 0


def test_every_bit_of_the_prefix_fields_matters(pristine: OwnedModel) -> None:
    """No bit of the first 160 bytes can change without the digest noticing."""
    head = bytearray((pristine.folder / SHARD).read_bytes()[:PREFIX])
    want = pristine.manifest().shards[0].prefix_digest
    for bit in range(160 * 8):
        head[bit // 8] ^= 1 << bit % 8
        assert Digest.of(head) != want
        head[bit // 8] ^= 1 << bit % 8
    assert Digest.of(head) == want


@pytest.mark.parametrize("name", [INDEX, SHARD, SHARD_1, SHARD_2])
@pytest.mark.parametrize("offset", [PREFIX, PREFIX + 99, -17, -16, -1])
def test_chunk_bit_flip(sealed: OwnedModel, memory: KeptMemory, name: str, offset: int) -> None:
    sealed.patch(name, offset)
    refused(SealCode.CIPHERTEXT_CHANGED, sealed.verify)
    error = refused_by_load(sealed, memory, AeadCode.CHUNK_FORGED)
    assert name in error.what


@pytest.mark.parametrize("chunk", [0, 1])
def test_chunk_bit_flip_is_named(sealed: OwnedModel, memory: KeptMemory, chunk: int) -> None:
    sealed.patch(SHARD_1, PREFIX + chunk * STRIDE + 1000)
    error = refused_by_load(sealed, memory, AeadCode.CHUNK_FORGED)
    assert f"{SHARD_1}: chunk {chunk} " in error.what


def chunk_of(data: bytes, number: int) -> slice:
    return slice(PREFIX + number * STRIDE, min(len(data), PREFIX + (number + 1) * STRIDE))


def test_swapped_chunks(sealed: OwnedModel, memory: KeptMemory) -> None:
    path = sealed.folder / SHARD
    data = path.read_bytes()
    first, second = chunk_of(data, 0), chunk_of(data, 1)
    path.write_bytes(data[:PREFIX] + data[second] + data[first])
    refused(SealCode.CIPHERTEXT_CHANGED, sealed.verify)
    refused_by_load(sealed, memory, AeadCode.CHUNK_FORGED)


def test_swapped_chunks_that_the_owner_signed(sealed: OwnedModel, memory: KeptMemory) -> None:
    path = sealed.folder / SHARD
    data = path.read_bytes()
    first, second = chunk_of(data, 0), chunk_of(data, 1)
    path.write_bytes(data[:PREFIX] + data[second] + data[first])
    sealed.resign()
    sealed.verify()  # the digests hold: only the key shows what is wrong
    refused_by_load(sealed, memory, AeadCode.CHUNK_FORGED)


def test_chunks_swapped_between_shards(sealed: OwnedModel, memory: KeptMemory) -> None:
    one, other = sealed.folder / SHARD, sealed.folder / SHARD_1
    first, second = one.read_bytes(), other.read_bytes()
    place = chunk_of(first, 0)
    one.write_bytes(first[:PREFIX] + second[place] + first[place.stop :])
    other.write_bytes(second[:PREFIX] + first[place] + second[place.stop :])
    refused(SealCode.CIPHERTEXT_CHANGED, sealed.verify)
    refused_by_load(sealed, memory, AeadCode.CHUNK_FORGED)


def test_duplicated_chunk(sealed: OwnedModel, memory: KeptMemory) -> None:
    path = sealed.folder / SHARD
    data = path.read_bytes()
    path.write_bytes(data[:PREFIX] + data[chunk_of(data, 0)] * 2)
    refused(SealCode.CIPHERTEXT_CHANGED, sealed.verify)
    refused_by_load(sealed, memory, AeadCode.CHUNK_FORGED)


def resize(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.write_bytes(change(path.read_bytes()))


@pytest.mark.parametrize(
    ("defect", "change"),
    [
        ("dropped_last_chunk", lambda data: data[: PREFIX + STRIDE]),
        ("dropped_first_chunk", lambda data: data[:PREFIX] + data[PREFIX + STRIDE :]),
        ("appended_chunk", lambda data: data + data[-STRIDE:]),
        ("inserted_chunk", lambda data: data[: PREFIX + STRIDE] + data[PREFIX:]),
        ("truncated_last_chunk", lambda data: data[:-1]),
        ("one_byte_more", lambda data: data + b"\0"),
        ("prefix_only", lambda data: data[:PREFIX]),
        ("half_a_prefix", lambda data: data[: PREFIX // 2]),
        ("empty", lambda _: b""),
    ],
)
@pytest.mark.parametrize("name", [INDEX, SHARD])
def test_other_size(
    sealed: OwnedModel,
    memory: KeptMemory,
    defect: str,
    change: Callable[[bytes], bytes],
    name: str,
) -> None:
    assert defect
    before = (sealed.folder / name).read_bytes()
    resize(sealed.folder / name, change)
    if (sealed.folder / name).read_bytes() == before:
        pytest.skip("this file has one chunk")
    refused(SealCode.SIZE_CHANGED, sealed.verify)
    refused_by_load(sealed, memory, SealCode.SIZE_CHANGED)
    assert memory.allocated == 0


def test_truncation_that_the_owner_signed(sealed: OwnedModel, memory: KeptMemory) -> None:
    """Even the owner's signature cannot make a shorter shard fit the layout."""
    resize(sealed.folder / SHARD_2, lambda data: data[:-1])
    sealed.resign()
    refused(CoreCode.MALFORMED, lambda: sealed.load(memory))


def test_permuted_shards(sealed: OwnedModel, memory: KeptMemory) -> None:
    one, other = sealed.folder / SHARD, sealed.folder / SHARD_1
    first = one.read_bytes()
    shutil.copy(other, one)
    other.write_bytes(first)
    refused(SealCode.PREFIX_CHANGED, sealed.verify)
    refused_by_load(sealed, memory, SealCode.PREFIX_CHANGED)


def test_permuted_shards_that_the_owner_signed(sealed: OwnedModel, memory: KeptMemory) -> None:
    one, other = sealed.folder / SHARD, sealed.folder / SHARD_1
    first = one.read_bytes()
    shutil.copy(other, one)
    other.write_bytes(first)
    sealed.resign()
    refused(SealCode.SHARD_MISPLACED, sealed.verify)
    refused_by_load(sealed, memory, SealCode.SHARD_MISPLACED)


def test_shard_of_another_sealing(sealed: OwnedModel, twin: OwnedModel, memory: KeptMemory) -> None:
    shutil.copy(twin.folder / SHARD, sealed.folder / SHARD)
    refused(SealCode.PREFIX_CHANGED, sealed.verify)
    refused_by_load(sealed, memory, SealCode.PREFIX_CHANGED)


@pytest.mark.parametrize("name", [INDEX, SHARD])
def test_file_of_another_sealing_that_the_owner_signed(
    sealed: OwnedModel, twin: OwnedModel, memory: KeptMemory, name: str
) -> None:
    shutil.copy(twin.folder / name, sealed.folder / name)
    sealed.resign()
    refused(SealCode.SHARD_MISPLACED, sealed.verify)
    refused_by_load(sealed, memory, SealCode.SHARD_MISPLACED)


def test_body_of_another_sealing(sealed: OwnedModel, twin: OwnedModel, memory: KeptMemory) -> None:
    """The prefix is this model's, the chunks are another's."""
    head = (sealed.folder / SHARD).read_bytes()[:PREFIX]
    body = (twin.folder / SHARD).read_bytes()[PREFIX:]
    (sealed.folder / SHARD).write_bytes(head + body)
    refused_by_load(sealed, memory, AeadCode.CHUNK_FORGED)


@pytest.mark.parametrize("name", [INDEX, SHARD_1])
def test_missing_or_renamed_file(sealed: OwnedModel, memory: KeptMemory, name: str) -> None:
    (sealed.folder / name).unlink()
    refused(CoreCode.FILE_MISSING, sealed.verify)
    refused_by_load(sealed, memory, CoreCode.FILE_MISSING)


def test_renamed_shard(sealed: OwnedModel, memory: KeptMemory) -> None:
    (sealed.folder / SHARD_1).rename(sealed.folder / "shard-00003.seal")
    refused(CoreCode.FILE_MISSING, sealed.verify)
    refused_by_load(sealed, memory, CoreCode.FILE_MISSING)


@pytest.mark.parametrize("name", ["weights.safetensors", "shard-00003.seal", ".hidden"])
def test_unexpected_file(sealed: OwnedModel, name: str) -> None:
    (sealed.folder / name).write_bytes(b"")
    refused(SealCode.UNEXPECTED_FILE, sealed.verify)


def test_link_instead_of_a_file(sealed: OwnedModel, memory: KeptMemory, tmp_path: Path) -> None:
    (sealed.folder / SHARD).rename(tmp_path / "elsewhere")
    (sealed.folder / SHARD).symlink_to(tmp_path / "elsewhere")
    refused(CoreCode.IO_FAILED, sealed.verify)
    refused_by_load(sealed, memory, CoreCode.IO_FAILED)


# --- what a refusal leaves behind


def test_recovery_of_a_damaged_model_leaves_nothing(sealed: OwnedModel, tmp_path: Path) -> None:
    sealed.patch(SHARD_2, -1)
    refused(AeadCode.CHUNK_FORGED, lambda: sealed.recover(tmp_path / "out"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sealed"]


def test_no_plaintext_of_a_damaged_chunk_in_a_range(sealed: OwnedModel) -> None:
    sealed.patch(SHARD_1, PREFIX + STRIDE + 5)  # chunk 3 of the stream
    with LocalBlobs(sealed.folder) as blobs:
        reader = open_sealed(blobs, sealed.verified(), sealed.key)
        good = memoryview(bytearray(1000))
        reader.read_range(2 * (STRIDE - 16), good)
        assert any(good)
        for start, size in ((3 * 65520 + 10, 1000), (0, reader.stream_size), (131000, 130000)):
            out = memoryview(bytearray(b"\xaa" * size))
            refused(AeadCode.CHUNK_FORGED, lambda s=start, o=out: reader.read_range(s, o))
            assert not any(out)


def test_cipher_wipes_what_it_could_not_authenticate() -> None:
    """The library leaves unauthenticated plaintext in the buffer; ours must not."""
    cipher = ChunkCipher(bytes(32), b"")
    sealed, out = memoryview(bytearray(4112)), memoryview(bytearray(4096))
    cipher.seal_into(5, memoryview(b"A" * 4096), sealed, last=False)
    for counter, last in ((4, False), (6, False), (5, True)):
        with pytest.raises(IntegrityError):
            cipher.open_into(counter, sealed, out, last=last)
        assert not any(out)
    cipher.open_into(5, sealed, out, last=False)
    assert bytes(out) == b"A" * 4096
    with pytest.raises(IntegrityError):
        ChunkCipher(bytes(32), b"other").open_into(5, sealed, out, last=False)


def test_types_of_refusals(sealed: OwnedModel) -> None:
    """Exit statuses follow from the family: malformed, integrity, key and local are distinct."""
    assert isinstance(
        refused(SealCode.VERSION_ROLLBACK, lambda: sealed.verified(9)), IntegrityError
    )
    (sealed.folder / SHARD).unlink()
    assert isinstance(refused(CoreCode.FILE_MISSING, sealed.verify), LocalError)
    sealed.manifest_path.write_bytes(b"{}")
    assert isinstance(refused(CoreCode.MALFORMED, sealed.verified), ParseError)


def test_seal_ids_and_keys_differ_between_sealings(pristine: OwnedModel, twin: OwnedModel) -> None:
    one, other = pristine.manifest(), twin.manifest()
    assert one.model_id == other.model_id
    assert one.seal_id != other.seal_id
    assert not pristine.key.matches(twin.key)
    assert isinstance(one.seal_id, SealId)
    assert one.wrapped_key == WrappedKey("test-kek", "test", b"opaque")
