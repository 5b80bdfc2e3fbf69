"""Owns the processes of an engine: starts the first one, knows all of them, and ends all of them.

They form one session, which any of them may leave. So a process is the engine's if it is in the
session, or was started by one that is, at whatever depth; and an orphan becomes a child of this
process, which has started none of its own in another session. None survives this process: each
asks the kernel to be killed when its parent dies (``child.py`` for the first, the engine's plug-in
for the others).
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
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, ClassVar

from regalia.core.errors import UnavailableError
from regalia.engines.hosted_codes import HostedCode
from regalia.runtime.hosted import shared_memory
from regalia.runtime.hosted.child import CHILD_VARIABLE, GO

if TYPE_CHECKING:
    from collections.abc import Callable

    from regalia.engines.hosted import Command

_LIBC = ctypes.CDLL(None, use_errno=True)
PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
KILL_S = 10.0  # seconds that the kernel may take to end killed processes, with all their memory
_LINES = 400  # of the engine's output that are kept until it serves
_SHOWN = 8  # of them that an error shows
_CAUSE = re.compile(r"(?:^|\s)[A-Za-z_.]*(?:Error|Exception|regalia): ")
_LINE_MAX = 300  # characters
# Fields of /proc/PID/stat after the name (proc(5)), which begin with the third.
_STATE, _PARENT, _SESSION, _STARTED = 0, 1, 3, 19
_LOOKS = 2  # in a row that find no process: one may be born behind the back of the first


@dataclass(frozen=True, slots=True)
class _Process:
    pid: int
    parent: int
    session: int
    state: str
    started: int  # clock ticks since boot: tells it from a later one with the same number

    @property
    def ended(self) -> bool:
        return self.state in "ZX"


def _process(pid: int) -> _Process | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The name of the program is in parentheses, and may contain any characters.
    fields = text.rpartition(")")[2].split()
    return _Process(
        pid,
        int(fields[_PARENT]),
        int(fields[_SESSION]),
        fields[_STATE],
        int(fields[_STARTED]),
    )


def _inode(path: Path) -> int | None:
    try:
        return path.lstat().st_ino
    except OSError:
        return None


def _all_processes() -> list[_Process]:
    """All processes that can be seen, the oldest first."""
    numbers = (int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal())
    found = [process for pid in numbers if (process := _process(pid)) is not None]
    return sorted(found, key=lambda process: (process.started, process.pid))


class EngineProcesses:
    """The processes of one engine.

    Args:
        command: starts the first one.
        on_end: called once, from a thread of this class, when the first process has ended; its
            argument says how.
    """

    _sessions: ClassVar[set[int]] = set()  # of all engines of this process

    def __init__(self, command: Command, on_end: Callable[[str], None]) -> None:
        self._command = command
        self._on_end = on_end
        self._first: subprocess.Popen[bytes] | None = None
        self._known: dict[int, int] = {}  # when each process that was ever found was started
        self._others: frozenset[int] = frozenset()  # children of this process before the engine
        self._looking = threading.Lock()
        self._mapped: dict[Path, int] = {}  # inode of each file of shared memory that was noted
        self._prefix = shared_memory.prefix_of(os.getpid())
        self._lines: deque[str] = deque(maxlen=_LINES)
        self._quiet = False
        self._ended = threading.Event()

    def start(self) -> None:
        """Start the first process, which imports libraries and then waits for ``go_on``.

        Raises:
            UnavailableError: ENGINE_PROCESS_FAILED.
        """
        _LIBC.prctl(PR_SET_CHILD_SUBREAPER, ctypes.c_ulong(1), 0, 0, 0)
        own = os.getpid()
        self._others = frozenset(each.pid for each in _all_processes() if each.parent == own)
        started: Future[subprocess.Popen[bytes]] = Future()
        # The kernel kills a child when the thread that made it ends, so the thread that waits for
        # the first process makes it.
        threading.Thread(
            target=self._watch, name="engine-watch", args=(started,), daemon=True
        ).start()
        try:
            self._first = started.result()
        except OSError as exc:
            raise self.failure(f"it cannot be started: {exc.strerror}") from exc
        self._sessions.add(self._first.pid)
        threading.Thread(
            target=self._read_output,
            name="engine-output",
            args=(self._first.stdout,),
            daemon=True,
        ).start()

    def _watch(self, started: Future[subprocess.Popen[bytes]]) -> None:
        try:
            first = self._open()
        except OSError as exc:
            started.set_exception(exc)
            return
        started.set_result(first)
        status = first.wait()
        self._ended.set()
        if first.stdin is not None:
            with suppress(OSError):
                first.stdin.close()
        how = f"signal {-status}" if status < 0 else f"status {status}"
        self._on_end(f"its first process ended with {how}")

    def _open(self) -> subprocess.Popen[bytes]:
        child = (sys.executable, "-m", "regalia.runtime.hosted.child", str(os.getpid()))
        return subprocess.Popen(  # noqa: S603 - a fixed program
            (*child, ",".join(self._command.preload), *self._command.argv),
            env={**self._command.environment, CHILD_VARIABLE: self._prefix},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def go_on(self) -> None:
        """Let the first process become the engine: its model's configuration is there.

        Raises:
            UnavailableError: ENGINE_PROCESS_FAILED, it has ended.
            RuntimeError: it was not started.
        """
        if self._first is None or self._first.stdin is None:
            raise RuntimeError("a process is started before it goes on")
        try:
            with self._first.stdin as stdin:
                stdin.write(GO)
        except (OSError, ValueError) as exc:  # its end is broken, or was closed with it
            raise self.failure("it ended before it had its model") from exc

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

    @property
    def ended(self) -> bool:
        """Whether the first process has ended."""
        return self._ended.is_set()

    def contains(self, pid: int) -> bool:
        """Whether a process is one of the engine's."""
        return self._first is not None and pid in self.members()

    def members(self) -> set[int]:
        """All processes of the engine that have not ended."""
        return {process.pid for process in self._found() if not process.ended}

    def _found(self) -> list[_Process]:
        """All processes of the engine, those included that have ended and were not reaped."""
        if self._first is None:
            return []
        with self._looking:
            processes = _all_processes()
            self._known = {
                process.pid: process.started
                for process in processes
                if self._known.get(process.pid) == process.started
            }
            # A process may be older than its parent when that is an orphan's new one.
            while new := [
                process
                for process in processes
                if process.pid not in self._known and self._belongs(process)
            ]:
                self._known |= {process.pid: process.started for process in new}
            return [process for process in processes if process.pid in self._known]

    def _belongs(self, process: _Process) -> bool:
        first, own = self._first, os.getpid()
        if first is None or process.pid == own:
            return False
        if process.session == first.pid or process.parent in self._known:
            return True
        adopted = process.parent == own and process.session not in {os.getsid(own), *self._sessions}
        return adopted and process.pid not in self._others

    def kill(self) -> bool:
        """Kill all processes. Returns whether all of them are gone, and their memory with them."""
        deadline = time.monotonic() + KILL_S
        looks = 0
        while looks < _LOOKS:
            members = self.members()
            self._note(members)
            looks = 0 if members else looks + 1
            for pid in members:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if members and time.monotonic() > deadline:
                return False
            if members:
                time.sleep(0.02)
            self._reap()
        if self._first is not None:
            self._sessions.discard(self._first.pid)
            shared_memory.remove(self._prefix)
            shared_memory.remove_files(
                path for path, inode in self._mapped.items() if _inode(path) == inode
            )
        return True

    def note_shared_memory(self) -> None:
        """Remember the shared memory that is mapped now: a process that dies no longer shows its.

        Libraries name some of it themselves, and who maps it is all that tells whose it is.
        """
        self._note(self.members())

    def _note(self, members: set[int]) -> None:
        for path in set().union(*map(shared_memory.mapped_by, members)):
            if (inode := _inode(path)) is not None:
                self._mapped[path] = inode

    def _reap(self) -> None:
        """Take the status of orphans that became children of this process."""
        for process in self._found():
            # That of the first is taken by the thread that waits for it.
            if process.ended and self._first is not None and process.pid != self._first.pid:
                with suppress(ChildProcessError):
                    os.waitpid(process.pid, os.WNOHANG)
