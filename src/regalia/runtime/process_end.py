"""How the process of a runtime ends when it does not end by itself after its lease was lost.

The lease is watched by a thread. A call of a library that keeps the interpreter's lock stops that
thread together with all others, however long it takes, and key and weights would stay. A timer of
the kernel needs no thread of Python's: at its end the signal SIGALRM calls ``_exit`` of the C
library, and the process's memory goes back to the kernel, which clears it before anybody else has
it. The signal's default action would do the same, except in the first process of a container.
"""

from __future__ import annotations

import ctypes
import os
import signal

_LIBC = ctypes.CDLL(None)
STATUS = int(signal.SIGALRM)  # of a process that the kernel has ended
MARGIN_S = 1.0  # seconds that the process has to end itself before the kernel does it


class ProcessEnd:
    """The end of this process. It has one timer, so make one object, in the main thread."""

    def __init__(self) -> None:
        # Python's own handlers wait for the interpreter, and this one does not. It gets the number
        # of the signal as its argument, which so becomes the process's status.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        _LIBC.signal(int(signal.SIGALRM), _LIBC["_exit"])
        # Whoever started this process may have blocked it.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})

    @staticmethod
    def now(status: int) -> None:
        """End without waiting for anything. Does not return.

        Args:
            status: of the process.
        """
        os._exit(status)

    @staticmethod
    def after(seconds: float) -> None:
        """Let the kernel end the process, unless it is asked for another time before.

        Args:
            seconds: from now, to which ``MARGIN_S`` is added. Time in suspend is not counted; the
                watch of the lease counts it.
        """
        signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.0) + MARGIN_S)

    @staticmethod
    def never() -> None:
        """Key and weights are gone, so the process may take its time."""
        signal.setitimer(signal.ITIMER_REAL, 0)
