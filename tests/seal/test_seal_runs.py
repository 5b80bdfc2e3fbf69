"""Runs that are stopped, killed or starved; and keys that never meet a nonce twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest

from regalia.core.errors import CoreCode, LocalError
from regalia.crypto import aead
from regalia.seal import filekeys
from regalia.seal.codes import SealCode
from regalia.seal.format.sealed import WrappedKey
from regalia.seal.manifest import ANY_SIGNER, verify_manifest
from regalia.seal.staging import StagedDirectory
from regalia.seal.unfinished import UnfinishedDirectory
from regalia.seal.writer import SealOptions, seal_model

if TYPE_CHECKING:
    from pathlib import Path

    from regalia.core.secret import SecretBytes
    from regalia.crypto.sign import SigningKey

STRIDE = 64 * 1024

SCRIPT = """
import sys, time
from pathlib import Path
from regalia.crypto.sign import SigningKey
from regalia.seal.format.sealed import WrappedKey
from regalia.seal.writer import SealOptions, seal_model

def progress(done, total):
    {hook}

result = seal_model(
    Path(sys.argv[1]), Path(sys.argv[2]),
    SealOptions(version=1, stride={stride}, shard_chunks=4, threads=2),
    wrap=lambda key, context: WrappedKey("k", "a", b"b"),
    signing_key=SigningKey.generate_ed25519(), progress=progress,
)
"""


def run(hook: str, *args: object, stride: int = STRIDE, extra: str = "") -> subprocess.Popen[str]:
    code = textwrap.dedent(SCRIPT).format(hook=hook, stride=stride) + extra
    command = [sys.executable, "-c", code, *map(str, args)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "w").write_bytes(os.urandom(1_000_000))
    return folder


def wrap(_key: SecretBytes, _context: bytes) -> WrappedKey:
    return WrappedKey("k", "a", b"b")


class _Stopped(Exception):  # noqa: N818 - it stands for Ctrl-C
    pass


def test_no_key_meets_a_nonce_twice(
    model: Path, tmp_path: Path, owner: SigningKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted twice, then finished: every (key, nonce) pair that the cipher saw is new."""
    seen: list[tuple[bytes, bytes]] = []

    class Recording(aead.ChunkCipher):
        __slots__ = ("key",)

        def __init__(self, key: memoryview, associated_data: bytes) -> None:
            super().__init__(key, associated_data)
            self.key = bytes(key)

        def seal_into(
            self, counter: int, plaintext: memoryview, out: memoryview, *, last: bool
        ) -> None:
            seen.append((self.key, aead.chunk_nonce(counter, last=last)))
            super().seal_into(counter, plaintext, out, last=last)

    monkeypatch.setattr(filekeys, "ChunkCipher", Recording)

    def attempt(stop_at: int | None) -> None:
        def progress(done: int, _total: int) -> None:
            if stop_at is not None and done >= stop_at:
                raise _Stopped

        seal_model(
            model,
            tmp_path / "sealed",
            SealOptions(version=1, stride=STRIDE, shard_chunks=4, threads=2),
            wrap=wrap,
            signing_key=owner,
            progress=progress,
        )

    for stop_at in (300_000, 900_000):
        with pytest.raises(_Stopped):
            attempt(stop_at)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]
    interrupted = len(seen)
    attempt(None)
    chunks = -(-1_000_000 // (STRIDE - 16))
    assert len(seen) - interrupted == chunks + 2  # and two of the index
    assert interrupted > 0
    assert len(set(seen)) == len(seen)
    assert len({key for key, _ in seen}) > 4 + 1  # each shard, the index, and earlier runs
    for key in {key for key, _ in seen}:
        flags = [nonce[-1] for k, nonce in seen if k == key]
        assert sum(flags) <= 1


def test_interrupt_leaves_nothing(model: Path, tmp_path: Path) -> None:
    process = run("print('mid', flush=True) or time.sleep(0.2)", model, tmp_path / "sealed")
    with process:
        assert process.stdout
        assert process.stdout.readline() == "mid\n"
        process.send_signal(signal.SIGINT)
        process.wait(20)
    assert process.returncode != 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]


def test_kill_leaves_nothing_that_verifies(model: Path, tmp_path: Path, owner: SigningKey) -> None:
    out = tmp_path / "sealed"
    with run("print('mid', flush=True) or time.sleep(0.2)", model, out) as process:
        assert process.stdout
        for _ in range(8):
            process.stdout.readline()
        # While it runs, its working directory is in use: another run leaves it alone.
        with StagedDirectory(out) as other:
            assert other.removed == ()
        process.kill()
        process.wait(20)
    left = [path for path in tmp_path.iterdir() if path != model]
    assert len(left) == 1
    assert left[0].name.startswith(".sealed.regalia-")
    assert left[0].stat().st_mode & 0o777 == 0o700
    assert not (left[0] / "manifest.json").exists()
    assert list(left[0].glob("shard-*"))
    # The next run removes it, says so, and works.
    result = seal_model(
        model,
        out,
        SealOptions(version=1, threads=1),
        wrap=wrap,
        signing_key=owner,
        progress=lambda _done, _total: None,
    )
    assert result.removed_leftovers == (left[0].name,)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "sealed"]
    assert out.stat().st_mode & 0o777 == 0o755
    data = (out / "manifest.json").read_bytes()
    assert verify_manifest(data, signers=ANY_SIGNER, minimum_version=1).content.version == 1


def test_two_seals_into_one_output(model: Path, tmp_path: Path, owner: SigningKey) -> None:
    """The second one is refused at once, not after hours, and takes nothing over."""
    out = tmp_path / "sealed"
    unwrap = "unwrap=lambda wrapped, context: None, progress=progress,"
    code = textwrap.dedent(SCRIPT).replace("progress=progress,", unwrap)
    code = code.format(hook="print('mid', flush=True) or time.sleep(0.2)", stride=STRIDE)

    def second() -> None:
        seal_model(
            model,
            out,
            SealOptions(version=1, stride=STRIDE, shard_chunks=4, threads=1),
            wrap=wrap,
            unwrap=unwrap_nothing,
            signing_key=owner,
            progress=lambda _done, _total: None,
        )

    with subprocess.Popen(
        [sys.executable, "-c", code, str(model), str(out)], stdout=subprocess.PIPE, text=True
    ) as first:
        assert first.stdout
        assert first.stdout.readline() == "mid\n"
        with pytest.raises(LocalError) as caught:
            second()
        assert caught.value.code is SealCode.SEALING_RUNNING
        for _ in first.stdout:
            pass
        assert first.wait(60) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "sealed"]


def test_a_journal_whose_result_has_its_name_goes(tmp_path: Path) -> None:
    """Its run was killed behind the last step. What can be continued stays."""
    (tmp_path / "sealed").mkdir()
    done, unfinished = tmp_path / ".sealed.regalia-00000001", tmp_path / ".sealed.regalia-00000002"
    for folder in (done / "state", unfinished / "state", unfinished / "sealed"):
        folder.mkdir(parents=True)
    with pytest.raises(LocalError) as caught:
        UnfinishedDirectory(tmp_path / "sealed", restart=False)
    assert caught.value.code is CoreCode.FILE_EXISTS
    assert not done.exists()
    assert (unfinished / "sealed").is_dir()


def unwrap_nothing(_wrapped: WrappedKey, _context: bytes) -> SecretBytes:
    raise AssertionError


def test_disk_full_is_said_and_leaves_nothing(model: Path, tmp_path: Path) -> None:
    """The operating system refuses a write in the middle of a shard."""
    with run("pass", model, tmp_path / "sealed", stride=1 << 20) as process:
        pass
    assert process.returncode == 0
    code = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n"
    script = code + SCRIPT.format(hook="pass", stride=STRIDE)
    done = subprocess.run(
        [sys.executable, "-c", script, str(model), str(tmp_path / "other")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "DISK_FULL" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "sealed"]


def test_disk_full_is_seen_beforehand(
    model: Path, tmp_path: Path, owner: SigningKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage:
        free = 1_000_000

    monkeypatch.setattr("regalia.seal.writer.shutil.disk_usage", lambda _path: Usage)
    with pytest.raises(LocalError) as caught:
        seal_model(
            model,
            tmp_path / "sealed",
            SealOptions(version=1),
            wrap=wrap,
            signing_key=owner,
            progress=lambda _done, _total: None,
        )
    assert caught.value.code is CoreCode.DISK_FULL
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]


def test_failing_key_store_leaves_nothing(model: Path, tmp_path: Path, owner: SigningKey) -> None:
    def broken(_key: SecretBytes, _context: bytes) -> WrappedKey:
        raise LocalError(CoreCode.IO_FAILED, "the key store is gone")

    with pytest.raises(LocalError):
        seal_model(
            model,
            tmp_path / "sealed",
            SealOptions(version=1),
            wrap=broken,
            signing_key=owner,
            progress=lambda _done, _total: None,
        )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]


def test_staging_removes_only_its_own_leftovers(tmp_path: Path) -> None:
    (tmp_path / ".a.regalia-deadbeef").mkdir()
    (tmp_path / ".a.regalia-deadbeef" / "x").write_bytes(b"x")
    (tmp_path / ".b.regalia-dead").mkdir()
    (tmp_path / ".a.regalia-backup").mkdir()
    (tmp_path / ".a.regalia-deadbeef-old").mkdir()
    (tmp_path / ".a.regalia-file").write_bytes(b"")
    (tmp_path / ".a.regalia-link").symlink_to(tmp_path / ".b.regalia-dead")
    with StagedDirectory(tmp_path / "a") as staged:
        assert staged.removed == (".a.regalia-deadbeef",)
        (staged.path / "f").write_bytes(b"1")
        staged.sync()
        staged.commit(mode=0o700)
    assert (tmp_path / "a" / "f").read_bytes() == b"1"
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".a.regalia-backup",
        ".a.regalia-deadbeef-old",
        ".a.regalia-file",
        ".a.regalia-link",
        ".b.regalia-dead",
        "a",
    ]


def test_staging_never_replaces_what_appeared_meanwhile(tmp_path: Path) -> None:
    with StagedDirectory(tmp_path / "a") as staged:
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "precious").write_bytes(b"1")
        with pytest.raises(LocalError):
            staged.commit(mode=0o700)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a" / "precious").read_bytes() == b"1"


@pytest.mark.slow
def test_memory_stays_bounded(tmp_path: Path) -> None:
    """One GiB of holes: peak memory of the sealing process stays under 200 MiB."""
    model = tmp_path / "model"
    model.mkdir()
    with (model / "w").open("wb") as file:
        file.truncate(1 << 30)
    # Not ru_maxrss, which a process inherits from the one that started it.
    extra = "print(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])"
    with run("pass", model, tmp_path / "sealed", stride=1 << 20, extra=extra) as process:
        out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    peak = int(out)  # KiB
    assert 20 * 1024 < peak < 200 * 1024
    sizes = {path.name: path.stat().st_size for path in (tmp_path / "sealed").iterdir()}
    assert sum(sizes.values()) > 1 << 30
