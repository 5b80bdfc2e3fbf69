"""Names of shared memory that an engine's processes make, so that none of it is left behind.

They pass requests and answers to each other in files of /dev/shm, which outlive processes that are
killed. Python makes up the names; a prefix tells whose they are.
"""

from __future__ import annotations

import multiprocessing.shared_memory
import os
from contextlib import suppress
from pathlib import Path

FOLDER = Path("/dev/shm")  # noqa: S108 - where the kernel puts it (shm_overview(7))
_MARK = "rg"
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


def prefix_of(pid: int) -> str:
    """The prefix for the engine of one runtime.

    Short, since Python's names have 14 characters in all, of which it wants to choose at least 4.

    Args:
        pid: process id of the runtime.
    """
    digits = ""
    while pid:
        pid, digit = divmod(pid, len(_DIGITS))
        digits = _DIGITS[digit] + digits
    return f"{_MARK}{digits}_"


def use_prefix(prefix: str) -> None:
    """Have shared memory that this process makes from now on begin with ``prefix``.

    Raises:
        RuntimeError: this Python chooses names in another way.
    """
    if not hasattr(multiprocessing.shared_memory, "_SHM_NAME_PREFIX"):
        raise RuntimeError("shared memory cannot be named in this version of Python")
    multiprocessing.shared_memory._SHM_NAME_PREFIX = f"/{prefix}"  # noqa: SLF001 - no other way


def remove(prefix: str) -> None:
    """Remove all shared memory of one engine, whose processes have ended."""
    for path in FOLDER.glob(f"{prefix}*"):
        with suppress(OSError):
            if path.lstat().st_uid == os.geteuid():
                path.unlink()


def remove_left_behind() -> None:
    """Remove that of engines whose runtime was killed."""
    for path in FOLDER.glob(f"{_MARK}*_*"):
        digits = path.name[len(_MARK) :].partition("_")[0]
        if digits and set(digits) <= set(_DIGITS):
            pid = int(digits, len(_DIGITS))
            if not Path(f"/proc/{pid}").exists():
                remove(prefix_of(pid))
