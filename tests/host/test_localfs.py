"""Reading what is no file never waits, and writing is whole or nothing on every file system."""

from __future__ import annotations

import ctypes
import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from regalia.core.errors import CoreCode, LocalError
from regalia.host import localfs
from regalia.host.localfs import (
    others_may_read,
    read_file,
    read_folder,
    read_private_file,
    replace_file,
    write_new,
)

SOON = pytest.mark.timeout(30)  # a pipe that nobody writes to would be waited for without end


@SOON
def test_a_named_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "list.crl"
    os.mkfifo(pipe, 0o600)
    for read in (
        lambda: read_file(pipe, limit=10),
        lambda: read_private_file(pipe, limit=10),
        lambda: read_folder(tmp_path, endings=(".crl",), limit=10, most=10),
    ):
        with pytest.raises(LocalError, match="this is a pipe") as refusal:
            read()
        assert refusal.value.code is CoreCode.NOT_A_REGULAR_FILE


def test_a_file_that_has_no_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As /proc/kmsg, which calls itself a regular file and waits for the kernel to say more."""
    file = tmp_path / "kmsg"
    file.write_bytes(b"beginning")
    said = iter([b"beginning"])

    def read(_fd: int, _size: int) -> bytes:
        try:
            return next(said)
        except StopIteration:
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable") from None

    monkeypatch.setattr(os, "read", read)
    with pytest.raises(LocalError, match="no end") as refusal:
        read_file(file, limit=100)
    assert refusal.value.code is CoreCode.NOT_A_REGULAR_FILE


@SOON
def test_a_file_that_a_file_server_has_leased_is_waited_for(tmp_path: Path) -> None:
    """The kernel asks for the lease back while the file is being opened (fcntl, F_SETLEASE)."""
    file = tmp_path / "leased"
    file.write_bytes(b"content")
    code = (
        "import fcntl, os, signal, sys\n"
        "fd = os.open(sys.argv[1], os.O_RDWR)\n"
        "signal.signal(signal.SIGIO, lambda *_: fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK))\n"
        "try:\n    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)\n"
        "except OSError as exc:\n    print(exc, flush=True); sys.exit()\n"
        "print('leased', flush=True)\nsys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, file], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as server:
        assert server.stdout is not None
        said = server.stdout.readline()
        try:
            if said != b"leased\n":
                pytest.skip(f"no leases on this file system: {said.decode()}")
            assert read_file(file, limit=10) == b"content"
        finally:
            server.kill()


def test_what_a_killed_writer_left_is_no_obstacle(tmp_path: Path) -> None:
    """In containers, processes have the same number again and again."""
    (tmp_path / f".file.{os.getpid()}.tmp").write_bytes(b"left")
    write_new(tmp_path / "file", b"whole")
    write_new(tmp_path / ("n" * 250), b"whole")
    assert sorted(path.read_bytes() for path in tmp_path.iterdir()) == [b"left", b"whole", b"whole"]


def test_regular_files_are_read_whole(tmp_path: Path) -> None:
    file = tmp_path / "file"
    for size in (0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 3 << 20):
        data = os.urandom(size)
        file.write_bytes(data)
        assert read_file(file, limit=size) == data
        if size:
            with pytest.raises(LocalError) as refusal:
                read_file(file, limit=size - 1)
            assert refusal.value.code is CoreCode.TOO_LARGE
    link = tmp_path / "link"
    link.symlink_to(file)
    assert read_file(link, limit=4 << 20) == data


def no_links(monkeypatch: pytest.MonkeyPatch) -> None:
    """As FAT and exFAT on Linux."""

    def link(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", link)


def no_links_in_an_old_library(monkeypatch: pytest.MonkeyPatch) -> None:
    no_links(monkeypatch)
    monkeypatch.setattr(localfs, "_LIBC", object())


def no_links_on_an_old_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    class Library:
        @staticmethod
        def renameat2(*_: object) -> int:
            ctypes.set_errno(errno.EINVAL)
            return -1

    no_links(monkeypatch)
    monkeypatch.setattr(localfs, "_LIBC", Library)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


SYSTEMS = {
    "with links": lambda _: None,
    "without links": no_links,
    "old library": no_links_in_an_old_library,
    "old kernel": no_links_on_an_old_kernel,
}


@pytest.fixture(params=SYSTEMS.values(), ids=SYSTEMS)
def system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    request.param(monkeypatch)


@pytest.mark.usefixtures("system")
def test_a_new_file_is_written_everywhere(tmp_path: Path) -> None:
    for name, mode in (("a.key", 0o600), ("b.pub", 0o644)):
        write_new(tmp_path / name, name.encode(), mode=mode)
        assert (tmp_path / name).read_bytes() == name.encode()
        assert (tmp_path / name).stat().st_mode & 0o777 == mode
    replace_file(tmp_path / "b.pub", b"new")
    replace_file(tmp_path / "c", b"first")
    assert (tmp_path / "b.pub").read_bytes() == b"new"
    assert names(tmp_path) == ["a.key", "b.pub", "c"]


@pytest.mark.usefixtures("system")
@pytest.mark.parametrize("target", ["file", "empty", "folder", "dangling"])
def test_nothing_is_overwritten_anywhere(tmp_path: Path, target: str) -> None:
    path = tmp_path / "out"
    match target:
        case "file":
            path.write_bytes(b"mine")
        case "empty":
            path.touch()
        case "folder":
            path.mkdir()
        case _:
            path.symlink_to("nowhere")
    before = path.lstat()
    with pytest.raises(LocalError) as refusal:
        write_new(path, b"yours")
    assert refusal.value.code is CoreCode.FILE_EXISTS
    assert path.lstat() == before
    assert names(tmp_path) == ["out"]
    if target == "file":
        assert path.read_bytes() == b"mine"


def test_a_name_that_was_taken_is_given_up_if_the_file_does_not_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_links_in_an_old_library(monkeypatch)

    def replace(self: Path, _: Path) -> None:
        assert self.read_bytes() == b"whole"
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(LocalError) as refusal:
        write_new(tmp_path / "out", b"whole")
    assert refusal.value.code is CoreCode.IO_FAILED
    assert names(tmp_path) == []


def test_who_may_read_a_file(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for mode, others in ((0o600, False), (0o400, False), (0o640, True), (0o755, True)):
        file.chmod(mode)
        assert others_may_read(file) is others
