"""``python -m regalia.runtime.hosted.child PARENT PROGRAM …``: a program that dies with its parent.

The kernel keeps the request to be killed at the parent's death across execve(2), and forgets it
at a fork. The engine's plug-in repeats it in each process.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h
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


def main() -> None:
    """Become the program."""
    die_with(int(sys.argv[1]))
    os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606 - the runtime names the program


if __name__ == "__main__":
    main()
