"""The document of a version: what it names, and what no reader takes for one."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regalia.core.errors import CoreCode, IntegrityError, ParseError
from regalia.core.types import Digest
from regalia.store.image import (
    ARTIFACT_TYPE,
    FILES_MAX,
    IMAGE_MAX,
    MANIFEST_MAX,
    Blob,
    Image,
    Label,
    parse_image,
)
from regalia.store.names import StoreCode

FILES = (
    Blob("manifest.json", Digest.of(b"m"), 1000),
    Blob("index.seal", Digest.of(b"i"), 70_000),
    Blob("shard-00000.seal", Digest.of(b"s"), 1 << 32),
)
IMAGE = Image(FILES, Label("model:00", "7"))


def changed(**members: object) -> bytes:
    return json.dumps({**json.loads(IMAGE.encode()), **members}).encode()


def layers(**first: object) -> bytes:
    listed: list[dict[str, Any]] = json.loads(IMAGE.encode())["layers"]
    listed[2] |= first
    return changed(layers=listed)


def titled(name: str) -> bytes:
    return layers(annotations={"org.opencontainers.image.title": name})


@given(
    st.lists(st.integers(0, 9999), max_size=5, unique=True),
    st.integers(1, 1 << 46),
    st.sampled_from(["", "model:ab"]),
)
def test_what_is_written_is_read(shards: list[int], size: int, model_id: str) -> None:
    more = tuple(Blob(f"shard-{n:05d}.seal", Digest.of(bytes([n % 251])), size) for n in shards)
    image = Image((*FILES[:2], *more), Label(model_id))
    assert parse_image(image.encode(), where="here") == image
    assert parse_image(image.encode(), where="here").encode() == image.encode()


def test_members_of_other_tools_are_skipped() -> None:
    data = changed(subject={"digest": "x"}, annotations={"a": "b"})
    assert parse_image(data, where="here") == Image(FILES)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        b'{"layers":' + b"[" * 5000,
        layers(digest="sha256:" + "0" * 63),
        layers(digest="sha512:" + "0" * 64),
        layers(digest="sha256:" + "A" * 64),
        layers(size=0),
        layers(size=-1),
        layers(size=1.5),
        layers(size=(1 << 46) + 1),
        layers(mediaType="application/vnd.oci.image.layer.v1.tar"),
        layers(annotations={}),
        titled("../shard.seal"),
        titled("shard.seal\n"),
        titled("index.seal"),
        titled("manifest.json"),
        titled("sha256-" + "0" * 64),
        changed(layers=[]),
        changed(layers=json.loads(IMAGE.encode())["layers"][1:]),
    ],
)
def test_malformed(data: bytes) -> None:
    with pytest.raises(ParseError) as caught:
        parse_image(data, where="here")
    assert caught.value.code is CoreCode.MALFORMED


def test_a_manifest_larger_than_any() -> None:
    listed = json.loads(IMAGE.encode())["layers"]
    listed[0]["size"] = MANIFEST_MAX + 1
    with pytest.raises(ParseError):
        parse_image(changed(layers=listed), where="here")


@pytest.mark.parametrize("data", [b" " * (IMAGE_MAX + 1), changed(layers=[{}] * 2)])
def test_too_much_is_not_decoded(data: bytes) -> None:
    with pytest.raises(ParseError) as caught:
        parse_image(data, where="here")
    assert caught.value.code is (
        CoreCode.TOO_LARGE if len(data) > IMAGE_MAX else CoreCode.MALFORMED
    )


def test_too_many_files() -> None:
    layer = {"mediaType": "a", "digest": "b", "size": 1}
    with pytest.raises(ParseError) as caught:
        parse_image(changed(layers=[layer] * (FILES_MAX + 1)), where="here")
    assert caught.value.code is CoreCode.TOO_LARGE


@pytest.mark.parametrize(
    "members",
    [
        {"artifactType": "application/vnd.cncf.model.manifest.v1+json"},
        {"artifactType": ""},
        {"schemaVersion": 1},
        {"mediaType": "application/vnd.oci.image.index.v1+json"},
    ],
)
def test_another_kind_of_artifact(members: dict[str, object]) -> None:
    with pytest.raises(IntegrityError) as caught:
        parse_image(changed(**members), where="here")
    assert caught.value.code is StoreCode.NOT_A_SEALED_MODEL
    assert ARTIFACT_TYPE in caught.value.what
