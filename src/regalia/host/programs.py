"""Runs a small program for its output, which is bounded in time and size."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from contextlib import suppress
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_READ = 1 << 16  # bytes of one read


def output_of(command: Sequence[str], given: bytes, *, limit: int, seconds: float) -> bytes | None:
    """Run a program, and read what it prints; None if it fails, says too much or takes too long.

    A program that does not end by itself is killed with its process group. A process that has left
    the group may keep the pipe open: reading ends all the same, which ``subprocess.run`` does not
    promise.

    Args:
        command: program and arguments.
        given: standard input; at most the few kilobytes that a pipe takes at once.
        limit: bytes of the output; no more is held in memory.
        seconds: from the start to the end of the program.

    Raises:
        OSError: it cannot be started.
    """
    end = time.monotonic() + seconds
    with subprocess.Popen(  # noqa: S603 - the caller decides which program may run
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as program:
        try:
            data = _exchange(program, given, limit, end)
            status = None if data is None else program.wait(max(0.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            return None
        finally:
            if program.returncode is None:  # not waited for, so its number is still its own
                with suppress(ProcessLookupError):
                    os.killpg(program.pid, signal.SIGKILL)
    return data if status == 0 else None


def _exchange(
    program: subprocess.Popen[bytes], given: bytes, limit: int, end: float
) -> bytes | None:
    if program.stdin is None or program.stdout is None:
        return None
    with suppress(BrokenPipeError), program.stdin as stdin:
        stdin.write(given)
    return _read_to_end(program.stdout, limit, end)


def _read_to_end(pipe: IO[bytes], limit: int, end: float) -> bytes | None:
    """All of the output, if it ends in time and within the limit."""
    data = bytearray()
    with selectors.DefaultSelector() as ready:
        ready.register(pipe, selectors.EVENT_READ)
        while len(data) <= limit and time.monotonic() < end:
            if not ready.select(max(0.0, end - time.monotonic())):
                return None
            piece = os.read(pipe.fileno(), _READ)
            if not piece:
                return bytes(data)
            data += piece
    return None
