"""Pulls from stores that lie, break off and hang; and what the next pull finds of them."""

from __future__ import annotations

import fcntl
import os
import threading
from typing import TYPE_CHECKING

import pytest

from regalia.core.errors import CoreCode, IntegrityError, LocalError, UnavailableError
from regalia.seal.progress import no_progress
from regalia.store import pull as module
from regalia.store.local import LocalBlobs
from regalia.store.names import StoreCode
from regalia.store.pull import Pulled, pull
from tests.store.owned import Sent, sealed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PIECE = 64 << 10


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> Sent:
    return sealed(tmp_path_factory.mktemp("owned"))


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PIECE", PIECE)


class Source:
    """A store whose answers may be spoilt, and that remembers what was asked."""

    def __init__(self, sent: Sent) -> None:
        self.blobs = LocalBlobs(sent.folder)
        self.asked: list[tuple[str, int]] = []
        self.spoil: Callable[[str, int, memoryview], None] = lambda _n, _o, _b: None
        self._lock = threading.Lock()

    def size(self, name: str) -> int:
        return self.blobs.size(name)

    def read_into(self, name: str, offset: int, buffer: memoryview) -> None:
        self.blobs.read_into(name, offset, buffer)
        with self._lock:
            self.asked.append((name, offset))
        self.spoil(name, offset, buffer)

    def describe(self) -> str:
        return "the store"


def fetch(source: Source, sent: Sent, folder: Path, threads: int = 3) -> Pulled:
    return pull(source, sent.blobs, sent.manifest, folder, threads=threads, progress=no_progress)


def work(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.regalia-pull")


def breaks_at(number: int, error: BaseException) -> Callable[[str, int, memoryview], None]:
    count = 0

    def spoil(_name: str, _offset: int, _buffer: memoryview) -> None:
        nonlocal count
        count += 1
        if count >= number:
            raise error

    return spoil


BROKEN = UnavailableError(StoreCode.STORE_FAILED, "broken")


@pytest.mark.parametrize("threads", [1, 4])
def test_a_model_arrives(threads: int, sent: Sent, tmp_path: Path) -> None:
    total = sum(blob.size for blob in sent.blobs)
    assert fetch(Source(sent), sent, tmp_path / "out", threads) == Pulled(total, 0)
    assert sent.same(tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("number", [1, 2, 5, 9])
def test_a_pull_that_breaks_off_is_gone_on_with(number: int, sent: Sent, tmp_path: Path) -> None:
    source = Source(sent)
    source.spoil = breaks_at(number, BROKEN)
    with pytest.raises(UnavailableError):
        fetch(source, sent, tmp_path / "out", 1)
    assert not (tmp_path / "out").exists()
    again = Source(sent)
    done = fetch(again, sent, tmp_path / "out", 1)
    assert sent.same(tmp_path / "out")
    assert done.resumed_bytes + done.fetched_bytes == sum(blob.size for blob in sent.blobs)
    assert (done.resumed_bytes > 0) == (number > 1)
    arrived = set(source.asked[: number - 1])
    assert not arrived & set(again.asked)


def test_what_was_left_is_compared_again(sent: Sent, tmp_path: Path) -> None:
    source = Source(sent)
    source.spoil = breaks_at(6, BROKEN)
    with pytest.raises(UnavailableError):
        fetch(source, sent, tmp_path / "out", 1)
    largest = max(work(tmp_path / "out").iterdir(), key=lambda path: path.stat().st_size)
    data = bytearray(largest.read_bytes())
    data[100] ^= 1
    largest.write_bytes(data)
    fetch(Source(sent), sent, tmp_path / "out", 1)
    assert sent.same(tmp_path / "out")


@pytest.mark.parametrize("left", ["longer", "link", "folder", "whole", "other version", "all"])
def test_what_lies_in_the_way(left: str, sent: Sent, tmp_path: Path) -> None:
    place = work(tmp_path / "out")
    place.mkdir()
    blob = sent.blobs[1]
    partial = place / f"{blob.name}.{blob.digest.raw.hex()[:32]}"
    outside = tmp_path / "outside"
    outside.write_bytes(b"untouched")
    if left == "longer":
        partial.write_bytes(b"x" * (blob.size + 1))
    elif left == "link":
        partial.symlink_to(outside)
        (place / "manifest.json").symlink_to(outside)
    elif left == "folder":
        partial.mkdir()
        (partial / "file").write_bytes(b"")
    elif left == "whole":
        (place / blob.name).write_bytes((sent.folder / blob.name).read_bytes())
    elif left == "other version":
        (place / f"{blob.name}.{'0' * 32}").write_bytes(b"other")
    else:
        for path in sent.folder.iterdir():
            (place / path.name).write_bytes(path.read_bytes())
    source = Source(sent)
    fetch(source, sent, tmp_path / "out")
    assert sent.same(tmp_path / "out")
    assert outside.read_bytes() == b"untouched"
    if left == "all":
        assert source.asked == []
    if left == "whole":
        assert blob.name not in {name for name, _ in source.asked}


def test_a_store_that_exchanges_bytes(sent: Sent, tmp_path: Path) -> None:
    source = Source(sent)

    def spoil(name: str, offset: int, buffer: memoryview) -> None:
        if name == "shard-00001.seal" and offset == 0:
            buffer[-1] ^= 1

    source.spoil = spoil
    with pytest.raises(IntegrityError) as caught:
        fetch(source, sent, tmp_path / "out")
    assert caught.value.code is StoreCode.BLOB_CHANGED
    assert "shard-00001.seal" in caught.value.what
    assert not (tmp_path / "out").exists()
    assert not list(work(tmp_path / "out").glob("shard-00001*"))  # nobody goes on with it
    assert source.asked.count(("shard-00001.seal", 0)) == 1  # nothing was left to blame
    source.spoil = lambda _n, _o, _b: None
    fetch(source, sent, tmp_path / "out")
    assert sent.same(tmp_path / "out")


def test_a_store_that_exchanges_files(sent: Sent, tmp_path: Path) -> None:
    swapped = sent.owned.copy(tmp_path / "swapped")
    first, second = swapped.folder / "shard-00000.seal", swapped.folder / "shard-00001.seal"
    data = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(data)
    source = Source(Sent(swapped, sent.image, sent.blobs, sent.manifest, sent.signer))
    with pytest.raises(IntegrityError) as caught:
        fetch(source, sent, tmp_path / "out")
    assert caught.value.code is StoreCode.BLOB_CHANGED


def test_a_wrong_answer_loses_nothing_that_arrived(sent: Sent, tmp_path: Path) -> None:
    source = Source(sent)
    source.spoil = breaks_at(6, IntegrityError(StoreCode.STORE_ANSWER_WRONG, "wrong"))
    with pytest.raises(IntegrityError):
        fetch(source, sent, tmp_path / "out", 1)
    assert fetch(Source(sent), sent, tmp_path / "out", 1).resumed_bytes > 0


def test_a_folder_that_exists(sent: Sent, tmp_path: Path) -> None:
    (tmp_path / "out").symlink_to(tmp_path / "nowhere")
    with pytest.raises(LocalError) as caught:
        fetch(Source(sent), sent, tmp_path / "out")
    assert caught.value.code is CoreCode.FILE_EXISTS
    assert not work(tmp_path / "out").exists()


def test_two_pulls_into_one_folder(sent: Sent, tmp_path: Path) -> None:
    place = work(tmp_path / "out")
    place.mkdir()
    fd = os.open(place, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    with pytest.raises(LocalError) as caught:
        fetch(Source(sent), sent, tmp_path / "out")
    assert caught.value.code is StoreCode.TRANSFER_RUNNING
    os.close(fd)
    fetch(Source(sent), sent, tmp_path / "out")


def test_a_work_folder_that_is_a_link(sent: Sent, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/kept").write_bytes(b"")
    work(tmp_path / "out").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(LocalError):
        fetch(Source(sent), sent, tmp_path / "out")
    assert (tmp_path / "elsewhere/kept").exists()


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
def test_a_work_folder_that_others_write_to(mode: int, sent: Sent, tmp_path: Path) -> None:
    """They could change a file after it was compared."""
    (tmp_path / ".out.regalia-pull").mkdir()
    (tmp_path / ".out.regalia-pull").chmod(mode)
    with pytest.raises(LocalError) as caught:
        fetch(Source(sent), sent, tmp_path / "out")
    assert caught.value.code is CoreCode.FILE_EXISTS
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a folder away")
def test_a_work_folder_of_somebody_else(sent: Sent, tmp_path: Path) -> None:
    (tmp_path / ".out.regalia-pull").mkdir(mode=0o755)
    os.chown(tmp_path / ".out.regalia-pull", 12345, 12345)
    with pytest.raises(LocalError) as caught:
        fetch(Source(sent), sent, tmp_path / "out")
    assert caught.value.code is CoreCode.FILE_EXISTS


@pytest.mark.parametrize("again", [True, False])
def test_a_pull_that_ended_between_look_and_lock(
    again: bool,  # noqa: FBT001 - a parameter of the test
    sent: Sent,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The folder that was locked is the other one's result, or a third pull has a new one."""
    work = tmp_path / ".out.regalia-pull"
    lock = fcntl.flock

    def late(fd: int, how: int) -> None:
        work.rename(tmp_path / ("elsewhere" if again else "out"))
        work.mkdir()
        lock(fd, how)

    monkeypatch.setattr("regalia.store.pull.fcntl.flock", late)
    with pytest.raises(LocalError) as caught:
        fetch(Source(sent), sent, tmp_path / "out")
    assert caught.value.code is (StoreCode.TRANSFER_RUNNING if again else CoreCode.FILE_EXISTS)


def test_too_little_room_is_said_before(
    sent: Sent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.statvfs(tmp_path)

    class Full:
        f_bavail, f_frsize = 1, real.f_frsize

    monkeypatch.setattr(module.os, "statvfs", lambda _path: Full)
    source = Source(sent)
    with pytest.raises(LocalError) as caught:
        fetch(source, sent, tmp_path / "out")
    assert caught.value.code is StoreCode.TRANSFER_NO_SPACE
    assert source.asked == []


def test_a_disk_that_fills_up(sent: Sent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, count = os.pwrite, 0

    def full(fd: int, data: memoryview, offset: int) -> int:
        nonlocal count
        count += 1
        if count > 5:
            raise OSError(28, "No space left on device")
        return real(fd, data[:30_000], offset)  # a short write, too

    monkeypatch.setattr(module.os, "pwrite", full)
    with pytest.raises(LocalError) as caught:
        fetch(Source(sent), sent, tmp_path / "out")
    assert caught.value.code is StoreCode.TRANSFER_NO_SPACE
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(module.os, "pwrite", real)
    assert fetch(Source(sent), sent, tmp_path / "out").resumed_bytes > 0
    assert sent.same(tmp_path / "out")


def test_an_interrupted_pull_keeps_what_arrived(sent: Sent, tmp_path: Path) -> None:
    source = Source(sent)
    source.spoil = breaks_at(6, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        fetch(source, sent, tmp_path / "out", 1)
    assert fetch(Source(sent), sent, tmp_path / "out", 1).resumed_bytes > 0
