"""The attack bench of the sealed model: one defect, one refusal with its own code."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import pytest

from regalia.core.codec import canonical_json
from regalia.core.errors import (
    CoreCode,
    IntegrityError,
    KeyAccessError,
    LocalError,
    ParseError,
    RegaliaError,
)
from regalia.core.secret import SecretBytes
from regalia.core.types import Digest, ModelId
from regalia.crypto.aead import AeadCode, ChunkCipher
from regalia.crypto.dsse import DsseCode, Envelope, parse_envelope, sign
from regalia.crypto.sign import SignCode, SigningKey
from regalia.formats.sealed import SealedCode, SealId, WrappedKey
from regalia.formats.sealed_index import Index, parse_index
from regalia.formats.sealed_manifest import PAYLOAD_TYPE
from regalia.seal.codes import SealCode
from regalia.seal.manifest import (
    ANY_SIGNER,
    DANGEROUS_UNSIGNED,
    VerifiedManifest,
    peek_manifest,
    verify_manifest,
)
from regalia.seal.reader import open_sealed
from regalia.store.local import LocalBlobs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from regalia.core.errors import Code
    from regalia.formats.sealed_index import Entry
    from regalia.seal.manifest import (
        Signers,
        Trusted,
    )
    from regalia.testing.sealed import KeptMemory, SealedBench

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


def refused(code: Code, call: Callable[[], object]) -> RegaliaError:
    with pytest.raises(RegaliaError) as caught:
        call()
    assert caught.value.code is code, caught.value
    return caught.value


def refused_by_load(sealed: SealedBench, memory: KeptMemory, code: Code) -> RegaliaError:
    """Loading refuses, and the destination holds no byte of the model afterwards."""
    error = refused(code, lambda: sealed.load(memory))
    assert not any(memory.buffer)
    assert memory.wipes >= (1 if memory.allocated else 0)
    return error


@pytest.mark.parametrize("name", [INDEX, SHARD, SHARD_2])
@pytest.mark.parametrize("field", PREFIX_FIELDS)
def test_prefix_bit_flip(sealed: SealedBench, memory: KeptMemory, field: str, name: str) -> None:
    offset, mask, _ = PREFIX_FIELDS[field]
    sealed.patch(name, offset, mask)
    refused(SealCode.PREFIX_CHANGED, sealed.verify)
    refused_by_load(sealed, memory, SealCode.PREFIX_CHANGED)
    assert memory.allocated == 0


@pytest.mark.parametrize("field", PREFIX_FIELDS)
def test_prefix_bit_flip_that_the_owner_signed(
    sealed: SealedBench, memory: KeptMemory, field: str
) -> None:
    offset, mask, code = PREFIX_FIELDS[field]
    sealed.patch(INDEX, offset, mask)
    sealed.resign()
    refused_by_load(sealed, memory, code)
    assert memory.allocated == 0
    if code is not SealCode.WRONG_MODEL_KEY:  # which needs the key to be seen
        refused(code, sealed.verify)


@pytest.mark.parametrize("field", ["salt", "commitment"])
def test_wrong_commitment_of_a_shard(sealed: SealedBench, memory: KeptMemory, field: str) -> None:
    sealed.patch(SHARD_1, PREFIX_FIELDS[field][0])
    sealed.resign()
    refused_by_load(sealed, memory, SealCode.COMMITMENT_MISMATCH)
    assert memory.allocated == 0


def test_every_bit_of_the_prefix_fields_matters(pristine: SealedBench) -> None:
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
def test_chunk_bit_flip(sealed: SealedBench, memory: KeptMemory, name: str, offset: int) -> None:
    sealed.patch(name, offset)
    refused(SealCode.CIPHERTEXT_CHANGED, sealed.verify)
    error = refused_by_load(sealed, memory, AeadCode.CHUNK_FORGED)
    assert name in error.what


@pytest.mark.parametrize("chunk", [0, 1])
def test_chunk_bit_flip_is_named(sealed: SealedBench, memory: KeptMemory, chunk: int) -> None:
    sealed.patch(SHARD_1, PREFIX + chunk * STRIDE + 1000)
    error = refused_by_load(sealed, memory, AeadCode.CHUNK_FORGED)
    assert f"{SHARD_1}: chunk {chunk} " in error.what


def chunk_of(data: bytes, number: int) -> slice:
    return slice(PREFIX + number * STRIDE, min(len(data), PREFIX + (number + 1) * STRIDE))


def test_swapped_chunks(sealed: SealedBench, memory: KeptMemory) -> None:
    path = sealed.folder / SHARD
    data = path.read_bytes()
    first, second = chunk_of(data, 0), chunk_of(data, 1)
    path.write_bytes(data[:PREFIX] + data[second] + data[first])
    refused(SealCode.CIPHERTEXT_CHANGED, sealed.verify)
    refused_by_load(sealed, memory, AeadCode.CHUNK_FORGED)


def test_swapped_chunks_that_the_owner_signed(sealed: SealedBench, memory: KeptMemory) -> None:
    path = sealed.folder / SHARD
    data = path.read_bytes()
    first, second = chunk_of(data, 0), chunk_of(data, 1)
    path.write_bytes(data[:PREFIX] + data[second] + data[first])
    sealed.resign()
    sealed.verify()  # the digests hold: only the key shows what is wrong
    refused_by_load(sealed, memory, AeadCode.CHUNK_FORGED)


def test_chunks_swapped_between_shards(sealed: SealedBench, memory: KeptMemory) -> None:
    one, other = sealed.folder / SHARD, sealed.folder / SHARD_1
    first, second = one.read_bytes(), other.read_bytes()
    place = chunk_of(first, 0)
    one.write_bytes(first[:PREFIX] + second[place] + first[place.stop :])
    other.write_bytes(second[:PREFIX] + first[place] + second[place.stop :])
    refused(SealCode.CIPHERTEXT_CHANGED, sealed.verify)
    refused_by_load(sealed, memory, AeadCode.CHUNK_FORGED)


def test_duplicated_chunk(sealed: SealedBench, memory: KeptMemory) -> None:
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
    sealed: SealedBench,
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


def test_truncation_that_the_owner_signed(sealed: SealedBench, memory: KeptMemory) -> None:
    """Even the owner's signature cannot make a shorter shard fit the layout."""
    resize(sealed.folder / SHARD_2, lambda data: data[:-1])
    sealed.resign()
    refused(CoreCode.MALFORMED, lambda: sealed.load(memory))


def test_permuted_shards(sealed: SealedBench, memory: KeptMemory) -> None:
    one, other = sealed.folder / SHARD, sealed.folder / SHARD_1
    first = one.read_bytes()
    shutil.copy(other, one)
    other.write_bytes(first)
    refused(SealCode.PREFIX_CHANGED, sealed.verify)
    refused_by_load(sealed, memory, SealCode.PREFIX_CHANGED)


def test_permuted_shards_that_the_owner_signed(sealed: SealedBench, memory: KeptMemory) -> None:
    one, other = sealed.folder / SHARD, sealed.folder / SHARD_1
    first = one.read_bytes()
    shutil.copy(other, one)
    other.write_bytes(first)
    sealed.resign()
    refused(SealCode.SHARD_MISPLACED, sealed.verify)
    refused_by_load(sealed, memory, SealCode.SHARD_MISPLACED)


def test_shard_of_another_sealing(
    sealed: SealedBench, twin: SealedBench, memory: KeptMemory
) -> None:
    shutil.copy(twin.folder / SHARD, sealed.folder / SHARD)
    refused(SealCode.PREFIX_CHANGED, sealed.verify)
    refused_by_load(sealed, memory, SealCode.PREFIX_CHANGED)


@pytest.mark.parametrize("name", [INDEX, SHARD])
def test_file_of_another_sealing_that_the_owner_signed(
    sealed: SealedBench, twin: SealedBench, memory: KeptMemory, name: str
) -> None:
    shutil.copy(twin.folder / name, sealed.folder / name)
    sealed.resign()
    refused(SealCode.SHARD_MISPLACED, sealed.verify)
    refused_by_load(sealed, memory, SealCode.SHARD_MISPLACED)


def test_body_of_another_sealing(
    sealed: SealedBench, twin: SealedBench, memory: KeptMemory
) -> None:
    """The prefix is this model's, the chunks are another's."""
    head = (sealed.folder / SHARD).read_bytes()[:PREFIX]
    body = (twin.folder / SHARD).read_bytes()[PREFIX:]
    (sealed.folder / SHARD).write_bytes(head + body)
    refused_by_load(sealed, memory, AeadCode.CHUNK_FORGED)


@pytest.mark.parametrize("name", [INDEX, SHARD_1])
def test_missing_or_renamed_file(sealed: SealedBench, memory: KeptMemory, name: str) -> None:
    (sealed.folder / name).unlink()
    refused(CoreCode.FILE_MISSING, sealed.verify)
    refused_by_load(sealed, memory, CoreCode.FILE_MISSING)


def test_renamed_shard(sealed: SealedBench, memory: KeptMemory) -> None:
    (sealed.folder / SHARD_1).rename(sealed.folder / "shard-00003.seal")
    refused(CoreCode.FILE_MISSING, sealed.verify)
    refused_by_load(sealed, memory, CoreCode.FILE_MISSING)


@pytest.mark.parametrize("name", ["weights.safetensors", "shard-00003.seal", ".hidden"])
def test_unexpected_file(sealed: SealedBench, name: str) -> None:
    (sealed.folder / name).write_bytes(b"")
    refused(SealCode.UNEXPECTED_FILE, sealed.verify)


def test_link_instead_of_a_file(sealed: SealedBench, memory: KeptMemory, tmp_path: Path) -> None:
    (sealed.folder / SHARD).rename(tmp_path / "elsewhere")
    (sealed.folder / SHARD).symlink_to(tmp_path / "elsewhere")
    refused(CoreCode.IO_FAILED, sealed.verify)
    refused_by_load(sealed, memory, CoreCode.IO_FAILED)


# --- the manifest


def test_older_version(pristine: SealedBench) -> None:
    pristine.verified(minimum_version=7)
    refused(SealCode.VERSION_ROLLBACK, lambda: pristine.verified(minimum_version=8))


def test_unsigned(sealed: SealedBench) -> None:
    manifest = replace(sealed.manifest(), signer=None)
    data = sign(PAYLOAD_TYPE, manifest.encode(), ()).encode()
    for signers in ((sealed.owner.verify_key,), ANY_SIGNER):
        refused(
            DsseCode.UNSIGNED,
            lambda signers=signers: verify_manifest(data, signers=signers, minimum_version=1),
        )
    opened = verify_manifest(data, signers=DANGEROUS_UNSIGNED, minimum_version=1)
    assert opened.signer is None
    assert opened.trusted == "dangerous-unsigned"


@pytest.mark.parametrize("word", [ANY_SIGNER, DANGEROUS_UNSIGNED, None])
def test_signature_stripped(
    pristine: SealedBench, word: Literal[Signers.ANY, Signers.DANGEROUS_UNSIGNED] | None
) -> None:
    """A manifest that names a signer needs the signature, even where unsigned ones pass."""
    data = sign(PAYLOAD_TYPE, pristine.manifest().encode(), ()).encode()
    trusted: Trusted = word or (pristine.owner.verify_key,)
    refused(DsseCode.UNSIGNED, lambda: verify_manifest(data, signers=trusted, minimum_version=1))


def test_empty_trust_trusts_nobody(pristine: SealedBench) -> None:
    data = pristine.manifest_path.read_bytes()
    refused(DsseCode.SIGNER_UNKNOWN, lambda: verify_manifest(data, signers=(), minimum_version=1))


def test_signed_by_another(pristine: SealedBench) -> None:
    mallory = SigningKey.generate_ed25519()
    manifest = replace(pristine.manifest(), signer=mallory.verify_key.spki)
    data = sign(PAYLOAD_TYPE, manifest.encode(), (mallory,)).encode()
    trusted = (pristine.owner.verify_key,)
    refused(
        DsseCode.SIGNER_UNKNOWN, lambda: verify_manifest(data, signers=trusted, minimum_version=1)
    )
    # With the wildcard it passes, and says whose signature it is.
    opened = verify_manifest(data, signers=ANY_SIGNER, minimum_version=1)
    assert opened.trusted == "any"
    assert opened.signer == mallory.verify_key.fingerprint


def test_forged_signature(pristine: SealedBench) -> None:
    """Another's signature under the owner's name."""
    mallory = SigningKey.generate_ed25519()
    payload = pristine.manifest().encode()
    forged = sign(PAYLOAD_TYPE, payload, (mallory,)).signatures[0][1]
    name = str(pristine.owner.verify_key.fingerprint)
    data = Envelope(PAYLOAD_TYPE, payload, ((name, forged),)).encode()
    for signers in ((pristine.owner.verify_key,), ANY_SIGNER, DANGEROUS_UNSIGNED):
        refused(
            SignCode.SIGNATURE_INVALID,
            lambda signers=signers: verify_manifest(data, signers=signers, minimum_version=1),
        )


def test_signature_of_another_manifest(pristine: SealedBench, twin: SealedBench) -> None:
    envelope = parse_envelope(twin.manifest_path.read_bytes(), what="manifest")
    data = replace(envelope, unverified_payload=pristine.manifest().encode()).encode()
    refused(
        SignCode.SIGNATURE_INVALID,
        lambda: verify_manifest(data, signers=(twin.owner.verify_key,), minimum_version=1),
    )


def test_a_fingerprint_is_enough_to_trust(pristine: SealedBench) -> None:
    fingerprint = pristine.owner.verify_key.fingerprint
    data = pristine.manifest_path.read_bytes()
    opened = verify_manifest(data, signers=(fingerprint,), minimum_version=1)
    assert opened.signer == fingerprint
    assert opened.trusted == "named"


def test_wrong_payload_type(pristine: SealedBench) -> None:
    data = sign("application/json", pristine.manifest().encode(), (pristine.owner,)).encode()
    refused(DsseCode.WRONG_PAYLOAD_TYPE, lambda: peek_manifest(data))
    refused(
        DsseCode.WRONG_PAYLOAD_TYPE,
        lambda: verify_manifest(data, signers=ANY_SIGNER, minimum_version=1),
    )


@pytest.mark.parametrize(
    "spoil",
    [
        lambda document: json.dumps(document).encode(),  # white space
        lambda document: canonical_json(document) + b"\n",
        lambda document: canonical_json({**document, "surprise": 1}),
        lambda document: canonical_json({k: v for k, v in document.items() if k != "version"}),
        lambda _: b"{}",
        lambda _: b"[]",
        lambda _: b"\xff",
    ],
)
def test_manifest_not_canonical(
    sealed: SealedBench, spoil: Callable[[dict[str, object]], bytes]
) -> None:
    sealed.sign_payload(spoil(json.loads(sealed.manifest().encode())))
    refused(CoreCode.MALFORMED, sealed.verified)


ENTRY = {"digest": "sha256:" + 64 * "0", "prefix_digest": "sha256:" + 64 * "0", "size": 4112}


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"format": "regalia/sealed-model/v2"}, SealedCode.SEALED_VERSION_UNKNOWN),
        ({"suite": "aes-256-gcm-siv"}, SealedCode.SEALED_SUITE_UNKNOWN),
        ({"version": 0}, CoreCode.MALFORMED),
        ({"version": 1 << 53}, CoreCode.MALFORMED),
        ({"stride": 65537}, CoreCode.MALFORMED),
        ({"stride": 1 << 20}, CoreCode.MALFORMED),
        ({"shard_chunks": 0}, CoreCode.MALFORMED),
        ({"shard_chunks": 65537}, CoreCode.MALFORMED),
        ({"shard_chunks": 1}, CoreCode.MALFORMED),
        ({"stream_size": -1}, CoreCode.MALFORMED),
        ({"stream_size": 262_307}, CoreCode.MALFORMED),
        ({"stream_size": (1 << 53) + 1}, CoreCode.MALFORMED),
        ({"stream_size": 1 << 53}, CoreCode.TOO_LARGE),
        ({"shards": []}, CoreCode.MALFORMED),
        ({"shards": [ENTRY]}, CoreCode.MALFORMED),
        ({"index": {**ENTRY, "size": 1 << 40}}, CoreCode.TOO_LARGE),
        ({"index": {**ENTRY, "size": -1}}, CoreCode.MALFORMED),
        ({"index": {**ENTRY, "digest": "md5:00"}}, CoreCode.MALFORMED),
        ({"model_id": "model:00"}, CoreCode.MALFORMED),
        ({"model_id": "sha256:" + 64 * "0"}, CoreCode.MALFORMED),
        ({"seal_id": "seal:" + 64 * "A"}, CoreCode.MALFORMED),
        ({"signer": "!"}, CoreCode.MALFORMED),
        ({"signer": "AAAA"}, SignCode.PUBLIC_KEY_MALFORMED),
        ({"wrapped_key": {"kek": "", "algorithm": "a", "blob": "AA=="}}, CoreCode.MALFORMED),
        ({"wrapped_key": {"kek": "\x1b", "algorithm": "a", "blob": "AA=="}}, CoreCode.MALFORMED),
        ({"wrapped_key": {"kek": "k", "algorithm": "a" * 65, "blob": "AA=="}}, CoreCode.MALFORMED),
        ({"wrapped_key": {"kek": "k", "algorithm": "a", "blob": ""}}, CoreCode.MALFORMED),
        ({"wrapped_key": {"kek": "k", "algorithm": "a", "blob": "A" * 8000}}, CoreCode.TOO_LARGE),
    ],
    ids=str,
)
def test_manifest_field(sealed: SealedBench, fields: dict[str, object], code: Code) -> None:
    sealed.resign_raw(**fields)
    refused(code, sealed.verified)


def test_oversized_manifest(sealed: SealedBench) -> None:
    sealed.resign_raw(format="x" * (9 << 20))
    refused(CoreCode.TOO_LARGE, sealed.verified)


def test_manifest_cannot_be_made_by_hand(pristine: SealedBench) -> None:
    good = pristine.verified()
    with pytest.raises(TypeError):
        VerifiedManifest(good.content, good.signer, good.trusted, good.digest, mint=object())
    with pytest.raises((TypeError, ValueError)):
        replace(good, signer=None)


# --- the key


def test_wrong_key(pristine: SealedBench, twin: SealedBench, memory: KeptMemory) -> None:
    stranger = replace(pristine, key=twin.key)
    with pytest.raises(KeyAccessError) as caught:
        stranger.load(memory)
    assert caught.value.code is SealCode.WRONG_MODEL_KEY
    assert memory.allocated == 0


def test_key_with_one_bit_flipped(pristine: SealedBench, memory: KeptMemory) -> None:
    key = bytearray(pristine.key.view())
    key[31] ^= 0x80
    stranger = replace(pristine, key=SecretBytes(key))
    refused_by_load(stranger, memory, SealCode.WRONG_MODEL_KEY)


# --- the index, as somebody with model key and signing key could forge it


def index_of(sealed: SealedBench) -> Index:
    with LocalBlobs(sealed.folder) as blobs:
        return open_sealed(blobs, sealed.verified(), sealed.key).index


def reseal_index(sealed: SealedBench, plaintext: bytes, model_id: ModelId | None = None) -> None:
    sealed.write_index(plaintext)
    sealed.resign(lambda m: m if model_id is None else replace(m, model_id=model_id))


def renamed(index: Index, names: dict[str, str]) -> Index:
    entries = tuple(replace(e, path=names.get(e.path, e.path)) for e in index.entries)
    return replace(index, entries=entries)


@pytest.mark.parametrize(
    ("names", "code"),
    [
        ({"config.json": "../config.json"}, SealedCode.PATH_REFUSED),
        ({"config.json": "/etc/passwd"}, SealedCode.PATH_REFUSED),
        ({"config.json": "."}, SealedCode.PATH_REFUSED),
        ({"config.json": "a//b"}, SealedCode.PATH_REFUSED),
        ({"config.json": ""}, SealedCode.PATH_REFUSED),
        ({"config.json": "a\0b"}, SealedCode.PATH_REFUSED),
        ({"config.json": "a\\b"}, SealedCode.PATH_REFUSED),
        ({"config.json": "a\u202eb"}, SealedCode.PATH_REFUSED),
        ({"config.json": "Empty"}, SealedCode.PATHS_COLLIDE),
        ({"config.json": "SUB/x"}, SealedCode.PATHS_COLLIDE),
        ({"empty": "sub"}, SealedCode.PATHS_COLLIDE),  # a file and a directory
        ({"config.json": "zz"}, CoreCode.MALFORMED),
        ({"config.json": "empty"}, CoreCode.MALFORMED),
    ],
    ids=str,
)
def test_index_with_a_bad_name(
    sealed: SealedBench, memory: KeptMemory, names: dict[str, str], code: Code
) -> None:
    bad = renamed(index_of(sealed), names)
    reseal_index(sealed, bad.encode(), bad.model_id())
    refused_by_load(sealed, memory, code)
    assert memory.allocated == 0


def test_renamed_and_permuted_files(sealed: SealedBench, memory: KeptMemory) -> None:
    """Names are part of the model id: an index with other names does not fit the manifest."""
    bad = renamed(index_of(sealed), {"config.json": "conf1g.json"})
    reseal_index(sealed, bad.encode())
    refused_by_load(sealed, memory, SealCode.MODEL_ID_MISMATCH)


def test_model_id_changed(sealed: SealedBench, memory: KeptMemory) -> None:
    sealed.resign(lambda m: replace(m, model_id=ModelId(bytes(32))))
    sealed.verify()  # nothing that a reader without the key could see
    refused_by_load(sealed, memory, SealCode.MODEL_ID_MISMATCH)


@pytest.mark.parametrize(
    "change",
    [
        lambda e: replace(e, offset=e.offset + 64),
        lambda e: replace(e, offset=e.offset - 64),
        lambda e: replace(e, length=e.length + 1),
        lambda e: replace(e, length=-1),
        lambda e: replace(e, offset=-64),
    ],
)
def test_index_with_misplaced_file(
    sealed: SealedBench, memory: KeptMemory, change: Callable[[Entry], Entry]
) -> None:
    index = index_of(sealed)
    bad = replace(index, entries=(*index.entries[:-1], change(index.entries[-1])))
    reseal_index(sealed, bad.encode(), sealed.manifest().model_id)
    refused_by_load(sealed, memory, CoreCode.MALFORMED)


def test_index_of_another_stream_size(sealed: SealedBench, memory: KeptMemory) -> None:
    index = index_of(sealed)
    last = index.entries[-1]
    entries = (*index.entries[:-1], replace(last, length=last.length - 1))
    bad = Index(entries, index.stream_size - 1)
    reseal_index(sealed, bad.encode(), bad.model_id())
    refused_by_load(sealed, memory, SealCode.MODEL_ID_MISMATCH)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda good: good + bytes(64 * 1024),
        lambda good: good[:-1] + b"\1",
        lambda good: good[:100],
        lambda _: b"",
        lambda good: b"\xff" * 8 + good[8:],
        lambda good: bytes(len(good)),
        lambda good: good.replace(b"regalia/sealed-index/v1", b"regalia/sealed-index/v2"),
    ],
)
def test_index_malformed(
    sealed: SealedBench, memory: KeptMemory, spoil: Callable[[bytes], bytes]
) -> None:
    reseal_index(sealed, spoil(index_of(sealed).encode()))
    refused_by_load(sealed, memory, CoreCode.MALFORMED)


def test_index_limits(monkeypatch: pytest.MonkeyPatch, pristine: SealedBench) -> None:
    data = index_of(pristine).encode()
    monkeypatch.setattr("regalia.formats.sealed_index.INDEX_LIMIT", len(data) - 1)
    refused(CoreCode.TOO_LARGE, lambda: parse_index(data))
    monkeypatch.undo()
    monkeypatch.setattr("regalia.formats.sealed_index.FILES_MAX", 3)
    refused(CoreCode.TOO_LARGE, lambda: parse_index(data))


def test_file_digest_is_checked_on_recovery(sealed: SealedBench, tmp_path: Path) -> None:
    """Somebody with the model key could record a wrong digest; loading does not hash again."""
    index = index_of(sealed)
    wrong = replace(index.entries[-1], digest=Digest.of(b"something else"))
    bad = replace(index, entries=(*index.entries[:-1], wrong))
    reseal_index(sealed, bad.encode(), bad.model_id())
    sealed.load()
    refused(SealCode.FILE_CHANGED, lambda: sealed.recover(tmp_path / "out"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sealed"]


# --- what a refusal leaves behind


def test_recovery_of_a_damaged_model_leaves_nothing(sealed: SealedBench, tmp_path: Path) -> None:
    sealed.patch(SHARD_2, -1)
    refused(AeadCode.CHUNK_FORGED, lambda: sealed.recover(tmp_path / "out"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sealed"]


def test_no_plaintext_of_a_damaged_chunk_in_a_range(sealed: SealedBench) -> None:
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


def test_types_of_refusals(sealed: SealedBench) -> None:
    """Exit statuses follow from the family: malformed, integrity, key and local are distinct."""
    assert isinstance(
        refused(SealCode.VERSION_ROLLBACK, lambda: sealed.verified(9)), IntegrityError
    )
    (sealed.folder / SHARD).unlink()
    assert isinstance(refused(CoreCode.FILE_MISSING, sealed.verify), LocalError)
    sealed.manifest_path.write_bytes(b"{}")
    assert isinstance(refused(CoreCode.MALFORMED, sealed.verified), ParseError)


def test_seal_ids_and_keys_differ_between_sealings(
    pristine: SealedBench, twin: SealedBench
) -> None:
    one, other = pristine.manifest(), twin.manifest()
    assert one.model_id == other.model_id
    assert one.seal_id != other.seal_id
    assert not pristine.key.matches(twin.key)
    assert isinstance(one.seal_id, SealId)
    assert one.wrapped_key == WrappedKey("test-kek", "test", b"opaque")
