"""Versions in stores and pieces in caches: the product agrees with every vector."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from make_store_vectors import FOLDER
from vector_files import fixed

from regalia.core.errors import IntegrityError, RegaliaError
from regalia.core.types import Digest
from regalia.store.cached import PREFIX, CachedBlobs
from regalia.store.image import parse_image, stored_name
from regalia.store.local_objects import LocalObjects
from regalia.store.names import StoreCode
from regalia.store.piece_cache import LEAST, PieceCache, piece_is_whole
from regalia.store.repository import ObjectRepository

if TYPE_CHECKING:
    from pathlib import Path

VERSIONS: dict[str, Any] = json.loads((FOLDER / "versions.json").read_text(encoding="utf-8"))
TAGS: dict[str, Any] = json.loads((FOLDER / "tags.json").read_text(encoding="utf-8"))
CACHE: dict[str, Any] = json.loads((FOLDER / "cache.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", VERSIONS["accepted"])
def test_versions(name: str) -> None:
    image = parse_image(VERSIONS["accepted"][name].encode(), where="here")
    assert [[blob.name, str(blob.digest), blob.size] for blob in image.blobs] == VERSIONS["files"]


def test_the_encoding_and_its_name() -> None:
    data = VERSIONS["accepted"]["as_written"].encode()
    assert parse_image(data, where="here").encode() == data
    digest = Digest.of(data)
    assert str(digest) == VERSIONS["digest"]
    assert f"blobs/{stored_name(digest)}" == VERSIONS["key"]


@pytest.mark.parametrize("name", VERSIONS["refused"])
def test_versions_are_refused(name: str) -> None:
    code, text = VERSIONS["refused"][name]
    with pytest.raises(RegaliaError) as caught:
        parse_image(text.encode(), where="here")
    assert caught.value.code.name == code


def store_with_tag(tmp_path: Path, content: str) -> ObjectRepository:
    (tmp_path / "store/versions").mkdir(parents=True)
    (tmp_path / "store/versions/v1").write_bytes(content.encode())
    return ObjectRepository(LocalObjects(tmp_path / "store", "dir:store"))


@pytest.mark.parametrize("name", TAGS["accepted"])
def test_tags(name: str, tmp_path: Path) -> None:
    repository = store_with_tag(tmp_path, TAGS["accepted"][name])
    assert str(repository.resolve("v1")) == TAGS["digest"]


@pytest.mark.parametrize("name", TAGS["refused"])
def test_tags_are_refused(name: str, tmp_path: Path) -> None:
    repository = store_with_tag(tmp_path, TAGS["refused"][name])
    with pytest.raises(IntegrityError, match="versions/v1") as caught:
        repository.resolve("v1")
    assert caught.value.code is StoreCode.STORE_ANSWER_WRONG


def test_a_piece_in_a_cache(tmp_path: Path) -> None:
    data = fixed("prefix", PREFIX) + bytes.fromhex(CACHE["piece"])
    assert len(data) == CACHE["size"]

    class Origin:
        def size(self, _name: str) -> int:
            return len(data)

        def read_into(self, _name: str, offset: int, buffer: memoryview) -> None:
            buffer[:] = data[offset : offset + buffer.nbytes]

        def describe(self) -> str:
            return "here"

        def close(self) -> None:
            pass

    source = CachedBlobs(Origin(), PieceCache(tmp_path / "cache", LEAST), None)
    source.read_into("index.seal", PREFIX, memoryview(bytearray(100)))
    stored = tmp_path / "cache/pieces" / CACHE["key"] / "00000000"
    assert stored.read_bytes().hex() == CACHE["file"]
    assert piece_is_whole(stored.read_bytes())
