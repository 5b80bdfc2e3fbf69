"""Codecs and arithmetic of the sealed model."""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from regalia.core.errors import CoreCode, ParseError
from regalia.core.types import Digest, ModelId
from regalia.seal.format.index import Entry, Index, model_id, parse_index
from regalia.seal.format.manifest import Manifest, SealedFile, parse_manifest
from regalia.seal.format.paths import check_collisions, check_path
from regalia.seal.format.prefix import Kind, Prefix, parse_prefix
from regalia.seal.format.sealed import (
    INDEX_PADDING,
    PREFIX_SIZE,
    STRIDES,
    Geometry,
    SealedCode,
    SealId,
    WrappedKey,
    chunk_at,
    chunk_count,
    plaintext_size,
    shard_name,
    stored_size,
    wrap_context,
)

if TYPE_CHECKING:
    from random import Random

digests = st.binary(min_size=32, max_size=32)
prefixes = st.builds(
    Prefix,
    kind=st.sampled_from(Kind),
    shard_index=st.integers(0, 9_999),
    shard_count=st.just(10_000),
    stride=st.sampled_from(STRIDES),
    plaintext_size=st.integers(0, 65_520 * 65_536),
    seal_id=digests.map(SealId),
    salt=digests,
    commitment=digests,
)
names = st.text("abAB.-_ é日", min_size=1, max_size=8).filter(lambda s: s not in {".", ".."})
paths = st.lists(names, min_size=1, max_size=3).map("/".join)


@given(prefixes)
@settings(deadline=None)
def test_prefix_round_trip(prefix: Prefix) -> None:
    data = prefix.encode()
    assert len(data) == PREFIX_SIZE
    assert parse_prefix(data, what="test") == prefix
    assert prefix.committed() == data[:128]
    changed = replace(prefix, commitment=bytes(32))
    assert changed.committed() == prefix.committed()


@given(prefixes, st.integers(0, PREFIX_SIZE * 8 - 1))
@settings(deadline=None)
def test_prefix_has_one_encoding(prefix: Prefix, bit: int) -> None:
    """Whatever parses encodes to the same bytes again, bit flips included."""
    data = bytearray(prefix.encode())
    data[bit // 8] ^= 1 << bit % 8
    try:
        parsed = parse_prefix(bytes(data), what="test")
    except ParseError:
        return
    assert parsed.encode() == bytes(data)
    assert parsed != prefix


@pytest.mark.parametrize("size", [0, 8, PREFIX_SIZE - 1, PREFIX_SIZE + 1])
def test_prefix_size(size: int) -> None:
    prefix = Prefix(Kind.DATA, 0, 1, STRIDES[0], 0, SealId(bytes(32)), bytes(32), bytes(32))
    with pytest.raises(ParseError) as caught:
        parse_prefix(prefix.encode().ljust(size, b"\0")[:size], what="test")
    assert caught.value.code is SealedCode.NOT_A_SEALED_FILE


@pytest.mark.parametrize(
    ("numbers", "code"),  # shard index, shard count, stride, plaintext size
    [
        ((0, 0, STRIDES[0], 0), CoreCode.MALFORMED),
        ((0, 10_001, STRIDES[0], 0), CoreCode.TOO_LARGE),
        ((1, 1, STRIDES[0], 0), CoreCode.MALFORMED),
        ((0, 1, 4096, 0), CoreCode.MALFORMED),
        ((0, 1, STRIDES[0], 65_520 * 65_536 + 1), CoreCode.TOO_LARGE),
        ((0, 1, STRIDES[0], (1 << 64) - 1), CoreCode.TOO_LARGE),
    ],
)
def test_prefix_limits(numbers: tuple[int, int, int, int], code: CoreCode) -> None:
    rest = (SealId(bytes(32)), bytes(32), bytes(32))
    parse_prefix(Prefix(Kind.DATA, 9_999, 10_000, STRIDES[0], 0, *rest).encode(), what="test")
    with pytest.raises(ParseError) as caught:
        parse_prefix(Prefix(Kind.DATA, *numbers, *rest).encode(), what="test")
    assert caught.value.code is code


@given(
    stride=st.sampled_from(STRIDES),
    chunks=st.integers(1, 70_000),
    size=st.integers(0, 1 << 43),
)
@settings(deadline=None)
@example(STRIDES[0], 2, 0)
@example(STRIDES[0], 1, 65_520)
@example(STRIDES[0], 1, 65_521)
def test_geometry_covers_the_stream(stride: int, chunks: int, size: int) -> None:
    geometry = Geometry(stride, chunks, size)
    count = geometry.shard_count
    assume(count <= 20_000)
    assert [geometry.shard_start(0), geometry.shard_start(count - 1)] == [
        0,
        (count - 1) * chunks * (stride - 16),
    ]
    sizes = {geometry.shard_size(i) for i in range(count - 1)} or {geometry.shard_payload}
    assert sizes == {geometry.shard_payload}
    last = geometry.shard_size(count - 1)
    assert (count - 1) * geometry.shard_payload + last == size
    assert 0 <= last <= geometry.shard_payload
    assert last > 0 or size == 0


@given(stride=st.sampled_from(STRIDES), size=st.integers(0, 40 << 20))
@settings(deadline=None)
@example(STRIDES[0], 0)
@example(STRIDES[0], 1)
@example(STRIDES[0], 65_519)
@example(STRIDES[0], 65_520)
@example(STRIDES[0], 65_521)
def test_chunks_cover_the_file(stride: int, size: int) -> None:
    count = chunk_count(size, stride)
    chunks = [chunk_at(number, size, stride) for number in range(count)]
    assert sum(chunk.size for chunk in chunks) == size
    assert [chunk.last for chunk in chunks] == [False] * (count - 1) + [True]
    assert all(chunk.stored == stride for chunk in chunks[:-1])
    assert all((chunk.offset - PREFIX_SIZE) == chunk.number * stride for chunk in chunks)
    assert chunks[-1].offset + chunks[-1].stored == stored_size(size, stride)
    assert plaintext_size(stored_size(size, stride), stride) == size


@given(stride=st.sampled_from(STRIDES), stored=st.integers(-10, 10 << 20))
@settings(deadline=None)
@example(STRIDES[0], PREFIX_SIZE)
@example(STRIDES[0], PREFIX_SIZE + 15)
@example(STRIDES[0], PREFIX_SIZE + STRIDES[0] + 16)
def test_plaintext_size_is_exact(stride: int, stored: int) -> None:
    least = bisect_left(range(max(stored, 0)), stored, key=lambda size: stored_size(size, stride))
    exact = stored_size(least, stride) == stored
    assert plaintext_size(stored, stride) == (least if exact else None)


def index_from(files: dict[str, int]) -> Index:
    entries, end = [], 0
    for path in sorted(files, key=lambda path: path.encode()):
        offset = -(-end // 64) * 64
        end = offset + files[path]
        entries.append(Entry(path, offset, files[path], Digest.of(path.encode())))
    return Index(tuple(entries), end)


@given(st.dictionaries(paths, st.integers(0, 1 << 40), min_size=1, max_size=12))
@settings(deadline=None)
def test_index_round_trip(files: dict[str, int]) -> None:
    try:
        check_collisions(files)
    except ParseError:
        assume(False)  # noqa: FBT003
    index = index_from(files)
    data = index.encode()
    assert len(data) % INDEX_PADDING == 0
    assert parse_index(data) == index
    assert parse_index(data).encode() == data


@pytest.mark.parametrize(("gap", "accepted"), [(0, True), (63, True), (64, False), (-1, False)])
def test_index_gaps(gap: int, accepted: bool) -> None:  # noqa: FBT001 - a column of the table
    first, second = Entry("a", 0, 10, Digest.of(b"")), Entry("b", 10 + gap, 5, Digest.of(b""))
    data = Index((first, second), second.end).encode()
    if accepted:
        assert parse_index(data).entries == (first, second)
        return
    with pytest.raises(ParseError) as caught:
        parse_index(data)
    assert caught.value.code is CoreCode.MALFORMED


def test_index_size_hides_the_number_of_files() -> None:
    few, many = index_from({"a": 1}), index_from({f"file-{i}": i for i in range(300)})
    assert len(few.encode()) == len(many.encode()) == INDEX_PADDING


@given(st.dictionaries(paths, st.integers(0, 100), min_size=2, max_size=5), st.randoms())
@settings(deadline=None)
def test_model_id_binds_names_and_order(files: dict[str, int], random: Random) -> None:
    """Renaming, permuting, cutting differently or changing files changes the model id."""
    listed = [(path, size, Digest.of(path.encode())) for path, size in sorted(files.items())]
    want = model_id(listed)
    assert model_id(listed) == want
    others = [
        listed[::-1],
        listed[:-1],
        [*listed, listed[-1]],
        [(listed[0][0] + "x", *listed[0][1:]), *listed[1:]],
        [(listed[0][0], listed[0][1] + 1, listed[0][2]), *listed[1:]],
        [(*listed[0][:2], Digest.of(b"other")), *listed[1:]],
        [(listed[1][0], *listed[0][1:]), (listed[0][0], *listed[1][1:]), *listed[2:]],
    ]
    shuffled = random.sample(listed, len(listed))
    for other in (*others, *([shuffled] if shuffled != listed else [])):
        assert model_id(other) != want


def test_model_id_by_hand() -> None:
    """The definition, written out."""
    digest = hashlib.sha256(b"x").digest()
    data = b"regalia/model-id/v1"
    data += b"\0\0\0\3a/b" + b"\0\0\0\x08" + (1).to_bytes(8, "big") + b"\0\0\0\x20" + digest
    assert model_id([("a/b", 1, Digest(digest))]) == ModelId(hashlib.sha256(data).digest())


def test_wrap_context_by_hand() -> None:
    context = wrap_context(ModelId(b"m" * 32), 258, SealId(b"s" * 32))
    want = b"regalia/wrapped-model-key/v1"
    want += b"\0\0\0\x20" + b"m" * 32 + b"\0\0\0\x08\0\0\0\0\0\0\1\2" + b"\0\0\0\x20" + b"s" * 32
    assert context == want


files_of = st.builds(
    SealedFile,
    size=st.just(stored_size(INDEX_PADDING, STRIDES[1])),
    prefix_digest=digests.map(Digest),
    digest=digests.map(Digest),
)


@given(st.data())
@settings(max_examples=50, deadline=None)
def test_manifest_round_trip(data: st.DataObject) -> None:
    geometry = Geometry(STRIDES[1], 2, data.draw(st.integers(0, 10 << 20)))
    shards = tuple(
        replace(data.draw(files_of), size=stored_size(geometry.shard_size(number), geometry.stride))
        for number in range(geometry.shard_count)
    )
    printable = st.text(
        st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=20
    )
    manifest = Manifest(
        seal_id=SealId(data.draw(digests)),
        model_id=ModelId(data.draw(digests)),
        version=data.draw(st.integers(1, (1 << 53) - 1)),
        geometry=geometry,
        signer=data.draw(st.none() | st.binary(min_size=1, max_size=100)),
        wrapped_key=WrappedKey(
            data.draw(printable), data.draw(printable), data.draw(st.binary(min_size=1))
        ),
        index=data.draw(files_of),
        shards=shards,
    )
    payload = manifest.encode()
    assert parse_manifest(payload) == manifest
    assert parse_manifest(payload).encode() == payload
    assert manifest.stored_total() == manifest.index.size + geometry.stored_total()


@given(st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
def test_parsers_raise_parse_errors_only(data: bytes) -> None:
    for parse in (
        parse_manifest,
        parse_index,
        lambda d: parse_prefix(d, what="test"),
        lambda d: parse_prefix(d.ljust(PREFIX_SIZE, b"\0"), what="test"),
        lambda d: parse_index(len(d).to_bytes(8, "big") + d.ljust(INDEX_PADDING - 8, b"\0")),
    ):
        with pytest.raises(ParseError):
            parse(data)


@pytest.mark.parametrize(
    "path",
    ["a", "a/b/c", "…", "a b", "-", "..a", "a..", ".hidden", "日本/語.bin", "x" * 255, "CON", "~"],
)
def test_path_accepted(path: str) -> None:
    check_path(path)


@pytest.mark.parametrize(
    "path",
    [
        *("", "/", "/a", "a/", "a//b", ".", "..", "./a", "a/.", "a/..", "a/../b", "../a"),
        *("a\0", "a\n", "a\x1b[31m", "a\x7f", "a\x85", "a\\b", "..\\a", "a\u202eb", "a\u2066b"),
        *("a\u200f", "\udcff", "x" * 256, "é" * 128, "/".join("a" * 33), "/".join(["y" * 200] * 6)),
    ],
    ids=ascii,
)
def test_path_refused(path: str) -> None:
    with pytest.raises(ParseError) as caught:
        check_path(path)
    assert caught.value.code is SealedCode.PATH_REFUSED
    assert path.isascii() or path not in caught.value.what


@pytest.mark.parametrize(
    "pair",
    [
        ("caf\u00e9", "cafe\u0301"),  # NFC and NFD
        ("A", "a"),
        ("dir/x", "Dir/y"),
        ("a", "a/b"),
        ("a", "A/b"),
        ("\u00df", "ss"),
        ("\u212b", "\u00e5"),  # ANGSTROM SIGN
        ("x/caf\u00e9/1", "x/cafe\u0301/2"),
    ],
    ids=ascii,
)
def test_paths_collide(pair: tuple[str, str]) -> None:
    for order in (pair, pair[::-1]):
        with pytest.raises(ParseError) as caught:
            check_collisions(order)
        assert caught.value.code is SealedCode.PATHS_COLLIDE


def test_paths_do_not_collide() -> None:
    check_collisions(["a/b", "a/c", "ab", "a.b", "b/a", "b/b/b", "caf\u00e9"])


def test_shard_names() -> None:
    assert shard_name(0) == "shard-00000.seal"
    assert shard_name(9_999) == "shard-09999.seal"
