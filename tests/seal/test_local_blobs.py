"""A directory as a source of ciphertext."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from regalia.core.errors import CoreCode, LocalError
from regalia.store.local import LocalBlobs

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "blob").write_bytes(bytes(range(256)) * 40)
    return tmp_path


def test_reads_ranges_from_several_threads(folder: Path) -> None:
    data = (folder / "blob").read_bytes()
    with LocalBlobs(folder) as blobs:
        assert blobs.size("blob") == len(data)
        assert blobs.names() == {"blob"}
        assert blobs.describe() == str(folder)

        def read(start: int) -> bool:
            buffer = bytearray(100)
            blobs.read_into("blob", start, memoryview(buffer))
            return bytes(buffer) == data[start : start + 100]

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(read, range(0, len(data) - 100, 7)))


def test_end_of_file(folder: Path) -> None:
    with LocalBlobs(folder) as blobs:
        blobs.read_into("blob", 10_240, memoryview(bytearray(0)))
        blobs.read_into("blob", 10_230, memoryview(bytearray(10)))
        with pytest.raises(LocalError) as caught:
            blobs.read_into("blob", 10_230, memoryview(bytearray(11)))
        assert caught.value.code is CoreCode.IO_FAILED


@pytest.mark.parametrize("name", ["", ".", "..", "../blob", "/etc/passwd", "a/b", "a\0b", "none"])
def test_names(folder: Path, name: str) -> None:
    with LocalBlobs(folder) as blobs, pytest.raises(LocalError) as caught:
        blobs.size(name)
    assert caught.value.code is CoreCode.FILE_MISSING


def test_not_a_plain_file(folder: Path) -> None:
    (folder / "link").symlink_to("blob")
    (folder / "folder").mkdir()
    os.mkfifo(folder / "pipe")
    with LocalBlobs(folder) as blobs:
        for name in ("link", "folder", "pipe"):
            with pytest.raises(LocalError) as caught:
                blobs.read_into(name, 0, memoryview(bytearray(1)))
            assert caught.value.code is CoreCode.IO_FAILED


def test_what_was_opened_stays(folder: Path) -> None:
    """A file that is replaced after the first access does not mix with the old one."""
    with LocalBlobs(folder) as blobs:
        blobs.size("blob")
        (folder / "new").write_bytes(b"new")
        (folder / "new").rename(folder / "blob")
        buffer = bytearray(4)
        blobs.read_into("blob", 0, memoryview(buffer))
    assert buffer == bytes([0, 1, 2, 3])


def test_not_a_directory(folder: Path) -> None:
    for path, code in ((folder / "no", "FILE_MISSING"), (folder / "blob", "NOT_A_DIRECTORY")):
        with pytest.raises(LocalError) as caught:
            LocalBlobs(path)
        assert caught.value.code.name == code


def test_closed(folder: Path) -> None:
    blobs = LocalBlobs(folder)
    blobs.close()
    with pytest.raises(LocalError):
        blobs.size("blob")
