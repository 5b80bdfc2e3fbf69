"""How the process of a runtime ends when it does not end by itself after its lease was lost.

The lease is watched by a thread. A call of a library that keeps the interpreter's lock stops that
thread together with all others, however long it takes, and key and weights would stay. A timer of
the kernel needs no thread: at its end the signal SIGALRM, which nobody handles here, ends the
process, and its memory goes back to the kernel, which clears it before anybody else has it.
"""

from __future__ import annotations

import os
import signal

MARGIN_S = 1.0  # seconds that the process has to end itself before the kernel does it


class ProcessEnd:
    """The end of this process. It has one timer, so make one object, in the main thread."""

    def __init__(self) -> None:
        # Whoever started this process may have ignored or blocked the signal.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
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
