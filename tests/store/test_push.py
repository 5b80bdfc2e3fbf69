"""Pushes into a local store and a registry in memory: what is sent, what is kept, what is lost."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from regalia.cli.transfer import image_of
from regalia.core.errors import IntegrityError, LocalError, UnavailableError
from regalia.core.types import Digest
from regalia.seal.check import verify_ciphertext
from regalia.seal.progress import no_progress
from regalia.store.image import Image, Label, stored_name
from regalia.store.local import LocalBlobs
from regalia.store.locate import open_store, open_versions
from regalia.store.names import StoreCode
from regalia.store.push import push
from regalia.store.repository import REUSE_S, ObjectRepository
from tests.store.owned import Sent, sealed
from tests.store.registry_double import RegistryDouble

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from regalia.store.content import Content
    from regalia.store.push import Pushed
    from regalia.store.repository import Repository


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> Sent:
    return sealed(tmp_path_factory.mktemp("owned"))


@contextmanager
def local(tmp_path: Path) -> Iterator[ObjectRepository]:
    with open_versions("dir:store", tmp_path, write=True).repository as repository:
        assert isinstance(repository, ObjectRepository)
        yield repository


def send(
    sent: Sent, repository: Repository, tag: str = "v1", *, replace: bool = False,
    image: Image | None = None,
) -> Pushed:  # fmt: skip
    with LocalBlobs(sent.folder) as source:
        return push(
            source, image or sent.image, repository, tag, replace=replace, progress=no_progress
        )


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def age(path: Path, seconds: float) -> None:
    """Make a file older."""
    then = path.stat().st_mtime - seconds
    os.utime(path, (then, then))


def relabeled(sent: Sent) -> Image:
    return Image(sent.image.blobs, Label("another"))


def test_everything_is_sent_once(sent: Sent, tmp_path: Path) -> None:
    total = sum(blob.size for blob in sent.image.blobs)
    with local(tmp_path) as repository:
        first = send(sent, repository)
        assert (first.sent, first.sent_bytes, first.kept) == (len(sent.image.blobs), total, 0)
        again = send(sent, repository, "v2")
        assert (again.sent, again.kept, again.kept_bytes) == (0, len(sent.image.blobs), total)
        assert repository.tags() == ["v1", "v2"]
        assert repository.resolve("v1") == Digest.of(sent.image.encode()) == again.digest
    store = tmp_path / "store"
    assert files(store / "blobs") == {
        *(blob.stored for blob in sent.image.blobs),
        stored_name(first.digest),
    }
    assert files(store / "pushes") == files(store / "uploads") == set()
    with open_store("dir:store:v1", tmp_path) as blobs:
        names = frozenset(sent.names())
        manifest = sent.owned.verified()
        verify_ciphertext(blobs, manifest, names=names, threads=2, progress=no_progress)


def test_only_the_manifest_is_sent_of_a_new_version(sent: Sent, tmp_path: Path) -> None:
    copy = sent.owned.copy(tmp_path / "next")
    copy.resign(lambda manifest: replace(manifest, version=8))
    data = copy.manifest_path.read_bytes()
    image = image_of(data, copy.verified())
    with local(tmp_path) as repository:
        send(sent, repository)
        done = send(Sent(copy, image, sent.blobs, data, sent.signer), repository, "v2")
    assert (done.sent, done.sent_bytes) == (1, len(data))


def test_progress_reaches_its_end(sent: Sent, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []

    def note(done: int, total: int) -> None:
        seen.append((done, total))

    total = sum(blob.size for blob in sent.image.blobs)
    with local(tmp_path) as repository, LocalBlobs(sent.folder) as source:
        for _ in range(2):
            push(source, sent.image, repository, "v1", replace=False, progress=note)
            assert seen[-1] == (total, total)
    done = [count for count, _ in seen[: len(seen) // 2]]
    assert done == sorted(done)


@pytest.mark.parametrize("place", ["local", "registry"])
def test_a_name_that_is_taken(place: str, sent: Sent, tmp_path: Path) -> None:
    double = RegistryDouble()
    with local(tmp_path) as folder, double.repository() as registry:
        repository: Repository = folder if place == "local" else registry
        first = send(sent, repository)
        with pytest.raises(UnavailableError) as caught:
            send(sent, repository, image=relabeled(sent))
        assert caught.value.code is StoreCode.VERSION_EXISTS
        assert str(first.digest) in caught.value.what
        assert repository.resolve("v1") == first.digest
        second = send(sent, repository, image=relabeled(sent), replace=True)
        assert repository.resolve("v1") == second.digest
        assert send(sent, repository, image=relabeled(sent)).digest == second.digest


def test_a_name_is_refused_before_the_long_work(sent: Sent, tmp_path: Path) -> None:
    with local(tmp_path) as repository:
        send(sent, repository)
        before = files(tmp_path / "store/blobs")
        image = Image(sent.image.blobs[:2])
        with LocalBlobs(sent.folder) as source, pytest.raises(UnavailableError):
            push(source, image, repository, "v1", replace=False, progress=no_progress)
    assert files(tmp_path / "store/blobs") == before


def test_a_name_that_somebody_takes_in_the_middle(sent: Sent, tmp_path: Path) -> None:
    document = sent.image.encode()
    with local(tmp_path) as repository:
        send(sent, repository, "other")
        pointer = tmp_path / "store/versions/v1"
        get = repository.objects.get

        def taken_after(key: str, limit: int) -> object:
            found = get(key, limit)
            if key == "versions/v1" and found is None:
                pointer.write_text("sha256:" + "ab" * 32 + "\n")
            return found

        repository.objects.get = taken_after  # type: ignore[method-assign]
        with pytest.raises(UnavailableError) as caught:
            repository.publish("v1", document, replace=False)
    assert caught.value.code is StoreCode.VERSION_EXISTS
    assert "ab" * 32 in pointer.read_text()


@pytest.mark.parametrize("name", ["shard-00001.seal", "index.seal"])
@pytest.mark.parametrize("place", ["local", "registry"])
def test_a_file_that_is_not_what_was_signed(
    name: str, place: str, sent: Sent, tmp_path: Path
) -> None:
    damaged = sent.owned.copy(tmp_path / "damaged")
    damaged.patch(name, -1)
    spoiled = Sent(damaged, sent.image, sent.blobs, sent.manifest, sent.signer)
    double = RegistryDouble()
    with local(tmp_path) as folder, double.repository() as registry:
        repository: Repository = folder if place == "local" else registry
        with pytest.raises(IntegrityError) as caught:
            send(spoiled, repository)
        assert caught.value.code is StoreCode.BLOB_CHANGED
        assert name in caught.value.what
        assert repository.tags() == []
    blob = next(blob for blob in sent.image.blobs if blob.name == name)
    assert blob.stored not in files(tmp_path / "store/blobs")
    assert str(blob.digest) not in double.blobs
    assert files(tmp_path / "store/uploads") == set()


def test_a_file_that_is_too_short(sent: Sent, tmp_path: Path) -> None:
    damaged = sent.owned.copy(tmp_path / "damaged")
    os.truncate(damaged.folder / "shard-00000.seal", 5000)
    spoiled = Sent(damaged, sent.image, sent.blobs, sent.manifest, sent.signer)
    with local(tmp_path) as repository:
        with pytest.raises(LocalError):
            send(spoiled, repository)
        assert repository.tags() == []


@pytest.fixture
def one_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("regalia.store.push._FILES_AT_ONCE", 1)


@pytest.mark.usefixtures("one_at_once")
def test_a_push_that_ends_early_is_gone_on_with(sent: Sent, tmp_path: Path) -> None:
    class Ended(BaseException):
        pass

    with local(tmp_path) as repository:
        put, count = repository.objects.put_content, 0

        def ends(key: str, content: Content) -> None:
            nonlocal count
            count += 1
            if count >= 3:
                raise Ended
            put(key, content)

        repository.objects.put_content = ends  # type: ignore[method-assign]
        with pytest.raises(Ended):
            send(sent, repository)
        assert repository.tags() == []
        assert len(files(tmp_path / "store/pushes")) == 1
        repository.objects.put_content = put  # type: ignore[method-assign]
        done = send(sent, repository)
    assert done.kept == 2
    assert files(tmp_path / "store/pushes") == set()


def test_a_file_that_fails_stops_the_others(sent: Sent, tmp_path: Path) -> None:
    """They end at their next part, and the first failure is what is said."""
    others = threading.Barrier(2)
    with local(tmp_path) as repository:

        def fails(_key: str, content: Content) -> None:
            if content.blob.name == "index.seal":
                others.wait(10)
                raise UnavailableError(StoreCode.STORE_FAILED, "the index")
            if content.blob.name == "shard-00000.seal":
                others.wait(10)
                while True:  # an upload without end
                    for _ in content.parts(4096):
                        pass

        repository.objects.put_content = fails  # type: ignore[method-assign]
        with pytest.raises(UnavailableError) as caught:
            send(sent, repository)
    assert caught.value.what == "the index"


def test_two_pushes_at_once(sent: Sent, tmp_path: Path) -> None:
    barrier = threading.Barrier(2)

    def one(tag: str) -> Pushed:
        with local(tmp_path) as repository:
            barrier.wait(10)
            return send(sent, repository, tag)

    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(one, ["a", "b"]))
    assert results[0].digest == results[1].digest
    for tag in ("a", "b"):
        with open_store(f"dir:store:{tag}", tmp_path) as blobs:
            manifest = sent.owned.verified()
            names = frozenset(sent.names())
            verify_ciphertext(blobs, manifest, names=names, threads=2, progress=no_progress)


def test_two_models_at_once_under_one_name(sent: Sent, tmp_path: Path) -> None:
    barrier = threading.Barrier(2)

    def one(image: Image) -> object:
        with local(tmp_path) as repository:
            barrier.wait(10)
            try:
                return send(sent, repository, image=image).digest
            except UnavailableError as exc:
                return exc.code

    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(one, [sent.image, relabeled(sent)]))
    (digest,) = [each for each in results if isinstance(each, Digest)]
    assert StoreCode.VERSION_EXISTS in results
    with local(tmp_path) as repository:
        assert repository.resolve("v1") == digest


def test_an_old_blob_that_nothing_holds_is_sent_again(sent: Sent, tmp_path: Path) -> None:
    """It may be collected at any moment; one that a version holds may not."""
    with local(tmp_path) as repository:
        send(sent, repository)
        for path in (tmp_path / "store/blobs").iterdir():
            age(path, REUSE_S + 60)
        assert send(sent, repository, "v2").sent == 0
    (tmp_path / "store/versions/v1").unlink()
    (tmp_path / "store/versions/v2").unlink()
    with local(tmp_path) as repository:
        assert send(sent, repository).kept == 0


@pytest.mark.usefixtures("one_at_once")
def test_a_blob_that_goes_in_the_middle_is_sent_again(sent: Sent, tmp_path: Path) -> None:
    lost = tmp_path / "store/blobs" / sent.image.blobs[2].stored
    with local(tmp_path) as repository:
        put, count = repository.objects.put_content, 0

        def loses(key: str, content: Content) -> None:
            nonlocal count
            count += 1
            put(key, content)
            if count == len(sent.image.blobs):
                lost.unlink()

        repository.objects.put_content = loses  # type: ignore[method-assign]
        send(sent, repository)
    assert lost.exists()


def test_a_store_that_keeps_nothing(sent: Sent, tmp_path: Path) -> None:
    with local(tmp_path) as repository:
        repository.objects.put_content = lambda *_: None  # type: ignore[method-assign]
        with pytest.raises(UnavailableError) as caught:
            send(sent, repository)
        assert caught.value.code is StoreCode.STORE_FAILED
        assert repository.tags() == []


@pytest.mark.parametrize(
    "text", ["", "sha256:00", "v2\n", "sha256:" + "0" * 64 + "\n\n", "x" * 200]
)
def test_a_name_that_holds_no_digest(text: str, sent: Sent, tmp_path: Path) -> None:
    with local(tmp_path) as repository:
        send(sent, repository)
        (tmp_path / "store/versions/v1").write_text(text)
        with pytest.raises((IntegrityError, LocalError)):
            repository.load("v1")


def test_a_document_that_was_exchanged(sent: Sent, tmp_path: Path) -> None:
    with local(tmp_path) as repository:
        digest = send(sent, repository).digest
        (tmp_path / "store/blobs" / stored_name(digest)).write_bytes(relabeled(sent).encode())
        with pytest.raises(IntegrityError) as caught:
            repository.load("v1")
    assert caught.value.code is StoreCode.STORE_ANSWER_WRONG


def test_a_blob_of_another_size_is_refused_by_readers(sent: Sent, tmp_path: Path) -> None:
    with local(tmp_path) as repository:
        send(sent, repository)
    blob = sent.image.blobs[2]
    with (tmp_path / "store/blobs" / blob.stored).open("ab") as file:
        file.write(b"x")
    with open_store("dir:store:v1", tmp_path) as blobs, pytest.raises(IntegrityError) as caught:
        blobs.size(blob.name)
    assert caught.value.code is StoreCode.STORE_ANSWER_WRONG
