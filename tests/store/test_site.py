"""A site: a real registry, and machines that load from one another, in processes of their own."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from regalia.cli.main import run
from regalia.seal.load import load_model
from regalia.seal.progress import no_progress
from regalia.store.cached import CachedBlobs
from regalia.store.locate import open_cached
from regalia_testing.sealed import KeptMemory, pattern
from tests.store import registry
from tests.store.owned import sealed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.store.owned import Sent

pytestmark = pytest.mark.slow
SIZE = 12_000_000
LIMIT = 64 << 20


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> Sent:
    return sealed(tmp_path_factory.mktemp("owned"), SIZE)


@contextmanager
def serving(cache: Path) -> Iterator[str]:
    """``regalia store serve`` on a cache; its URL."""
    command = [sys.executable, "-m", "regalia", "store", "serve", str(cache)]
    process = subprocess.Popen(
        [*command, "--listen", "127.0.0.1:0", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ,
    )
    try:
        assert process.stdout is not None
        facts = json.loads(process.stdout.readline())
        yield f"http://{facts['serving']['listen']}"
    finally:
        process.kill()
        process.communicate()


def loaded(sent: Sent, address: str, cache: Path, peers: list[str]) -> bytes:
    with open_cached(address, Path(), cache=str(cache), cache_bytes=LIMIT, peers=peers) as blobs:
        assert isinstance(blobs, CachedBlobs)
        manifest, key = sent.owned.verified(), sent.owned.key
        model = load_model(blobs, manifest, key, KeptMemory(), threads=4, progress=no_progress)
    return bytes(model.view("a.bin"))


def answered(log: Path) -> int:
    """Bytes of blobs that the registry sent, by its log."""
    lines = [line for line in log.read_text().splitlines() if " 206 " in line]
    return sum(int(line.rpartition(" 206 ")[2].split()[0]) for line in lines)


def test_ten_machines_start_from_one_download(sent: Sent, tmp_path: Path) -> None:
    with registry.running(tmp_path / "registry") as started:
        address = started.address("acme/model", ":v1")
        assert run(["push", str(sent.folder), address]) == 0
        log = tmp_path / "registry/log"
        assert loaded(sent, address, tmp_path / "cache0", []) == pattern(SIZE)
        once = answered(log)
        assert once > SIZE
        with serving(tmp_path / "cache0") as first, serving(tmp_path / "cache0") as second:
            for number in range(1, 10):
                cache = tmp_path / f"cache{number}"
                assert loaded(sent, address, cache, [first, second]) == pattern(SIZE)
        # Prefixes and sizes come from the store itself, for each machine.
        prefixes = 9 * len(sent.blobs) * (4096 + 1)
        assert answered(log) - once <= prefixes
        # The peers are gone; what each has is enough.
        before = answered(log)
        assert loaded(sent, address, tmp_path / "cache5", [first, second]) == pattern(SIZE)
        assert answered(log) - before <= prefixes / 9
        spoilt = max(
            (tmp_path / "cache5/pieces").glob("*/0*"), key=lambda path: path.stat().st_size
        )
        data = bytearray(spoilt.read_bytes())
        data[-1] ^= 1
        spoilt.write_bytes(data)
        assert loaded(sent, address, tmp_path / "cache5", []) == pattern(SIZE)


PROGRAM = """
import sys
from pathlib import Path
from regalia.store.piece_cache import PieceCache
folder, index = Path(sys.argv[1]), int(sys.argv[2])
cache = PieceCache(folder, {limit})
for number in range(60):
    cache._full_until = 0.0
    cache._opened = float("inf")  # whatever is there may go
    cache.keep(f"{{index:02x}}" * 32, number, memoryview(bytes([index]) * 100_000))
"""


def test_processes_share_one_bound(tmp_path: Path) -> None:
    limit, cache = 1_500_000, tmp_path / "cache"
    commands = [
        [sys.executable, "-c", PROGRAM.format(limit=limit), str(cache), str(index)]
        for index in range(1, 5)
    ]
    processes = [subprocess.Popen(command, env=os.environ) for command in commands]
    most = 0
    while any(process.poll() is None for process in processes):
        most = max(most, held(cache))
        time.sleep(0.01)
    assert [process.returncode for process in processes] == [0] * 4
    assert limit / 2 < max(most, held(cache)) <= limit


def held(cache: Path) -> int:
    """Bytes of all pieces, while nobody takes or makes room. A rename does not count twice."""
    try:
        fd = os.open(cache / ".usage", os.O_RDONLY)
    except FileNotFoundError:
        return 0
    sizes = {}
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        for path in cache.glob("pieces/*/*"):
            with suppress(FileNotFoundError):
                info = path.stat()
                sizes[info.st_ino] = info.st_size
    finally:
        os.close(fd)
    return sum(sizes.values())
