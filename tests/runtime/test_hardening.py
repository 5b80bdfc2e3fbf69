"""Protections are taken, and reported as they are. In a process of its own: they do not go away."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest

from regalia.runtime import hardening
from regalia.runtime.hardening import State

if TYPE_CHECKING:
    from pathlib import Path

HARDEN = """
    import json, resource
    from pathlib import Path
    {before}
    from regalia.runtime.hardening import harden
    checks = harden()
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    print(json.dumps({{
        "checks": {{c.name: [str(c.state), c.detail] for c in checks}},
        "order": [c.name for c in checks],
        "core": resource.getrlimit(resource.RLIMIT_CORE),
        "filter": Path("/proc/self/coredump_filter").read_text().strip(),
        "no_new_privs": status["NoNewPrivs"].strip(),
        "owner": Path("/proc/self/environ").stat().st_uid,
        "locked": status["VmLck"].split()[0],
    }}))
    {after}
"""


def run(before: str = "", after: str = "") -> subprocess.CompletedProcess[str]:
    program = textwrap.dedent(HARDEN.format(before=before, after=after))
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )


def test_what_a_hardened_process_is() -> None:
    done = run()
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["core"] == [0, 0]
    assert int(seen["filter"], 16) == 0
    assert seen["no_new_privs"] == "1"
    assert seen["order"][-1] == "not dumpable", "set last, because later steps could reset it"
    for name in ("core dumps", "new privileges", "page merging", "not dumpable"):
        assert seen["checks"][name][0] == "holds", name
    assert {state for state, _ in seen["checks"].values()} <= {str(state) for state in State}
    assert all(detail for _, detail in seen["checks"].values())


@pytest.mark.skipif(not hardening.can_lock_everything(), reason="needs CAP_IPC_LOCK")
def test_all_memory_is_locked_where_nothing_limits_it() -> None:
    seen = json.loads(run().stdout)
    assert seen["checks"]["all memory locked"][0] == "holds"
    assert int(seen["locked"]) > 1000


AS_NOBODY = "import os; os.setgid(65534); os.setuid(65534)"


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to become somebody else")
def test_a_limit_on_locked_memory_is_reported_and_harms_nothing() -> None:
    limit = "resource.setrlimit(resource.RLIMIT_MEMLOCK, (65536, 65536));"
    done = run(
        before=f"{limit} import regalia.runtime.hardening; {AS_NOBODY}",
        after="x = [bytearray(1 << 20) for _ in range(64)]",
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["checks"]["all memory locked"] == ["cannot be had", "RLIMIT_MEMLOCK is 64 KiB"]
    assert seen["owner"] == 0, "files in /proc of a process that is not dumpable belong to root"


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to become somebody else")
def test_the_same_user_cannot_look_inside() -> None:
    program = f"""
    import ctypes, os, sys
    import regalia.runtime.hardening as hardening
    {AS_NOBODY}
    if sys.argv[1] == "hard":
        hardening.harden()
    else:
        hardening._prctl(hardening.PR_SET_DUMPABLE, 1)  # a change of user switches it off
    target = os.getpid()
    if os.fork() == 0:
        try:
            open(f"/proc/{{target}}/mem", "rb").close()
            print("opened")
        except PermissionError:
            print("refused")
        seize = 0x4206  # PTRACE_SEIZE attaches without stopping
        print(ctypes.CDLL(None).ptrace(seize, target, 0, 0), flush=True)
        os._exit(0)
    os.wait()
    """

    def attack(mode: str) -> list[str]:
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(program), mode],
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        )
        return done.stdout.split()

    assert attack("soft") == ["opened", "0"], "the control: without hardening it works"
    assert attack("hard") == ["refused", "-1"]


def proc(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_swap_is_seen(tmp_path: Path) -> None:
    header = "Filename\tType\tSize\tUsed\tPriority\n"
    assert hardening.swap_absent(proc(tmp_path, swaps=header)).state is State.HOLDS
    check = hardening.swap_absent(proc(tmp_path, swaps=header + "/dev/sda2 partition 1 0 -2\n"))
    assert (check.state, check.detail) == (State.OPEN, "swap is on: /dev/sda2")
    assert hardening.swap_absent(tmp_path / "absent").state is State.ABSENT


def test_core_handlers_are_seen(tmp_path: Path) -> None:
    name = "sys__kernel__core_pattern"
    assert hardening.core_pattern(proc(tmp_path, **{name: "core"})).state is State.HOLDS
    piped = hardening.core_pattern(proc(tmp_path, **{name: "|/usr/lib/systemd-coredump %P"}))
    assert piped.state is State.OPEN


@pytest.mark.parametrize(
    ("scope", "state"), [("0", State.OPEN), ("1", State.OPEN), ("3", State.HOLDS)]
)
def test_yama_is_seen(scope: str, state: State, tmp_path: Path) -> None:
    folder = proc(tmp_path, sys__kernel__yama__ptrace_scope=scope)
    assert hardening.ptrace_scope(folder).state is state
    assert hardening.ptrace_scope(tmp_path / "absent").state is State.ABSENT
