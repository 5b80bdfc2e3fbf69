"""What the kernel can do against other processes of the machine, and whether it does.

Nothing here stops root with ptrace, or the kernel itself: inside a confidential VM these are
part of what was measured. ``docs/limitations.md`` says so.
"""

from __future__ import annotations

import ctypes
import os
import resource
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from regalia.core.errors import LocalError
from regalia.runtime.codes import RuntimeCode

if TYPE_CHECKING:
    from collections.abc import Callable

_LIBC = ctypes.CDLL(None, use_errno=True)

# linux/prctl.h
PR_GET_DUMPABLE = 3
PR_SET_DUMPABLE = 4
PR_SET_NO_NEW_PRIVS = 38
PR_SET_MEMORY_MERGE = 67
# sys/mman.h
MCL_CURRENT = 1
MCL_FUTURE = 2
MCL_ONFAULT = 4

CAP_IPC_LOCK = 14


class State(StrEnum):
    """Whether a protection is there."""

    HOLDS = "holds"
    OPEN = "does not hold"
    ABSENT = "cannot be had"


@dataclass(frozen=True, slots=True)
class HardeningCheck:
    """One row of the report."""

    name: str
    state: State
    detail: str


def _prctl(option: int, argument: int) -> bool:
    zero = ctypes.c_ulong(0)
    return bool(_LIBC.prctl(option, ctypes.c_ulong(argument), zero, zero, zero) == 0)


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None


def core_dumps_off() -> HardeningCheck:
    """RLIMIT_CORE 0, soft and hard, and an empty coredump_filter. Fatal if refused.

    Raises:
        LocalError: the kernel refuses.
    """
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (OSError, ValueError) as exc:
        raise LocalError(RuntimeCode.HARDENING_FAILED, f"RLIMIT_CORE cannot be 0: {exc}") from exc
    try:
        Path("/proc/self/coredump_filter").write_text("0", encoding="utf-8")
    except OSError:
        return HardeningCheck(
            "core dumps", State.HOLDS, "RLIMIT_CORE 0; coredump_filter cannot be written"
        )
    return HardeningCheck("core dumps", State.HOLDS, "RLIMIT_CORE 0, coredump_filter 0")


def no_new_privileges() -> HardeningCheck:
    """No execve from here on gains privileges."""
    if _prctl(PR_SET_NO_NEW_PRIVS, 1):
        return HardeningCheck("new privileges", State.HOLDS, "PR_SET_NO_NEW_PRIVS 1")
    return HardeningCheck("new privileges", State.OPEN, os.strerror(ctypes.get_errno()))


def pages_not_merged() -> HardeningCheck:
    """Kernel same-page merging would tell a neighbor which pages are equal."""
    run = _read(Path("/sys/kernel/mm/ksm/run"))
    if run is None:
        return HardeningCheck("page merging", State.HOLDS, "the kernel has no KSM")
    if _prctl(PR_SET_MEMORY_MERGE, 0):
        return HardeningCheck("page merging", State.HOLDS, f"off for this process; KSM run={run}")
    state = State.HOLDS if run == "0" else State.OPEN
    return HardeningCheck("page merging", state, f"PR_SET_MEMORY_MERGE is not known; KSM run={run}")


def can_lock_everything() -> bool:
    """CAP_IPC_LOCK, or no limit on locked memory."""
    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if soft == resource.RLIM_INFINITY:
        return True
    status = _read(Path("/proc/self/status")) or ""
    for line in status.splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> CAP_IPC_LOCK & 1)
    return False


def memory_locked() -> HardeningCheck:
    """Lock all pages as they are touched: prompts and caches on the heap too.

    Only where nothing limits it: with a limit, mlockall makes later allocations fail.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if not can_lock_everything():
        return HardeningCheck(
            "all memory locked", State.ABSENT, f"RLIMIT_MEMLOCK is {soft >> 10} KiB"
        )
    if _LIBC.mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) == 0:
        return HardeningCheck("all memory locked", State.HOLDS, "mlockall, on fault")
    return HardeningCheck("all memory locked", State.OPEN, os.strerror(ctypes.get_errno()))


def swap_absent(proc: Path = Path("/proc")) -> HardeningCheck:
    """Whether there is swap that unlocked pages could go to."""
    table = _read(proc / "swaps")
    if table is None:
        return HardeningCheck("no swap", State.ABSENT, "/proc/swaps cannot be read")
    areas = [line.split()[0] for line in table.splitlines()[1:] if line.strip()]
    if areas:
        return HardeningCheck("no swap", State.OPEN, f"swap is on: {', '.join(areas)}")
    return HardeningCheck("no swap", State.HOLDS, "no swap area")


def core_pattern(proc: Path = Path("/proc")) -> HardeningCheck:
    """A core_pattern that pipes to a program ignores RLIMIT_CORE 0."""
    pattern = _read(proc / "sys/kernel/core_pattern") or ""
    if pattern.startswith("|"):
        return HardeningCheck(
            "core handler", State.OPEN, "cores go to a program; only PR_SET_DUMPABLE stops it"
        )
    return HardeningCheck("core handler", State.HOLDS, f"core_pattern is {pattern!r}, no program")


def ptrace_scope(proc: Path = Path("/proc")) -> HardeningCheck:
    """Yama restricts ptrace further than PR_SET_DUMPABLE: at 3 even for root."""
    scope = _read(proc / "sys/kernel/yama/ptrace_scope")
    if scope is None:
        return HardeningCheck("ptrace by root", State.ABSENT, "the kernel has no Yama")
    if scope == "3":
        return HardeningCheck("ptrace by root", State.HOLDS, "ptrace_scope is 3")
    return HardeningCheck(
        "ptrace by root", State.OPEN, f"ptrace_scope is {scope}; 3 stops root too"
    )


def not_dumpable() -> HardeningCheck:
    """No core, no ptrace and no /proc/PID/mem for the same user. Fatal if refused.

    Set last: execve and a change of user reset it.

    Raises:
        LocalError: the kernel refuses.
    """
    if not _prctl(PR_SET_DUMPABLE, 0) or _LIBC.prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) != 0:
        raise LocalError(RuntimeCode.HARDENING_FAILED, "PR_SET_DUMPABLE 0 is refused")
    return HardeningCheck("not dumpable", State.HOLDS, "PR_SET_DUMPABLE 0")


STEPS: tuple[Callable[[], HardeningCheck], ...] = (
    core_dumps_off,
    no_new_privileges,
    pages_not_merged,
    memory_locked,
    swap_absent,
    core_pattern,
    ptrace_scope,
    not_dumpable,
)


def harden() -> tuple[HardeningCheck, ...]:
    """Take every protection that can be had, before any secret exists; report each.

    Raises:
        LocalError: HARDENING_FAILED.
    """
    return tuple(step() for step in STEPS)
