"""Blobs that are sent to a registry: whole, in chunks, and never to somebody else."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import httpx
import pytest

from regalia.core.errors import IntegrityError, UnavailableError
from regalia.core.types import Digest
from regalia.store.content import Content
from regalia.store.image import Blob
from regalia.store.names import StoreCode
from regalia.store.oci_uploads import CHUNK
from tests.store.registry_double import NAME, SHARD, RegistryDouble, sha256

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def no_login(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.delenv("REGISTRY_AUTH_FILE", raising=False)
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)


@pytest.fixture
def registry() -> RegistryDouble:
    return RegistryDouble.with_model()


def content(data: bytes, name: str = NAME) -> Content:
    class Source:
        def read_into(self, _name: str, offset: int, buffer: memoryview) -> None:
            buffer[:] = data[offset : offset + len(buffer)]

        def describe(self) -> str:
            return "here"

        def size(self, _name: str) -> int:
            return len(data)

    return Content(Source(), Blob(name, Digest.of(data), len(data)), lambda _count: None)


def test_a_small_blob_is_sent_at_once(registry: RegistryDouble) -> None:
    with registry.repository() as repository:
        repository.put(content(b"small"))
    assert registry.blobs[sha256(b"small")] == b"small"
    assert [request.method for request in registry.requests] == ["POST", "PUT"]


@pytest.mark.parametrize(("lost", "chunks"), [("request", 3), ("answer", 2)])
def test_a_large_blob_is_sent_in_chunks_that_may_fail(
    lost: str, chunks: int, registry: RegistryDouble
) -> None:
    data = bytes(CHUNK) + b"end"

    def fails(request: httpx.Request) -> httpx.Response:
        if lost == "answer":
            registry.honest(request)
        raise httpx.ReadError("reset")

    registry.instead["uploads/u0"] = [fails, registry.honest]
    with registry.repository() as repository:
        repository.put(content(data))
    assert registry.blobs[sha256(data)] == data
    methods = [request.method for request in registry.requests]
    assert methods.count("PATCH") == chunks


def test_a_registry_that_counts_other_bytes(registry: RegistryDouble) -> None:
    def other(request: httpx.Request) -> httpx.Response | None:
        return httpx.Response(416) if request.method == "PATCH" else None

    registry.instead["uploads/u0"] = [other]
    with registry.repository() as repository, pytest.raises(UnavailableError) as caught:
        repository.put(content(bytes(CHUNK + 1)))
    assert caught.value.code is StoreCode.STORE_FAILED


@pytest.mark.parametrize(
    "location", ["https://thief.example/u", "http://r.example/u", "https://r.example:1/u"]
)
def test_an_upload_is_not_sent_elsewhere(location: str, registry: RegistryDouble) -> None:
    registry.instead["uploads/"] = [httpx.Response(202, headers={"location": location})]
    with registry.repository() as repository, pytest.raises(IntegrityError) as caught:
        repository.put(content(b"small"))
    assert caught.value.code is StoreCode.STORE_ANSWER_WRONG
    assert len(registry.requests) == 1


def test_a_registry_says_whether_it_has_a_blob(registry: RegistryDouble) -> None:
    with registry.repository() as repository:
        blob = Blob(NAME, Digest.of(SHARD), len(SHARD))
        assert repository.has(blob)
        assert not repository.has(replace(blob, size=1))
        assert not repository.has(replace(blob, digest=Digest.of(b"absent")))
