"""Owns the processes of an engine: starts the first one, knows all of them, and ends all of them.

They form one session. None survives this process: each asks the kernel to be killed when its
parent dies (``child.py`` for the first, the engine's plug-in for the others), and orphans become
children of this process, which kills and reaps them.
"""

from __future__ import annotations

import ctypes
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

from regalia.core.errors import UnavailableError
from regalia.engines.hosted_codes import HostedCode
from regalia.runtime.hosted import shared_memory
from regalia.runtime.hosted.child import CHILD_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from regalia.engines.hosted import Command

_LIBC = ctypes.CDLL(None, use_errno=True)
PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
KILL_S = 10.0  # seconds that the kernel may take to end killed processes, with all their memory
_LINES = 400  # of the engine's output that are kept until it serves
_SHOWN = 8  # of them that an error shows
_CAUSE = re.compile(r"(?:^|\s)[A-Za-z_.]*(?:Error|Exception|regalia): ")
_LINE_MAX = 300  # characters
_SESSION = 3  # fields of /proc/PID/stat after the name (proc(5)): state, ppid, pgrp, session
_STATE = 0


def _stat(pid: int) -> list[str] | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The name of the program is in parentheses, and may contain any characters.
    return text.rpartition(")")[2].split()


def _session(leader: int) -> Iterator[tuple[int, str]]:
    """Process ids and states of a session."""
    for folder in Path("/proc").iterdir():
        stat = _stat(int(folder.name)) if folder.name.isdecimal() else None
        if stat is not None and stat[_SESSION] == str(leader):
            yield int(folder.name), stat[_STATE]


class EngineProcesses:
    """The processes of one engine.

    Args:
        command: starts the first one.
        on_end: called once, from a thread of this class, when the first process has ended; its
            argument says how.
    """

    def __init__(self, command: Command, on_end: Callable[[str], None]) -> None:
        self._command = command
        self._on_end = on_end
        self._first: subprocess.Popen[bytes] | None = None
        self._prefix = shared_memory.prefix_of(os.getpid())
        self._lines: deque[str] = deque(maxlen=_LINES)
        self._quiet = False
        self._ended = threading.Event()

    def start(self) -> None:
        """Start the first process. Call it from a thread that lives as long as the engine.

        Raises:
            UnavailableError: ENGINE_PROCESS_FAILED.
        """
        _LIBC.prctl(PR_SET_CHILD_SUBREAPER, ctypes.c_ulong(1), 0, 0, 0)
        starter = (sys.executable, "-m", "regalia.runtime.hosted.child", str(os.getpid()))
        try:
            self._first = subprocess.Popen(  # noqa: S603 - a fixed program
                (*starter, *self._command.argv),
                env={**self._command.environment, CHILD_VARIABLE: self._prefix},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as exc:
            raise self.failure(f"it cannot be started: {exc.strerror}") from exc
        for name, run, arguments in (
            ("engine-output", self._read_output, (self._first.stdout,)),
            ("engine-watch", self._wait, (self._first,)),
        ):
            threading.Thread(target=run, name=name, args=arguments, daemon=True).start()

    def failure(self, why: str) -> UnavailableError:
        """The error for an engine that does not start."""
        lines = list(self._lines)
        # The first errors are the causes; those of other processes follow from them.
        causes = list(dict.fromkeys(line for line in lines if _CAUSE.search(line)))[:_SHOWN]
        told = "".join(f"\n  {line}" for line in causes or lines[-_SHOWN:])
        return UnavailableError(HostedCode.ENGINE_PROCESS_FAILED, f"the engine: {why}{told}")

    def forget_output(self) -> None:
        """Keep none of the output from now on: a library's messages may quote prompts."""
        self._quiet = True
        self._lines.clear()

    def _read_output(self, stream: IO[bytes]) -> None:
        with stream:
            while line := stream.readline(1 << 16):
                if not self._quiet:
                    text = line.decode("utf-8", "replace").rstrip()
                    self._lines.append("".join(c for c in text if c.isprintable())[:_LINE_MAX])

    def _wait(self, first: subprocess.Popen[bytes]) -> None:
        status = first.wait()
        self._ended.set()
        how = f"signal {-status}" if status < 0 else f"status {status}"
        self._on_end(f"its first process ended with {how}")

    @property
    def ended(self) -> bool:
        """Whether the first process has ended."""
        return self._ended.is_set()

    def contains(self, pid: int) -> bool:
        """Whether a process is one of the engine's."""
        return self._first is not None and pid in self.members()

    def members(self) -> set[int]:
        """All processes of the engine that have not ended."""
        if self._first is None:
            return set()
        return {pid for pid, state in _session(self._first.pid) if state not in "ZX"}

    def end(self, grace_s: float) -> None:
        """Ask the first process to end, and kill whatever is left.

        Args:
            grace_s: seconds that it may take.
        """
        if self._first is not None and not self.ended:
            with suppress(ProcessLookupError):
                os.kill(self._first.pid, signal.SIGTERM)
            self._ended.wait(grace_s)
        self.kill()

    def kill(self) -> bool:
        """Kill all processes. Returns whether all of them are gone, and their memory with them."""
        deadline = time.monotonic() + KILL_S
        while members := self.members():
            for pid in members:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
            self._reap()
        self._reap()
        if self._first is not None:
            shared_memory.remove(self._prefix)
        return True

    def _reap(self) -> None:
        """Take the status of orphans that became children of this process."""
        if self._first is None:
            return
        for pid, _ in _session(self._first.pid):
            if pid != self._first.pid:
                with suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)
