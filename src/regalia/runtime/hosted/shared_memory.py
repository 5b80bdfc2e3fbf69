"""Names of shared memory that an engine's processes make, so that none of it is left behind.

They pass requests and answers to each other in files of /dev/shm, which outlive processes that are
killed. Python makes up the names; a prefix tells whose they are.
"""

from __future__ import annotations

import multiprocessing.shared_memory
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

FOLDER = Path("/dev/shm")  # noqa: S108 - where the kernel puts it (shm_overview(7))
_MARK = "rg"
_COLUMNS = 6  # of a line in /proc/PID/maps that has a path
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
    remove_files(FOLDER.glob(f"{prefix}*"))


def mapped_by(pid: int) -> set[Path]:
    """Files directly in the folder of shared memory that a process maps."""
    try:
        text = Path(f"/proc/{pid}/maps").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return set()
    # The path is the sixth column of a line, and may contain blanks (proc(5)).
    columns = (line.split(maxsplit=5) for line in text.splitlines())
    paths = {Path(each[5]) for each in columns if len(each) == _COLUMNS}
    return {path for path in paths if path.parent == FOLDER}


def remove_files(paths: Iterable[Path]) -> None:
    """Remove shared memory of this user.

    Args:
        paths: of it, as ``mapped_by`` returned them.
    """
    for path in paths:
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
