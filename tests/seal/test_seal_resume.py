"""An interrupted sealing is continued: with fresh keys, and to the same bytes."""

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
from regalia.crypto import aead
from regalia.seal import filekeys, journal, output
from regalia.seal.format.prefix import parse_prefix
from regalia.seal.plan import plan
from regalia.seal.scan import scan
from regalia_testing.sealed import PAYLOAD, STRIDE
from tests.seal.interrupted import CHUNKS, FILES, SHARD, TOTAL, Stop

if TYPE_CHECKING:
    from pathlib import Path

    from tests.seal.interrupted import Bench


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
    bench.opens_to_the_model()
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
    bench.opens_to_the_model()
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
    bench.opens_to_the_model()
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
    bench.opens_to_the_model()


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
    bench.opens_to_the_model()


# --- what changed is refused by name, what only looks changed is read again
