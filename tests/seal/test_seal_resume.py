"""An interrupted sealing is continued: with fresh keys, for the same model only, and to the same
bytes.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from regalia.core.errors import CoreCode, LocalError
from regalia.core.secret import SecretBytes
from regalia.core.types import Digest
from regalia.crypto import aead
from regalia.seal import filekeys, journal, output
from regalia.seal.codes import SealCode
from regalia.seal.format.prefix import parse_prefix
from regalia.seal.format.sealed import stored_size
from regalia.seal.plan import plan
from regalia.seal.scan import scan
from regalia.seal.staging import StagedDirectory
from regalia.seal.writer import SealOptions, seal_model
from regalia_testing.sealed import PAYLOAD, STRIDE, OwnedModel, pattern, write_model
from tests.seal.owner_store import OwnerStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from regalia.core.errors import Code
    from regalia.crypto.sign import SigningKey
    from regalia.seal.writer import SealResult

CHUNKS = 2  # of a shard
SHARD = CHUNKS * PAYLOAD
B_SIZE = 2 * SHARD + 1000
C_OFFSET = -(-(64 + B_SIZE) // 64) * 64
# One file goes through three shards, and the next one ends where a shard ends.
FILES = {
    "a.txt": b"first",
    "b.bin": pattern(B_SIZE),
    "c.bin": pattern(3 * SHARD - C_OFFSET, 3),
    "d.bin": pattern(SHARD + 500, 5),
    "empty": b"",
    "z.json": b'{"end":1}',
}
TOTAL = 10  # chunks
SIZE = 4 * SHARD + 500 + 8 + 64  # of the stream, or a little more


class Stop(Exception):  # noqa: N818 - it stands for Ctrl-C
    pass


class Bench:
    """A model, and runs that seal it."""

    def __init__(self, folder: Path, owner: SigningKey) -> None:
        self.folder = folder
        self.model = write_model(folder / "model", FILES)
        self.out = folder / "sealed"
        self.store = OwnerStore()
        self.owner = owner

    def seal(self, stop_at: int | None = None, **changes: object) -> SealResult:
        """Run, or stop after this many chunks were read."""
        options = {"version": 1, "stride": STRIDE, "shard_chunks": CHUNKS, "threads": 2}

        def progress(done: int, total: int) -> None:
            if stop_at is not None and done >= min(stop_at * PAYLOAD, total):
                self.wait_for(stop_at // CHUNKS)
                raise Stop

        return seal_model(
            self.model,
            self.out,
            SealOptions(**options | changes),  # type: ignore[arg-type]
            wrap=self.store.wrap,
            unwrap=self.store.unwrap,
            signing_key=self.owner,
            progress=progress,
        )

    def wait_for(self, shards: int) -> None:
        """Wait until so many shards are on the disk: reading is ahead of writing."""
        deadline = time.monotonic() + 20
        for number in range(shards):
            shard = self.left() / "sealed" / f"shard-{number:05}.seal"
            whole = stored_size(min(SHARD, SIZE - number * SHARD), STRIDE)
            while not shard.exists() or shard.stat().st_size < whole:
                assert time.monotonic() < deadline
                time.sleep(0.001)
        time.sleep(0.05)

    def stop(self, chunks: int = 7) -> Path:
        """A run that ends early. Returns what it left."""
        with pytest.raises(Stop):
            self.seal(stop_at=chunks)
        return self.left()

    def left(self) -> Path:
        (folder,) = self.folder.glob(".sealed.regalia-*")
        return folder

    def check(self) -> None:
        """The sealed model is whole, and opens to the files of the model."""
        assert sorted(path.name for path in self.folder.iterdir()) == ["model", "sealed"]
        sealed = OwnedModel(
            self.out, self.model, SecretBytes.copy_of(self.store.model_key), self.owner
        )
        sealed.verify()
        loaded = sealed.load()
        found = {path.name: path.read_bytes() for path in self.model.iterdir()}
        assert {path: bytes(loaded.view(path)) for path in loaded.paths()} == found
        sealed.recover(self.folder / "opened")
        assert {p.name: p.read_bytes() for p in (self.folder / "opened").iterdir()} == found
        shutil.rmtree(self.folder / "opened")

    def refused(self, code: Code, *words: str, **changes: object) -> None:
        """A run is refused, and what an earlier one left stays."""
        before = sorted(path.name for path in self.left().rglob("*"))
        with pytest.raises(LocalError) as caught:
            self.seal(**changes)
        assert caught.value.code is code
        assert all(word in caught.value.what for word in words), caught.value.what
        assert sorted(path.name for path in self.left().rglob("*")) == before


@pytest.fixture
def bench(tmp_path: Path, owner: SigningKey) -> Bench:
    return Bench(tmp_path, owner)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[tuple[bytes, bytes]]:
    """Every key with every nonce that it was used with."""
    pairs: list[tuple[bytes, bytes]] = []

    class Recording(aead.ChunkCipher):
        __slots__ = ("key",)

        def __init__(self, key: memoryview, associated_data: bytes) -> None:
            super().__init__(key, associated_data)
            self.key = bytes(key)

        def seal_into(
            self, counter: int, plaintext: memoryview, out: memoryview, *, last: bool
        ) -> None:
            pairs.append((self.key, aead.chunk_nonce(counter, last=last)))
            super().seal_into(counter, plaintext, out, last=last)

    monkeypatch.setattr(filekeys, "ChunkCipher", Recording)
    monkeypatch.setattr(journal, "ChunkCipher", Recording)
    return pairs


def salts(folder: Path) -> dict[str, bytes]:
    return {
        path.name: parse_prefix(path.read_bytes()[:4096], what=path.name).salt
        for path in folder.glob("*.seal")
    }


def test_a_file_of_this_model_ends_with_a_shard(bench: Bench) -> None:
    planned = plan(bench.model, scan(bench.model).files, stride=STRIDE, shard_chunks=CHUNKS)
    assert [placed.end % SHARD == 0 for placed in planned.placed].count(True) == 1
    assert planned.geometry.shard_count == TOTAL // CHUNKS


# --- it continues


@pytest.mark.parametrize("chunks", range(1, TOTAL + 1))
def test_stopped_anywhere_and_continued(
    bench: Bench, seen: list[tuple[bytes, bytes]], chunks: int
) -> None:
    with pytest.raises(Stop):
        bench.seal(stop_at=chunks)
    left = list(bench.folder.glob(".sealed.regalia-*"))
    whole = sorted(path.name for each in left for path in each.glob("sealed/*"))
    assert whole == [f"shard-{number:05}.seal" for number in range(len(whole))]
    before = salts(left[0] / "sealed") if left else {}
    result = bench.seal()
    assert result.continued == len(whole)
    bench.check()
    after = salts(bench.out)
    assert {name: after[name] for name in before} == before
    assert max(Counter(seen).values()) == 1, "no nonce twice under one key"
    assert len(set(after.values())) == len(after)


def test_most_whole_shards_are_kept(bench: Bench) -> None:
    """A shard is written down a few chunks after its last one was read."""
    bench.stop(TOTAL)
    assert bench.seal(threads=1).continued >= 1


def test_stopped_again_and_again(bench: Bench, seen: list[tuple[bytes, bytes]]) -> None:
    for chunks in (5, 6, 7, 8, 9, 9, 10, 10):
        with pytest.raises(Stop):
            bench.seal(stop_at=chunks)
    bench.seal()
    bench.check()
    assert max(Counter(seen).values()) == 1


def test_two_copies_of_what_was_left_share_no_nonce(
    bench: Bench, seen: list[tuple[bytes, bytes]]
) -> None:
    """A snapshot of the disk is restored, and the sealing continued a second time."""
    left = bench.stop(9)
    shutil.copytree(left, bench.folder / "snapshot")
    bench.seal()
    first = salts(bench.out)
    shutil.rmtree(bench.out)
    shutil.move(bench.folder / "snapshot", left)
    again = bench.seal()
    assert again.continued
    bench.check()
    second = salts(bench.out)
    common = {name for name in first if first[name] == second[name]}
    assert common == {f"shard-{number:05}.seal" for number in range(again.continued)}
    assert max(Counter(seen).values()) == 1


SCRIPT = """
import os, signal, sys
from pathlib import Path
from regalia.seal.plan import plan
from regalia.seal.scan import scan
from regalia.seal.staging import StagedDirectory
from regalia.seal.writer import SealOptions, seal_model
from tests.seal.owner_store import OwnerStore

store, at = OwnerStore(), int(sys.argv[3])

def progress(done, total):
    if done >= at:
        os.kill(os.getpid(), signal.SIGKILL)

seal_model(
    Path(sys.argv[1]), Path(sys.argv[2]),
    SealOptions(version=1, stride={stride}, shard_chunks={chunks}, threads=2),
    wrap=store.wrap, unwrap=store.unwrap, signing_key=None, progress=progress,
)
"""


@pytest.mark.parametrize("chunks", [1, 4, 7, 8, pytest.param(10, id="at-the-end")])
def test_killed_and_continued(bench: Bench, chunks: int) -> None:
    code = SCRIPT.format(stride=STRIDE, chunks=CHUNKS)
    command = [sys.executable, "-c", code, str(bench.model), str(bench.out)]
    at = min(chunks * PAYLOAD, sum(map(len, FILES.values())))
    done = subprocess.run([*command, str(at)], check=False, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    records = len(list(bench.left().glob("state/shard-*")))
    result = bench.seal()
    assert result.continued == records
    bench.check()


def test_disk_full_and_continued(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    real, written = output.write_all, Counter[str]()

    def full(fd: int, view: memoryview, offset: int) -> None:
        written["bytes"] += view.nbytes
        if written["bytes"] > 3 * SHARD:
            time.sleep(0.5)  # hashing may be behind, and a shard is whole when both are done
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(fd, view, offset)

    with monkeypatch.context() as patch:
        patch.setattr(output, "write_all", full)
        with pytest.raises(LocalError) as caught:
            bench.seal()
    assert caught.value.code is CoreCode.DISK_FULL
    result = bench.seal()
    assert result.continued >= 1
    bench.check()


# --- what changed is refused by name, what only looks changed is read again


def change(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("name", ["a.txt", "b.bin"])
def test_a_file_that_was_sealed_and_changed(bench: Bench, name: str) -> None:
    bench.stop(9)
    change(bench.model / name, 3)
    bench.refused(SealCode.MODEL_CHANGED, repr(name))
    change(bench.model / name, 3)  # as it was, though written anew
    assert bench.seal().continued
    bench.check()


def test_the_beginning_of_a_file_changed_and_its_times_did_not(bench: Bench) -> None:
    """Of a file that goes on, the beginning is read again in any case."""
    left = bench.stop(5)
    for record in left.glob("state/shard-0000[1-9].state"):
        record.unlink()  # so only one shard is whole, which ends inside of b.bin
    path = bench.model / "b.bin"
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(100)
        file.write(b"\xff\xfe")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(LocalError) as caught:
        bench.seal()
    assert caught.value.code is SealCode.MODEL_CHANGED
    assert "'b.bin'" in caught.value.what


@pytest.mark.parametrize("touch", ["times", "copy"])
def test_a_file_that_is_the_same_in_another_place(bench: Bench, touch: str) -> None:
    bench.stop(9)
    path = bench.model / "b.bin"
    if touch == "times":
        os.utime(path)
    else:
        shutil.copy(path, bench.folder / "copy")
        (bench.folder / "copy").replace(path)
    assert bench.seal().continued
    bench.check()


def test_a_file_that_was_not_sealed_yet_may_change(bench: Bench) -> None:
    bench.stop(5)
    change(bench.model / "z.json", 2)
    assert bench.seal().continued
    bench.check()


@pytest.mark.parametrize(
    ("edit", "name"),
    [
        (lambda model: (model / "new").write_bytes(b"x"), "new"),
        (lambda model: (model / "a.txt").unlink(), "a.txt"),
        (lambda model: (model / "z.json").write_bytes(b"longer than before"), "z.json"),
        (lambda model: (model / "d.bin").rename(model / "e.bin"), "d.bin"),
    ],
)
def test_another_list_of_files(bench: Bench, edit: Callable[[Path], object], name: str) -> None:
    bench.stop()
    edit(bench.model)
    bench.refused(SealCode.MODEL_CHANGED, repr(name))
    assert bench.seal(restart=True).continued == 0
    bench.check()


# --- what does not fit is refused, and --restart discards


@pytest.mark.parametrize(
    "changes", [{"version": 2}, {"stride": 1 << 20}, {"shard_chunks": CHUNKS + 1}]
)
def test_other_parameters(bench: Bench, changes: dict[str, object]) -> None:
    bench.stop()
    bench.refused(SealCode.SEALING_UNFINISHED, **changes)
    assert bench.seal(restart=True, **changes).continued == 0
    bench.check()


def test_another_key_encryption_key(bench: Bench) -> None:
    bench.stop()
    bench.store.number = 2
    bench.refused(SealCode.SEALING_UNFINISHED, "another key")


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    "damage",
    [
        lambda state: flip(state / "key.json"),
        lambda state: flip(state / "plan.state"),
        lambda state: flip(state / "shard-00000.state"),
        lambda state: (state / "plan.state").write_bytes(b""),
        lambda state: (state / "key.json").write_bytes(b"{}"),
        lambda state: shutil.copy(state / "shard-00001.state", state / "shard-00000.state"),
        lambda state: shutil.copy(state / "shard-00000.state", state / "plan.state"),
    ],
)
def test_a_damaged_journal(bench: Bench, damage: Callable[[Path], object]) -> None:
    state = bench.stop(9) / "state"
    damage(state)
    bench.refused(SealCode.SEALING_UNFINISHED)


def test_a_journal_of_another_sealing(bench: Bench) -> None:
    first = bench.stop()
    shutil.copytree(first / "state", bench.folder / "other-state")
    shutil.rmtree(first)
    second = bench.stop()
    shutil.copy(bench.folder / "other-state" / "shard-00000.state", second / "state")
    bench.refused(SealCode.SEALING_UNFINISHED)


@pytest.mark.parametrize("damage", ["removed", "cut", "prefix", "link"])
def test_a_shard_that_is_not_there_any_more_is_sealed_again(bench: Bench, damage: str) -> None:
    left = bench.stop(9)
    shard = left / "sealed" / "shard-00001.seal"
    assert shard.exists()
    if damage == "removed":
        shard.unlink()
    elif damage == "cut":
        os.truncate(shard, 5000)
    elif damage == "prefix":
        change(shard, 70)
    else:
        shard.rename(left / "elsewhere")
        shard.symlink_to(left / "elsewhere")
    if damage == "link":
        with pytest.raises(LocalError):
            bench.seal()
        return
    assert bench.seal().continued == 1
    bench.check()


def test_bytes_that_changed_in_a_whole_shard_are_found_by_verify(bench: Bench) -> None:
    """The manifest names what was encrypted, not what lies there."""
    change(bench.stop() / "sealed" / "shard-00000.seal", 9000)
    assert bench.seal().continued
    sealed = OwnedModel(
        bench.out, bench.model, SecretBytes.copy_of(bench.store.model_key), bench.owner
    )
    with pytest.raises(Exception, match="CIPHERTEXT_CHANGED"):
        sealed.verify()


# --- what is not taken over


@pytest.mark.parametrize("part", ["", "state", "sealed"])
def test_what_others_can_write_to_is_not_continued(bench: Bench, part: str) -> None:
    """Somebody who may wrap keys could leave a journal with a model key that he knows."""
    left = bench.stop()
    (left / part).chmod(0o770)
    assert bench.seal().continued == 0
    bench.check()


def test_without_unwrap_nothing_is_left(bench: Bench) -> None:
    def progress(done: int, _total: int) -> None:
        if done > 5 * PAYLOAD:
            raise Stop

    with pytest.raises(Stop):
        seal_model(
            bench.model,
            bench.out,
            SealOptions(version=1, stride=STRIDE, shard_chunks=CHUNKS),
            wrap=bench.store.wrap,
            signing_key=None,
            progress=progress,
        )
    assert [path.name for path in bench.folder.iterdir()] == ["model"]


def test_nobody_else_removes_what_can_be_continued(bench: Bench) -> None:
    """`regalia open` removes what its own runs have left for the same name."""
    left = bench.stop()
    with StagedDirectory(bench.out) as staged:
        assert staged.removed == ()
    assert left.is_dir()
    assert bench.seal().continued
    bench.check()


def test_of_several_leftovers_the_longest_is_continued(bench: Bench) -> None:
    long = bench.stop(9)
    os.rename(long, bench.folder / "aside")  # noqa: PTH104 - a directory's rename
    short = bench.stop(6)
    os.rename(bench.folder / "aside", long)  # noqa: PTH104
    longest = len(list(long.glob("state/shard-*")))
    result = bench.seal()
    assert result.continued == longest
    assert result.removed_leftovers == (short.name,)
    bench.check()


# --- what a journal shows


def test_a_journal_shows_no_more_than_a_sealed_model(bench: Bench) -> None:
    left = bench.stop(9)
    state = b"".join(path.read_bytes() for path in (left / "state").iterdir())
    assert left.stat().st_mode & 0o777 == 0o700
    needles = [name.encode() for name in FILES if len(name) > 4]
    needles += [bench.store.model_key, bench.store.model_key.hex().encode()]
    for data in FILES.values():
        needles += [Digest.of(data).raw, str(Digest.of(data)).encode(), data[:16] or b"a.txt"]
    assert not [needle for needle in needles if needle in state]
    sizes = {path.name: path.stat().st_size for path in (left / "state").iterdir()}
    del sizes["key.json"]
    assert set(sizes.values()) == {32 + (1 << 16) + 16}, "padded"
