"""A hundred pieces of the plaintext weights are nowhere that they must not be.

The needles are taken from the owner's plaintext by this process, which serves nothing.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from regalia_demo.attacks.machine import core_file
from regalia_demo.clients import sealed_client
from regalia_testing.needles import file_blocks, files_under, pick_needles, process_blocks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regalia_demo.deployment import Deployment
    from regalia_testing.needles import Needles

pytestmark = pytest.mark.slow
COUNT = 100
as_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="reading the memory of hardened processes needs root"
)


@pytest.fixture(scope="module")
def needles(deployment: Deployment) -> Needles:
    return pick_needles(deployment.model / "model.safetensors", COUNT, seed=20261122)


def _read_until(terminal: int, wanted: bytes) -> None:
    seen = b""
    deadline = time.monotonic() + 60
    while wanted not in seen:
        assert time.monotonic() < deadline, f"{wanted!r} not in {seen!r}"
        if select.select([terminal], [], [], 1)[0]:
            seen += os.read(terminal, 4096)  # EIO fails the test if the chat has ended


@pytest.fixture(scope="module")
def client(deployment: Deployment) -> Iterator[subprocess.Popen[bytes]]:
    """A chat on a terminal that has verified the runtime, had an answer, and waits for more."""
    collateral = deployment.root / "platform" / "collateral"
    keyboard, terminal = os.openpty()
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "regalia", "chat"),
            *("--url", f"http://{deployment.runtime_address}"),
            *("--policy", str(deployment.root / "owner" / "client-policy.json")),
            *("--collateral", str(collateral)),
            *("--dangerous-simulated-anchor", str(collateral / "ark.der")),
        ],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
    )
    os.close(terminal)
    try:
        _read_until(keyboard, b"you> ")
        os.write(keyboard, b"What is the capital of France?\r")
        _read_until(keyboard, b"Paris")
        yield process
    finally:
        os.close(keyboard)
        process.terminate()
        process.wait(30)


def test_the_search_finds_what_is_there(deployment: Deployment, needles: Needles) -> None:
    assert needles.found_in(file_blocks(deployment.model / "model.safetensors")) == COUNT


@pytest.mark.usefixtures("client")
def test_no_file_of_a_service_holds_weights(deployment: Deployment, needles: Needles) -> None:
    searched = 0
    for path in files_under(deployment.service_folders):
        assert needles.found_in(file_blocks(path)) == 0, path
        searched += path.stat().st_size
    assert searched > (deployment.model / "model.safetensors").stat().st_size


@as_root
@pytest.mark.parametrize("name", ["broker", "store", "client"])
def test_no_other_process_holds_weights(
    deployment: Deployment, needles: Needles, client: subprocess.Popen[bytes], name: str
) -> None:
    pid = client.pid if name == "client" else deployment.running[name].pid
    searched = sum(map(len, process_blocks(pid)))
    assert searched > 10_000_000, "the search read almost nothing"
    assert needles.found_in(process_blocks(pid)) == 0


@as_root
def test_the_runtime_does_hold_them(deployment: Deployment, needles: Needles) -> None:
    """The control for the tests around it: root reads the simulated TEE."""
    assert needles.found_in(process_blocks(deployment.running["runtime"].pid)) == COUNT


@as_root
@pytest.mark.skipif(shutil.which("gcore") is None, reason="gcore (Debian package gdb) is missing")
def test_a_core_dump_taken_by_root_holds_no_weights(
    deployment: Deployment, needles: Needles, tmp_path: Path
) -> None:
    with sealed_client(deployment, f"http://{deployment.runtime_address}") as client:
        client.models.list()
    core = core_file(deployment.running["runtime"].pid, tmp_path)
    assert core is None or needles.found_in(file_blocks(core)) == 0


def test_a_core_dump_of_a_dumpable_process_with_the_same_mapping_holds_no_weights(
    deployment: Deployment, needles: Needles, tmp_path: Path
) -> None:
    """Without PR_SET_DUMPABLE in the way: MADV_DONTDUMP alone keeps the mapping out."""
    program = (
        "import sys, time, mmap\n"
        "from pathlib import Path\n"
        "from regalia.runtime.memory import LockedMemory, MemoryKind\n"
        "memory = LockedMemory(MemoryKind.LOCKED, dangerous_allow_unlocked=False)\n"
        "file = open(sys.argv[1], 'rb')\n"
        "view = memory.allocate(Path(sys.argv[1]).stat().st_size)\n"
        "file.readinto(view)\n"
        "print('loaded', flush=True)\n"
        "time.sleep(300)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(deployment.model / "model.safetensors")],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "loaded\n"
            assert needles.found_in(process_blocks(process.pid)) == COUNT
            core = core_file(process.pid, tmp_path)
            assert core is not None
            assert core.stat().st_size > 1_000_000
            assert needles.found_in(file_blocks(core)) == 0
        finally:
            process.kill()


def _cores(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("core*") if path.is_file()]


@pytest.mark.skipif(
    Path("/proc/sys/kernel/core_pattern").read_text().startswith(("|", "/")),
    reason="this machine writes core dumps somewhere else, where this test cannot look",
)
def test_an_aborted_runtime_writes_no_core(deployment: Deployment, tmp_path: Path) -> None:
    """Beside a control that may dump core as well, and does. Last: the runtime dies of it."""
    abort = [sys.executable, "-c", "import os; os.abort()"]
    control = subprocess.run(abort, cwd=tmp_path, capture_output=True, check=False)
    assert control.returncode == -signal.SIGABRT
    assert _cores(tmp_path), "the control wrote no core, so this test would show nothing"
    runtime = deployment.running["runtime"]
    runtime.process.send_signal(signal.SIGABRT)
    assert runtime.process.wait(30) == -signal.SIGABRT
    assert _cores(deployment.root) == []
