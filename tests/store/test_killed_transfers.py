"""kill -9 of pushes and pulls at many moments: nothing half-made appears, a restart completes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from regalia.seal.check import verify_ciphertext
from regalia.seal.progress import no_progress
from regalia.store.locate import open_store, open_versions
from tests.store import registry, seaweedfs
from tests.store.owned import sealed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.store.owned import Sent
    from tests.store.registry import Registry
    from tests.store.seaweedfs import Seaweed

pytestmark = pytest.mark.slow
SIZE = 40_000_000
FIRST_S = 0.25  # Python and the command are hardly imported by then
LONGER = 1.3  # how much longer each attempt lives than the one before
ATTEMPTS = 40


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> Sent:
    return sealed(tmp_path_factory.mktemp("owned"), SIZE)


@pytest.fixture(scope="module")
def docker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with registry.running(tmp_path_factory.mktemp("registry")) as started:
        yield started


@pytest.fixture(scope="module")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seaweed]:
    with seaweedfs.running(tmp_path_factory.mktemp("seaweedfs")) as started:
        yield started


@pytest.fixture(params=["registry", "s3", "dir"])
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """The address of an empty store, without a version."""
    if request.param == "registry":
        return request.getfixturevalue("docker").address("acme/killed")
    if request.param == "dir":
        return f"dir:{tmp_path}/store"
    request.getfixturevalue("no_credentials")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", request.getfixturevalue("seaweed").endpoint)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", seaweedfs.OWNER[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", seaweedfs.OWNER[1])
    return "s3://models/killed"


def lives(seconds: float, *words: str) -> int | None:
    """Run a command for so long, and kill it; its exit status if it ended before."""
    process = subprocess.Popen(
        [sys.executable, "-m", "regalia", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=os.environ,
    )
    try:
        _, said = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return None
    assert process.returncode == 0, said
    return process.returncode


def tags(place: str) -> list[str]:
    with open_versions(place, Path(), write=True).repository as repository:
        return repository.tags()


def test_pushes(sent: Sent, place: str) -> None:
    killed = 0
    for attempt in range(ATTEMPTS):
        words = ("push", str(sent.folder), f"{place}:v1", "--signer", str(sent.signer))
        if lives(FIRST_S * LONGER**attempt, *words) == 0:
            break
        killed += 1
        if "v1" in tags(place):
            break  # killed behind its last step
    else:
        pytest.fail("a push never came to its end")
    assert killed >= 1
    with open_store(f"{place}:v1", Path()) as blobs:
        names, manifest = frozenset(sent.names()), sent.owned.verified()
        verify_ciphertext(blobs, manifest, names=names, threads=4, progress=no_progress)


def test_pulls(sent: Sent, place: str, tmp_path: Path) -> None:
    lives(120, "push", str(sent.folder), f"{place}:v2", "--signer", str(sent.signer))
    killed, grown = 0, [0]
    for attempt in range(ATTEMPTS):
        words = ("pull", f"{place}:v2", str(tmp_path / "out"), "--signer", str(sent.signer))
        if lives(FIRST_S * LONGER**attempt, *words) == 0:
            break
        killed += 1
        arrived = tmp_path / ".out.regalia-pull"
        if (tmp_path / "out").exists():
            break
        if arrived.exists():
            grown.append(sum(path.stat().st_size for path in arrived.iterdir()))
    else:
        pytest.fail("a pull never came to its end")
    assert killed >= 1
    assert grown == sorted(grown)  # what arrived is kept
    assert sent.same(tmp_path / "out")
    assert not (tmp_path / ".out.regalia-pull").exists()


def test_sigterm_ends_a_pull_as_an_interrupt_does(
    sent: Sent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    process = subprocess.Popen(
        [sys.executable, "-m", "regalia", "pull", str(sent.folder), "out", "--signer", "any"],
        stderr=subprocess.PIPE,
        env=os.environ,
    )
    arrived = tmp_path / ".out.regalia-pull"
    end = time.monotonic() + 30
    while not arrived.exists() and time.monotonic() < end and process.poll() is None:
        time.sleep(0.002)
    process.terminate()
    _, said = process.communicate(timeout=30)
    if process.returncode == 0:  # it was faster
        assert sent.same(tmp_path / "out")
        return
    assert process.returncode == 130
    assert b"interrupted" in said
    assert not (tmp_path / "out").exists()


def limited(kib: int, *words: str) -> subprocess.CompletedProcess[bytes]:
    """Run a command whose files may not grow over this size, as on a disk that is full then."""
    program = f'ulimit -f {kib}; exec "$0" -m regalia "$@" --json'
    return subprocess.run(
        ["/bin/bash", "-c", program, sys.executable, *words],
        capture_output=True,
        check=False,
        env=os.environ,
    )


def test_a_disk_that_is_full(tmp_path: Path) -> None:
    sent = sealed(tmp_path / "owned", 3_000_000)
    signer = ("--signer", str(sent.signer))
    store, out = f"dir:{tmp_path}/store", str(tmp_path / "out")
    done = limited(100, "push", str(sent.folder), f"{store}:v1", *signer)
    assert (done.returncode, json.loads(done.stdout)["error"]["code"]) == (9, "DISK_FULL")
    assert tags(store) == []
    assert list((tmp_path / "store/uploads").iterdir()) == []
    assert limited(10_000, "push", str(sent.folder), f"{store}:v1", *signer).returncode == 0
    done = limited(100, "pull", f"{store}:v1", out, *signer)
    assert (done.returncode, json.loads(done.stdout)["error"]["code"]) == (9, "TRANSFER_NO_SPACE")
    assert not (tmp_path / "out").exists()
    done = limited(10_000, "pull", f"{store}:v1", out, *signer)
    assert done.returncode == 0
    assert json.loads(done.stdout)["resumed_bytes"] > 0
    assert sent.same(tmp_path / "out")


def test_a_pull_over_http(sent: Sent, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "regalia", "store", "serve", str(sent.folder), "--json"]
    process = subprocess.Popen(
        [*command, "--listen", "127.0.0.1:0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ,
    )
    assert process.stdout is not None
    listen = json.loads(process.stdout.readline())["serving"]["listen"]
    words = ("pull", f"http://{listen}/", str(tmp_path / "out"), "--signer", str(sent.signer))
    try:
        assert lives(120, *words) == 0
    finally:
        process.kill()
        process.communicate()
    assert sent.same(tmp_path / "out")
