"""Thefts by root on the machine: core dumps and memory."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

from regalia.core.errors import UnavailableError
from regalia_demo.outcome import NOT_PROTECTED, Side, refused_with, stolen_if
from regalia_demo.processes import DemoCode
from regalia_testing.needles import file_blocks, process_blocks

if TYPE_CHECKING:
    from pathlib import Path

    from regalia_demo.attacker import Attacker

_GCORE_LIMIT_S = 120


def core_file(pid: int, folder: Path) -> Path | None:
    """Take a core dump as root would, with gdb's gcore; None if none could be taken.

    Raises:
        UnavailableError: DEMO_TOOL_MISSING.
    """
    gcore = shutil.which("gcore")
    if gcore is None:
        raise UnavailableError(DemoCode.DEMO_TOOL_MISSING, "gcore is missing (Debian package gdb)")
    folder.mkdir(exist_ok=True)
    subprocess.run(  # noqa: S603 - a fixed program on a process of ours
        [gcore, "-o", str(folder / "core"), str(pid)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=_GCORE_LIMIT_S,
        check=False,
    )
    core = folder / f"core.{pid}"
    return core if core.exists() else None


def _search_core(attacker: Attacker, pid: int) -> tuple[int, str]:
    core = core_file(pid, attacker.deployment.root / "cores")
    if core is None:
        return 0, "no core dump could be taken"
    try:
        found = attacker.deployment.needles.found_in(file_blocks(core))
        total = len(attacker.deployment.needles.pieces)
        return (
            found,
            f"{found} of {total} pieces of weights in a core of {core.stat().st_size:,} bytes",
        )
    finally:
        core.unlink()


def core_plain(attacker: Attacker) -> Side:
    """The unprotected server's core."""
    found, detail = _search_core(attacker, attacker.plain.pid)
    return stolen_if(found > 0, detail)


def core(attacker: Attacker) -> Side:
    """The runtime's mapping is left out of core dumps, and the process is not dumpable."""
    found, detail = _search_core(attacker, attacker.deployment.running["runtime"].pid)
    return refused_with("NOT_IN_CORE" if found == 0 else None, detail)


def _search_memory(attacker: Attacker, pid: int) -> tuple[int, str]:
    found = attacker.deployment.needles.found_in(process_blocks(pid))
    return (
        found,
        f"{found} of {len(attacker.deployment.needles.pieces)} pieces through /proc/PID/mem",
    )


def memory_plain(attacker: Attacker) -> Side:
    """Root reads any process."""
    found, detail = _search_memory(attacker, attacker.plain.pid)
    return stolen_if(found > 0, detail)


def memory(attacker: Attacker) -> Side:
    """Only real TEE hardware stops this. Here it is simulated, and that is what the row says."""
    try:
        found, detail = _search_memory(attacker, attacker.deployment.running["runtime"].pid)
    except PermissionError:
        return Side(NOT_PROTECTED, "you may not read it; root could, and here nothing stops root")
    if found == 0:
        return refused_with("NOT_READABLE", detail)
    return Side(NOT_PROTECTED, f"{detail}; memory encryption is hardware's part")
