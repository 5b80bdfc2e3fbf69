"""``python -m regalia.runtime.hosted.child PARENT PRELOAD PROGRAM …``: an engine's first process.

It dies with its parent. The kernel keeps the request for that across execve(2), and forgets it at a
fork; the engine's plug-in repeats it in each process.

It starts while the runtime still attests: it imports the modules PRELOAD (comma-separated, maybe
none), and waits for one byte on its standard input, which comes when the key was released and the
model's configuration is there. If the input ends instead, so does the process.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import runpy
import signal
import sys
from typing import Final

PR_SET_PDEATHSIG = 1  # linux/prctl.h
GO: Final = b"\n"
CHILD_VARIABLE = "REGALIA_ENGINE_CHILD"  # names their shared memory
_LIBC = ctypes.CDLL(None, use_errno=True)


def die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent dies.

    Args:
        parent: process id. If it is not the parent any more, this process ends at once.
    """
    _LIBC.prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def _wait() -> None:
    """Wait for the byte, and leave an empty standard input."""
    if os.read(sys.stdin.fileno(), len(GO)) != GO:
        os._exit(1)
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, sys.stdin.fileno())
    os.close(empty)


def main() -> None:
    """Become the program.

    A new interpreter would import everything again, so with modules that were imported before, the
    program is a module too, and runs in this one.
    """
    parent, preload, *program = sys.argv[1:]
    die_with(int(parent))
    for name in filter(None, preload.split(",")):
        importlib.import_module(name)
    _wait()
    if not preload:
        os.execv(program[0], program)  # noqa: S606 - the runtime names the program
    _, _, module, *arguments = program  # an interpreter, "-m", and what it runs
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
