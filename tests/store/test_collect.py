"""What is collected from a store, and what never is: beside pushes, and of what cannot be read."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from regalia.core.errors import IntegrityError, ParseError, RegaliaError, UnavailableError
from regalia.core.types import Digest
from regalia.seal.progress import no_progress
from regalia.store.collect import GRACE_LEAST_S, GRACE_S, Collected, collect
from regalia.store.image import Image, Label, stored_name
from regalia.store.local import LocalBlobs
from regalia.store.locate import open_versions
from regalia.store.push import push
from regalia.store.repository import REUSE_S, ObjectRepository
from tests.store.owned import sealed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.store.owned import Sent

OLD = GRACE_S + 60


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> Sent:
    return sealed(tmp_path_factory.mktemp("owned"))


@contextmanager
def opened(tmp_path: Path) -> Iterator[ObjectRepository]:
    with open_versions("dir:store", tmp_path, write=True).repository as repository:
        assert isinstance(repository, ObjectRepository)
        yield repository


@pytest.fixture
def repository(sent: Sent, tmp_path: Path) -> Iterator[ObjectRepository]:
    """A store whose one version is old."""
    with opened(tmp_path) as repository:
        with LocalBlobs(sent.folder) as source:
            push(source, sent.image, repository, "v1", replace=False, progress=no_progress)
        age_all(tmp_path)
        yield repository


def age_all(tmp_path: Path, seconds: float = OLD) -> None:
    for path in (tmp_path / "store").rglob("*"):
        age(path, seconds)


def age(path: Path, seconds: float = OLD) -> None:
    then = path.stat().st_mtime - seconds
    os.utime(path, (then, then))


def stray(tmp_path: Path, text: bytes = b"stray", *, old: bool = True) -> Path:
    path = tmp_path / "store/blobs" / stored_name(Digest.of(text))
    path.write_bytes(text)
    if old:
        age(path)
    return path


def names(tmp_path: Path) -> set[str]:
    return {path.name for path in (tmp_path / "store/blobs").iterdir()}


def run(repository: ObjectRepository, *, remove: bool = True) -> Collected:
    return collect(repository, grace_s=GRACE_S, remove=remove)


def test_what_a_version_holds_stays(repository: ObjectRepository, tmp_path: Path) -> None:
    before = names(tmp_path)
    assert run(repository) == Collected((), 0, 0, (), ())
    assert names(tmp_path) == before


def test_nothing_goes_unless_asked(repository: ObjectRepository, tmp_path: Path) -> None:
    path = stray(tmp_path)
    done = run(repository, remove=False)
    assert done.blobs == (f"blobs/{path.name}",)
    assert done.blob_bytes == 5
    assert path.exists()
    assert run(repository).blobs == done.blobs
    assert not path.exists()


def test_the_young_stay(repository: ObjectRepository, tmp_path: Path) -> None:
    path = stray(tmp_path, old=False)
    assert run(repository).kept_young == 1
    assert path.exists()


def test_other_peoples_files_stay(repository: ObjectRepository, tmp_path: Path) -> None:
    path = tmp_path / "store/blobs/notes.txt"
    path.write_bytes(b"mine")
    age(path)
    assert run(repository).blobs == ()
    assert path.exists()


def test_empty_folders_that_a_copy_left_out(repository: ObjectRepository, tmp_path: Path) -> None:
    for name in ("pushes", "uploads"):
        (tmp_path / "store" / name).rmdir()
    path = stray(tmp_path)
    assert run(repository).blobs == (f"blobs/{path.name}",)


def test_a_version_that_was_replaced_goes(
    repository: ObjectRepository, sent: Sent, tmp_path: Path
) -> None:
    old = stored_name(Digest.of(sent.image.encode()))
    image = Image(sent.image.blobs, Label("new"))
    with LocalBlobs(sent.folder) as source:
        push(source, image, repository, "v1", replace=True, progress=no_progress)
    age_all(tmp_path)
    assert run(repository).blobs == (f"blobs/{old}",)
    repository.load("v1")


def test_all_of_a_version_that_was_removed_goes(
    repository: ObjectRepository, tmp_path: Path
) -> None:
    (tmp_path / "store/versions/v1").unlink()
    run(repository)
    assert names(tmp_path) == set()


@pytest.mark.parametrize("damage", ["pointer", "missing", "exchanged", "malformed"])
def test_a_version_that_cannot_be_read_stops_everything(
    damage: str, repository: ObjectRepository, sent: Sent, tmp_path: Path
) -> None:
    stray(tmp_path)
    document = tmp_path / "store/blobs" / stored_name(Digest.of(sent.image.encode()))
    if damage == "pointer":
        (tmp_path / "store/versions/v1").write_text("nothing")
    elif damage == "missing":
        document.unlink()
    elif damage == "exchanged":
        document.write_bytes(b"{}")
    else:
        other = stray(tmp_path, b"{}")
        (tmp_path / "store/versions/v1").write_text(f"{Digest.of(b'{}')}\n")
        assert other.exists()
    before = names(tmp_path)
    with pytest.raises((IntegrityError, ParseError, UnavailableError)):
        run(repository)
    assert names(tmp_path) == before


def test_what_a_push_holds_stays(repository: ObjectRepository, sent: Sent, tmp_path: Path) -> None:
    """Its blobs may be old, as another version had brought them."""
    (tmp_path / "store/versions/v1").unlink()
    with repository.pushing(sent.image.encode()):
        assert run(repository).blobs == ()
    before = names(tmp_path)
    assert run(repository, remove=False).blobs != ()
    assert names(tmp_path) == before


def test_a_push_that_begins_in_the_middle(
    repository: ObjectRepository, sent: Sent, tmp_path: Path
) -> None:
    (tmp_path / "store/versions/v1").unlink()
    ticks = iter([0.0, 10.0, 20.0, *[30.0] * 1000])
    begun: list[object] = []
    delete = repository.objects.delete

    def begins(key: str) -> None:
        delete(key)
        if not begun:
            context = repository.pushing(sent.image.encode())
            context.__enter__()
            begun.append(context)

    repository.objects.delete = begins  # type: ignore[method-assign]
    done = collect(repository, grace_s=GRACE_S, remove=True, clock=lambda: next(ticks))
    assert len(done.blobs) == 1  # what went before the push had begun
    assert len(names(tmp_path)) == len(sent.image.blobs)


def test_a_blob_that_is_sent_again_in_the_middle(
    repository: ObjectRepository, sent: Sent, tmp_path: Path
) -> None:
    (tmp_path / "store/versions/v1").unlink()
    young = tmp_path / "store/blobs" / max(blob.stored for blob in sent.image.blobs)
    entries = repository.objects.entries

    def listed(folder: str) -> Iterator[object]:
        found = list(entries(folder))
        if folder == "blobs":
            os.utime(young)
        return iter(found)

    repository.objects.entries = listed  # type: ignore[method-assign,assignment]
    run(repository)
    assert young.exists()
    assert young.name in names(tmp_path)


def test_a_blob_that_somebody_else_removes(repository: ObjectRepository, tmp_path: Path) -> None:
    path = stray(tmp_path)
    size = repository.objects.size

    def gone(key: str) -> object:
        path.unlink(missing_ok=True)
        return size(key)

    repository.objects.size = gone  # type: ignore[method-assign,assignment]
    assert run(repository).blobs == ()


def test_what_a_killed_push_left_is_held_for_a_while(
    repository: ObjectRepository, sent: Sent, tmp_path: Path
) -> None:
    (tmp_path / "store/versions/v1").unlink()
    context = repository.pushing(sent.image.encode())
    context.__enter__()
    assert run(repository).pushes == ()
    age_all(tmp_path / ".")
    done = run(repository)
    assert done.pushes == (Digest.of(sent.image.encode()).raw.hex(),)
    assert done.blobs != ()
    assert list((tmp_path / "store/pushes").iterdir()) == []


def test_a_push_that_cannot_be_read_stops_everything(
    repository: ObjectRepository, tmp_path: Path
) -> None:
    path = stray(tmp_path)
    (tmp_path / "store/pushes/x").write_bytes(b"{}")
    with pytest.raises(RegaliaError):
        run(repository)
    assert path.exists()


def test_uploads_without_an_end_go(repository: ObjectRepository, tmp_path: Path) -> None:
    uploads = tmp_path / "store/uploads"
    old, young = uploads / "00000000000000aa", uploads / "00000000000000bb"
    old.write_bytes(b"x")
    age(old)
    young.write_bytes(b"x")
    assert run(repository).uploads == ("uploads/00000000000000aa",)
    assert young.exists()


def test_the_grace_is_longer_than_a_push_counts_on_blobs() -> None:
    assert GRACE_LEAST_S >= REUSE_S + 3600
    assert GRACE_S > GRACE_LEAST_S
