"""The folder and the shared memory of an engine: in memory, one's own, and removed."""

from __future__ import annotations

import fcntl
import multiprocessing.shared_memory
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regalia.core.errors import CoreCode, LocalError
from regalia.engines.hosted_codes import HostedCode
from regalia.runtime.hosted import folder as hosted_folder
from regalia.runtime.hosted import shared_memory
from regalia.runtime.hosted.folder import PREFIX, EngineFolder, require_in_memory

if TYPE_CHECKING:
    from collections.abc import Iterator

MEMORY = Path("/dev/shm")  # noqa: S108 - the tmpfs of this test
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to somebody else")


@pytest.fixture
def parent() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="regalia-test-", dir=MEMORY))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def dead() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_folder_is_private_and_goes(parent: Path) -> None:
    folder = EngineFolder(parent)
    assert folder.path.parent == parent
    assert folder.path.stat().st_mode & 0o777 == 0o700
    folder.write("config.json", memoryview(b"{}"))
    folder.write("a/b/c.json", memoryview(b"[]"))
    assert (folder.place.model / "a/b/c.json").read_bytes() == b"[]"
    (folder.place.scratch / "left").write_bytes(b"x")
    folder.forget_model()
    assert not folder.place.model.exists()
    folder.forget_model()
    folder.remove()
    assert list(parent.iterdir()) == []
    folder.remove()


def test_a_folder_on_a_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosted_folder, "_IN_MEMORY", {})
    with pytest.raises(LocalError) as caught:
        EngineFolder(MEMORY)
    assert caught.value.code is HostedCode.ENGINE_FOLDER_UNSAFE
    monkeypatch.undo()
    require_in_memory(MEMORY)
    with pytest.raises(LocalError) as missing:
        require_in_memory(tmp_path / "nowhere")
    assert missing.value.code is CoreCode.FILE_MISSING


@pytest.mark.parametrize("path", ["/", "/proc", "/sys"])
def test_other_file_systems_are_not_memory(path: str) -> None:
    with pytest.raises(LocalError) as caught:
        require_in_memory(Path(path))
    assert caught.value.code is HostedCode.ENGINE_FOLDER_UNSAFE


def test_a_file_that_cannot_be_written(parent: Path) -> None:
    folder = EngineFolder(parent)
    folder.write("a", memoryview(b""))
    with pytest.raises(LocalError) as caught:
        folder.write("a/b", memoryview(b""))
    assert caught.value.code is CoreCode.IO_FAILED
    folder.remove()


def leave(parent: Path, name: str) -> Path:
    made = parent / f"{PREFIX}{name}"
    made.mkdir()
    (made / "file").write_bytes(b"x")
    return made


def test_folders_of_dead_runtimes_are_removed(parent: Path, dead: int) -> None:
    left = leave(parent, f"{dead}-abc")
    EngineFolder(parent).remove()
    assert not left.exists()


@pytest.mark.parametrize(
    "name", ["-abc", "x-abc", "1\u0661-abc", "-1-abc", "1e5-abc", " 1-a", "+9-a"]
)
def test_folders_of_other_names_stay(parent: Path, name: str) -> None:
    left = leave(parent, name)
    EngineFolder(parent).remove()
    assert left.exists()


def test_folders_of_living_runtimes_stay(parent: Path, dead: int) -> None:
    mine = EngineFolder(parent)
    parents = leave(parent, f"{os.getppid()}-abc")
    # In another container, whose process numbers are others.
    elsewhere = leave(parent, f"{dead}-abc")
    opened = os.open(elsewhere, os.O_RDONLY)
    fcntl.flock(opened, fcntl.LOCK_EX)
    EngineFolder(parent).remove()
    assert mine.path.exists()
    assert parents.exists()
    assert elsewhere.exists()
    os.close(opened)
    EngineFolder(parent).remove()
    assert not elsewhere.exists()
    mine.remove()


def test_a_runtime_in_another_container_keeps_its_folder(parent: Path, dead: int) -> None:
    mine = EngineFolder(parent)
    mine.path = mine.path.rename(parent / f"{PREFIX}{dead}-abc")
    EngineFolder(parent).remove()
    assert mine.path.exists()
    mine.remove()
    assert list(parent.iterdir()) == []


def test_what_a_link_leads_to_stays(parent: Path, dead: int, tmp_path: Path) -> None:
    (tmp_path / "precious").write_bytes(b"x")
    link = parent / f"{PREFIX}{dead}-abc"
    link.symlink_to(tmp_path)
    inner = leave(parent, f"{dead}-def")
    (inner / "link").symlink_to(tmp_path)
    (parent / f"{PREFIX}{dead}-file").write_bytes(b"x")
    EngineFolder(parent).remove()
    assert (tmp_path / "precious").exists()
    assert link.is_symlink()
    assert not inner.exists()
    assert (parent / f"{PREFIX}{dead}-file").exists()


@as_root
def test_folders_of_others_stay(parent: Path, dead: int) -> None:
    left = leave(parent, f"{dead}-abc")
    os.chown(left, 65534, 65534)
    EngineFolder(parent).remove()
    assert left.exists()


# Shared memory


@given(st.integers(1, 1 << 22))
def test_a_prefix_tells_the_runtime(pid: int) -> None:
    prefix = shared_memory.prefix_of(pid)
    assert prefix.startswith("rg")
    assert prefix.endswith("_")
    assert int(prefix[2:-1], 36) == pid
    assert len(prefix) <= 8, "Python wants four characters of its own among fourteen"


@given(st.integers(1, 1 << 22), st.integers(1, 1 << 22))
def test_no_prefix_begins_another(one: int, other: int) -> None:
    prefixes = shared_memory.prefix_of(one), shared_memory.prefix_of(other)
    assert (one == other) == prefixes[0].startswith(prefixes[1])


def test_python_names_shared_memory_by_the_prefix() -> None:
    script = (
        "from regalia.runtime.hosted.shared_memory import use_prefix\n"
        "from multiprocessing.shared_memory import SharedMemory\n"
        "use_prefix('rg2hwow_')\n"
        "made = [SharedMemory(create=True, size=64) for _ in range(20)]\n"
        "print(*(each.name for each in made))\n"
        "[(each.close(), each.unlink()) for each in made]\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    names = done.stdout.split()
    assert len(set(names)) == 20
    assert all(name.startswith("rg2hwow_") for name in names)


def test_a_python_that_names_it_otherwise_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(multiprocessing.shared_memory, "_SHM_NAME_PREFIX")
    with pytest.raises(RuntimeError):
        shared_memory.use_prefix("rg1_")


@pytest.fixture
def shared(parent: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(shared_memory, "FOLDER", parent)
    return parent


def test_only_memory_of_dead_runtimes_is_removed(shared: Path, dead: int) -> None:
    gone = shared / f"{shared_memory.prefix_of(dead)}abc"
    kept = [
        shared / f"{shared_memory.prefix_of(os.getpid())}abc",
        shared / f"{shared_memory.prefix_of(1)}abc",
        shared / "rg_abc",
        shared / "rgABC_abc",
        shared / "rg12-3_abc",
        shared / "psm_abc",
        shared / f"x{shared_memory.prefix_of(dead)}abc",
    ]
    for path in (gone, *kept):
        path.write_bytes(b"x")
    shared_memory.remove_left_behind()
    assert not gone.exists()
    assert all(path.exists() for path in kept)


def test_only_memory_of_one_runtime_is_removed(shared: Path) -> None:
    mine, other = (shared / f"{shared_memory.prefix_of(pid)}abc" for pid in (40, 40 * 36))
    mine.write_bytes(b"x")
    other.write_bytes(b"x")
    (shared / f"{shared_memory.prefix_of(40)}folder").mkdir()
    shared_memory.remove(shared_memory.prefix_of(40))
    assert not mine.exists()
    assert other.exists()


@as_root
def test_memory_of_others_stays(shared: Path, dead: int) -> None:
    left = shared / f"{shared_memory.prefix_of(dead)}abc"
    left.write_bytes(b"x")
    os.chown(left, 65534, 65534)
    shared_memory.remove_left_behind()
    assert left.exists()
