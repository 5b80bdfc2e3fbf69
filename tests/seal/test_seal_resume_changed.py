"""An interrupted sealing is continued for the same model only: what changed is refused by name."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from regalia.core.errors import LocalError
from regalia.core.secret import SecretBytes
from regalia.core.types import Digest
from regalia.seal.codes import SealCode
from regalia.seal.staging import StagedDirectory
from regalia.seal.writer import SealOptions, seal_model
from regalia_testing.sealed import PAYLOAD, STRIDE, OwnedModel
from tests.seal.interrupted import CHUNKS, FILES, Stop

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.seal.interrupted import Bench


def change(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("name", ["a.txt", "b.bin"])
def test_a_file_that_was_sealed_and_changed(bench: Bench, name: str) -> None:
    bench.stop(9)
    change(bench.model / name, 3)
    bench.stays_refused(SealCode.MODEL_CHANGED, repr(name))
    change(bench.model / name, 3)  # as it was, though written anew
    assert bench.seal().continued
    bench.opens_to_the_model()


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
    bench.opens_to_the_model()


def test_a_file_that_was_not_sealed_yet_may_change(bench: Bench) -> None:
    bench.stop(5)
    change(bench.model / "z.json", 2)
    assert bench.seal().continued
    bench.opens_to_the_model()


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
    bench.stays_refused(SealCode.MODEL_CHANGED, repr(name))
    assert bench.seal(restart=True).continued == 0
    bench.opens_to_the_model()


# --- what does not fit is refused, and --restart discards


@pytest.mark.parametrize(
    "changes", [{"version": 2}, {"stride": 1 << 20}, {"shard_chunks": CHUNKS + 1}]
)
def test_other_parameters(bench: Bench, changes: dict[str, object]) -> None:
    bench.stop()
    bench.stays_refused(SealCode.SEALING_UNFINISHED, **changes)
    assert bench.seal(restart=True, **changes).continued == 0
    bench.opens_to_the_model()


def test_another_key_encryption_key(bench: Bench) -> None:
    bench.stop()
    bench.store.number = 2
    bench.stays_refused(SealCode.SEALING_UNFINISHED, "another key")


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
    bench.stays_refused(SealCode.SEALING_UNFINISHED)


def test_a_journal_of_another_sealing(bench: Bench) -> None:
    first = bench.stop()
    shutil.copytree(first / "state", bench.folder / "other-state")
    shutil.rmtree(first)
    second = bench.stop()
    shutil.copy(bench.folder / "other-state" / "shard-00000.state", second / "state")
    bench.stays_refused(SealCode.SEALING_UNFINISHED)


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
    bench.opens_to_the_model()


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
    bench.opens_to_the_model()


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
    bench.opens_to_the_model()


def test_of_several_leftovers_the_longest_is_continued(bench: Bench) -> None:
    long = bench.stop(9)
    os.rename(long, bench.folder / "aside")  # noqa: PTH104 - a directory's rename
    short = bench.stop(6)
    os.rename(bench.folder / "aside", long)  # noqa: PTH104
    longest = len(list(long.glob("state/shard-*")))
    result = bench.seal()
    assert result.continued == longest
    assert result.removed_leftovers == (short.name,)
    bench.opens_to_the_model()


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
