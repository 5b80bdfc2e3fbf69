"""A local store that others write to: links to elsewhere, names that are no text, other files."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from regalia.core.errors import CoreCode, LocalError
from regalia.store.collect import GRACE_S, collect
from regalia.store.local_objects import FOLDERS
from regalia.store.locate import open_versions
from regalia.store.repository import ObjectRepository

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """An empty store."""
    open_versions("dir:store", tmp_path, write=True).repository.close()
    return tmp_path / "store"


def collected(store: Path) -> tuple[str, ...]:
    with open_versions(f"dir:{store}", store).repository as repository:
        assert isinstance(repository, ObjectRepository)
        done = collect(repository, grace_s=GRACE_S, remove=True)
    return (*done.blobs, *done.pushes, *done.uploads)


@pytest.mark.parametrize("name", FOLDERS)
@pytest.mark.parametrize("write", [True, False])
def test_a_part_that_is_a_link(name: str, write: bool, store: Path, tmp_path: Path) -> None:  # noqa: FBT001
    """Collecting would remove another store's blobs, of which this one knows no version."""
    elsewhere = tmp_path / "elsewhere"
    (store / name).rename(elsewhere)
    (store / name).symlink_to(elsewhere)
    with pytest.raises(LocalError) as caught:
        open_versions(f"dir:{store}", tmp_path, write=write)
    assert caught.value.code is CoreCode.NOT_A_DIRECTORY


@pytest.mark.parametrize("folder", ["uploads", "pushes", "blobs"])
@pytest.mark.parametrize("name", [b"thesis.tex", b"\xff\xfe", b"0123456789abcdef.old", b"ABCDEF"])
def test_collecting_leaves_what_has_another_name(folder: str, name: bytes, store: Path) -> None:
    path = os.path.join(os.fsencode(store / folder), name)  # noqa: PTH118 - no text has this name
    with open(path, "wb") as file:  # noqa: PTH123
        file.write(b"mine")
    os.utime(path, (1, 1))
    assert collected(store) == ()
    assert os.path.exists(path)  # noqa: PTH110


def test_an_upload_that_was_left_goes(store: Path) -> None:
    path = store / "uploads" / "0123456789abcdef"
    path.write_bytes(b"half")
    assert collected(store) == ()
    os.utime(path, (1, 1))
    assert collected(store) == ("uploads/0123456789abcdef",)
    assert not path.exists()
