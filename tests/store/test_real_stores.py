"""Pushes, listings and pulls through real servers: docker-registry and SeaweedFS."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from regalia.core.errors import IntegrityError, UnavailableError
from regalia.core.types import Digest
from regalia.seal.load import load_model
from regalia.seal.progress import no_progress
from regalia.store import oci_uploads, s3_uploads
from regalia.store.collect import GRACE_S, collect
from regalia.store.content import Content
from regalia.store.image import Blob, Image, Label
from regalia.store.local import LocalBlobs
from regalia.store.locate import open_store, open_versions
from regalia.store.names import StoreCode
from regalia.store.pull import pull
from regalia.store.push import push
from regalia.store.repository import ObjectRepository
from regalia_testing.sealed import KeptMemory, pattern
from tests.store import registry, seaweedfs
from tests.store.owned import sealed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regalia.store.push import Pushed
    from tests.store.owned import Sent
    from tests.store.registry import Registry
    from tests.store.seaweedfs import Seaweed

pytestmark = pytest.mark.slow
SIZE = 3_000_000
# bcrypt of the password hunter2.
HTPASSWD = "ann:$2b$04$VRHsnQIa3vKhb.B2AN82uurVRhjopiLGWbMNG4dMGAUlRpKj/0lsO\n"


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> Sent:
    return sealed(tmp_path_factory.mktemp("owned"), SIZE)


@pytest.fixture(scope="module")
def docker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with registry.running(tmp_path_factory.mktemp("registry")) as started:
        yield started


@pytest.fixture(scope="module")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seaweed]:
    with seaweedfs.running(tmp_path_factory.mktemp("seaweedfs")) as started:
        yield started


@pytest.fixture(params=["registry", "s3"])
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of an empty store, without a version."""
    name = request.node.name.lower().replace("[", "-").replace("]", "").replace("_", "-")
    if request.param == "registry":
        return request.getfixturevalue("docker").address(f"acme/{name}")
    started = request.getfixturevalue("seaweed")
    request.getfixturevalue("no_credentials")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", started.endpoint)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", seaweedfs.OWNER[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", seaweedfs.OWNER[1])
    return f"s3://{seaweedfs.BUCKET}/{name}"


def send(sent: Sent, place: str, tag: str = "v1", image: Image | None = None) -> Pushed:
    with (
        LocalBlobs(sent.folder) as source,
        open_versions(place, Path(), write=True).repository as repository,
    ):
        return push(
            source, image or sent.image, repository, tag, replace=False, progress=no_progress
        )


def loaded(sent: Sent, address: str) -> bytes:
    with open_store(address, Path()) as blobs:
        model = load_model(
            blobs,
            sent.owned.verified(),
            sent.owned.key,
            KeptMemory(),
            threads=4,
            progress=no_progress,
        )
    return bytes(model.view("a.bin"))


def test_pushed_listed_loaded_and_pulled(sent: Sent, place: str, tmp_path: Path) -> None:
    done = send(sent, place)
    assert done.kept == 0
    assert send(sent, place, "v2").sent == 0
    with open_versions(place, Path()).repository as repository:
        assert repository.tags() == ["v1", "v2"]
        assert repository.load("v1") == (done.digest, sent.image)
    assert loaded(sent, f"{place}:v1") == pattern(SIZE)
    assert loaded(sent, f"{place}@{done.digest}") == pattern(SIZE)
    with open_store(f"{place}:v1", Path()) as blobs:
        pull(blobs, sent.blobs, sent.manifest, tmp_path / "out", threads=4, progress=no_progress)
    assert sent.same(tmp_path / "out")


def test_in_parts(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shard of three parts, the second of which an earlier push had not sent."""
    for module in (oci_uploads, s3_uploads):
        monkeypatch.setattr(module, "CHUNK" if module is oci_uploads else "PART", 5 << 20)
    monkeypatch.setattr("regalia.store.s3_objects.PART", 5 << 20)
    data = pattern((12 << 20) + 7)
    (tmp_path / "shard-00000.seal").write_bytes(data)
    blob = Blob("shard-00000.seal", Digest.of(data), len(data))
    counted: list[int] = []
    named = open_versions(place, Path(), write=True)
    with LocalBlobs(tmp_path) as source, named.repository as repository:
        if isinstance(repository, ObjectRepository):
            with pytest.raises(KeyboardInterrupt):
                repository.put(Content(source, blob, interrupted))
        repository.put(Content(source, blob, counted.append))
        assert repository.has(blob)
        if isinstance(repository, ObjectRepository):
            assert list(repository.objects.abandoned(repository.objects.now() + 3600)) == []
    assert sum(counted) == len(data)


def interrupted(_count: int) -> None:
    """Ends an upload after its first part."""
    raise KeyboardInterrupt


def test_names_are_kept_apart(sent: Sent, place: str) -> None:
    send(sent, place)
    with pytest.raises(UnavailableError) as caught:
        send(sent, place, image=Image(sent.image.blobs, Label("other")))
    assert caught.value.code is StoreCode.VERSION_EXISTS
    with pytest.raises(UnavailableError) as caught:
        open_store(f"{place}:absent", Path())
    assert caught.value.code is StoreCode.VERSION_MISSING


def test_s3_keeps_its_conditions(
    seaweed: Seaweed, sent: Sent, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    request.getfixturevalue("no_credentials")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", seaweed.endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", seaweedfs.OWNER[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", seaweedfs.OWNER[1])
    with open_versions("s3://models/conditions", Path(), write=True).repository as repository:
        assert isinstance(repository, ObjectRepository)
        objects = repository.objects
        assert objects.put("versions/v1", b"one", over="")
        assert not objects.put("versions/v1", b"two", over="")
        found = objects.get("versions/v1", 100)
        assert found is not None
        assert objects.put("versions/v1", b"two", over=found.state)
        assert not objects.put("versions/v1", b"three", over=found.state)
        assert abs(objects.now() - time.time()) < 60
        entry = objects.size("versions/v1")
        assert entry is not None
        assert (entry.size, [each.key for each in objects.entries("versions")]) == (
            3,
            ["versions/v1"],
        )
        objects.delete("versions/v1")
        assert objects.size("versions/v1") is None
        send(sent, "s3://models/conditions")
        assert collect(repository, grace_s=GRACE_S, remove=True).blobs == ()
        assert collect(repository, grace_s=-60, remove=False).blobs == ()


def login(folder: Path, host: str, who: bytes) -> None:
    entry = {"auth": base64.b64encode(who).decode()}
    (folder / "config.json").write_text(json.dumps({"auths": {host: entry}}))


def test_a_registry_with_passwords(
    sent: Sent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.delenv("REGISTRY_AUTH_FILE", raising=False)
    with registry.running(tmp_path / "registry", htpasswd=HTPASSWD) as started:
        place = started.address("acme/model")
        with pytest.raises(UnavailableError) as caught:
            send(sent, place)
        assert caught.value.code is StoreCode.STORE_ACCESS_REFUSED
        login(tmp_path, started.host, b"ann:hunter2")
        send(sent, place)
        assert loaded(sent, f"{place}:v1") == pattern(SIZE)
        wrong = base64.b64encode(b"ann:hunter3").decode()
        (tmp_path / "config.json").write_text(
            json.dumps({"auths": {started.host: {"auth": wrong}}})
        )
        with pytest.raises(UnavailableError) as caught:
            open_store(f"{place}:v1", Path())
        assert caught.value.code is StoreCode.STORE_ACCESS_REFUSED


def test_a_registry_whose_disk_lies(sent: Sent, docker: Registry) -> None:
    """A registry compares digests when a blob comes, and not when it goes."""
    place = docker.address("acme/rotten")
    send(sent, place)
    blob = max(sent.blobs, key=lambda each: each.size)
    digits = blob.digest.raw.hex()
    data = docker.root / f"docker/registry/v2/blobs/sha256/{digits[:2]}/{digits}/data"
    content = bytearray(data.read_bytes())
    content[5000] ^= 1
    try:
        data.write_bytes(content)
        with pytest.raises(IntegrityError):
            loaded(sent, f"{place}:v1")
        data.write_bytes(content[:-1])
        with open_store(f"{place}:v1", Path()) as blobs, pytest.raises(IntegrityError) as caught:
            blobs.size(blob.name)
        assert caught.value.code is StoreCode.STORE_ANSWER_WRONG
    finally:
        content[5000] ^= 1
        data.write_bytes(content)


def test_what_a_registry_shows_to_others(sent: Sent, docker: Registry) -> None:
    """The artifact type and titles are what other tools for registries go by."""
    send(sent, docker.address("acme/shown"))
    shown = httpx.get(
        f"http://{docker.host}/v2/acme/shown/manifests/v1",
        headers={"accept": "application/vnd.oci.image.manifest.v1+json"},
        trust_env=False,
    ).json()
    assert shown["artifactType"] == "application/vnd.regalia.sealed-model.image.v1+json"
    titles = [layer["annotations"]["org.opencontainers.image.title"] for layer in shown["layers"]]
    assert set(titles) == sent.names()
