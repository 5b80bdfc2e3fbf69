"""A sealed model in a real S3 server, opened and loaded from there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from regalia.core.errors import IntegrityError, UnavailableError
from regalia.crypto.sign import SigningKey
from regalia.seal.check import verify_ciphertext
from regalia.seal.load import load_model
from regalia.seal.progress import no_progress
from regalia.store.locate import open_store
from regalia.store.names import StoreCode
from regalia_testing.sealed import KeptMemory, pattern, seal_testbed, write_model
from tests.store.seaweedfs import BUCKET, READER, running

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regalia.store.local import LocalBlobs
    from regalia.store.ranges import RangedBlobs
    from regalia_testing.sealed import OwnedModel
    from tests.store.seaweedfs import Seaweed

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("reader")]
SIZE = 3_000_000
PREFIX = "m/v=1.0/a(b)!*'/"  # every character that S3 calls safe and signers like to mistake


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seaweed]:
    with running(tmp_path_factory.mktemp("seaweedfs")) as started:
        yield started


@pytest.fixture
def reader(no_credentials: None, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ARG001
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", READER[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", READER[1])


@pytest.fixture(scope="module")
def owned(server: Seaweed, tmp_path_factory: pytest.TempPathFactory) -> OwnedModel:
    folder = tmp_path_factory.mktemp("owned")
    model = write_model(folder / "model", {"a.bin": pattern(SIZE), "b.json": b"{}"})
    sealed = seal_testbed(model, folder / "sealed", SigningKey.generate_ed25519())
    server.upload(sealed.folder, PREFIX)
    return sealed


def opened(server: Seaweed, prefix: str = PREFIX) -> LocalBlobs | RangedBlobs:
    return open_store(f"s3://{BUCKET}/{prefix}?endpoint={server.endpoint}", Path())


def test_a_model_is_checked_and_loaded(server: Seaweed, owned: OwnedModel) -> None:
    names = frozenset(path.name for path in owned.folder.iterdir())
    with opened(server) as blobs:
        for name in names:
            assert blobs.size(name) == (owned.folder / name).stat().st_size
        verify_ciphertext(blobs, owned.verified(), names=names, threads=4, progress=no_progress)
        loaded = load_model(
            blobs, owned.verified(), owned.key, KeptMemory(), threads=4, progress=no_progress
        )
    assert bytes(loaded.view("a.bin")) == pattern(SIZE)
    assert bytes(loaded.view("b.json")) == b"{}"


def test_the_endpoint_of_the_environment(
    server: Seaweed, owned: OwnedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", server.endpoint)
    with open_store(f"s3://{BUCKET}/{PREFIX}", Path()) as blobs:
        assert blobs.size("manifest.json") == owned.manifest_path.stat().st_size


def test_what_is_not_there(server: Seaweed) -> None:
    with opened(server, "m/absent") as blobs, pytest.raises(UnavailableError) as caught:
        blobs.size("manifest.json")
    assert caught.value.code is StoreCode.BLOB_MISSING
    assert "bucket models, key m/absent/manifest.json" in caught.value.what


def test_what_the_reader_may_not_read(server: Seaweed) -> None:
    server.owner().put_object(Bucket=BUCKET, Key="other/manifest.json", Body=b"private")
    with opened(server, "other") as blobs, pytest.raises(UnavailableError) as caught:
        blobs.size("manifest.json")
    assert caught.value.code is StoreCode.STORE_ACCESS_REFUSED
    assert "AccessDenied" in caught.value.what
    assert "credentials from env" in caught.value.what


@pytest.mark.parametrize(
    ("name", "code"),
    [("AWS_ACCESS_KEY_ID", "InvalidAccessKeyId"), ("AWS_SECRET_ACCESS_KEY", "Signature")],
)
def test_credentials_that_it_does_not_know(
    name: str, code: str, server: Seaweed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "wrong")
    with opened(server) as blobs, pytest.raises(UnavailableError) as caught:
        blobs.size("manifest.json")
    assert caught.value.code is StoreCode.STORE_ACCESS_REFUSED
    assert code in caught.value.what


def test_an_object_that_changes_in_the_middle(server: Seaweed) -> None:
    client = server.owner()
    client.put_object(Bucket=BUCKET, Key="m/changing/manifest.json", Body=b"a" * 100)
    with opened(server, "m/changing") as blobs:
        blobs.read_into("manifest.json", 0, memoryview(bytearray(50)))
        client.put_object(Bucket=BUCKET, Key="m/changing/manifest.json", Body=b"b" * 100)
        with pytest.raises(IntegrityError) as caught:
            blobs.read_into("manifest.json", 50, memoryview(bytearray(50)))
    assert caught.value.code is StoreCode.STORE_ANSWER_WRONG
