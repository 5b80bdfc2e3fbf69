"""Hands the model key to the workers of an engine, and keeps their leases alive.

The runtime listens on a unix socket in its private folder until each worker has its key. The
kernel says which process has connected; it must be one of the engine's, each gets the key once,
and there are as many keys as workers. With an adapter each gets two keys, one after the other. The
connection then stays: the runtime says how long the lease lasts, and a worker whose connection
ends, or whose lease is not renewed, ends itself.
"""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from regalia.core.errors import (
    CoreCode,
    IntegrityError,
    LocalError,
    RegaliaError,
    UnavailableError,
    UsageError,
)
from regalia.engines.codes import EngineCode
from regalia.engines.hosted_codes import HostedCode
from regalia.host.events import ServiceEvent, emit
from regalia.runtime.hosted.frames import Failed, Hello, Hold, Loaded, receive, send

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from regalia.core.secret import SecretBytes
    from regalia.runtime.hosted.frames import Grant

_LOOK_S = 0.25  # between two looks at an engine that starts
_STRANGERS = 16  # connections of others that may wait without keeping workers out
HELLO_S = 10.0  # seconds from a connection to the worker's first message
_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid (unix(7))
# What a worker may say of the adapter that the owner sealed. All else is a failure of the engine.
_MISFIT = EngineCode.ENGINE_ADAPTER_MISFIT
_UNSUPPORTED = EngineCode.ENGINE_ADAPTER_UNSUPPORTED


@dataclass(frozen=True, slots=True)
class Handover:
    """What a worker gets of one sealed part: the model, or its adapter.

    Attributes:
        grant: makes what the part is opened with, when a worker asks.
        key: the part's model key. Whoever made it wipes it.
    """

    grant: Callable[[], Grant]
    key: SecretBytes


class KeyChannel:
    """The runtime's side of the private socket.

    Args:
        path: of the socket, in a folder that only this user can enter.
        workers: number of workers, each of which gets the key once.
        is_member: tells whether a process is one of the engine's.
        on_gone: called once, from a thread of this class, when a worker is gone that had its key;
            its argument says which.
    """

    def __init__(
        self,
        path: Path,
        *,
        workers: int,
        is_member: Callable[[int], bool],
        on_gone: Callable[[str], None],
    ) -> None:
        self._path = path
        self._workers = workers
        self._is_member = is_member
        self._on_gone = on_gone
        self._lock = threading.Lock()
        self._sending = threading.Lock()  # a key follows its grant, and nothing comes between
        self._served: dict[int, socket.socket] = {}  # by rank
        self._pids: set[int] = set()
        self._closed = False
        self._changed = threading.Condition(self._lock)
        self._loaded: dict[int, Loaded] = {}  # by rank
        self._failed: RegaliaError | None = None
        self._listener: socket.socket | None = None

    @property
    def pids(self) -> frozenset[int]:
        """Processes that have the key, or the weights."""
        with self._lock:
            return frozenset(self._pids)

    def open(self, parts: Sequence[Handover]) -> None:
        """Listen, and serve workers from threads of its own.

        Args:
            parts: what each worker gets, in this order: the model, then its adapter. The caller
                wipes the keys after ``wait``.

        Raises:
            LocalError: the socket cannot be made.
        """
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.bind(str(self._path))
            os.chmod(self._path, 0o600)  # noqa: PTH101 - of a socket
            listener.listen(self._workers + _STRANGERS)
        except OSError as exc:
            listener.close()
            raise LocalError(CoreCode.IO_FAILED, f"{self._path}: {exc.strerror}") from exc
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener, parts), daemon=True).start()

    def wait(self, still_starts: Callable[[], None], timeout_s: float) -> dict[int, Loaded]:
        """Wait until all workers have their weights. Nobody gets the key afterwards.

        Args:
            still_starts: called again and again; raises if there is nothing to wait for.
            timeout_s: seconds.

        Returns:
            What each has loaded, by rank.

        Raises:
            UnavailableError: ENGINE_PROCESS_FAILED.
            IntegrityError: ENGINE_ADAPTER_MISFIT, as a worker found.
            UsageError: ENGINE_ADAPTER_UNSUPPORTED, likewise.
        """
        deadline = time.monotonic() + timeout_s
        try:
            while True:
                with self._changed:
                    if self._failed is not None:
                        raise self._failed
                    loaded = dict(self._loaded)
                    if len(loaded) == self._workers:
                        return loaded
                still_starts()
                if time.monotonic() > deadline:
                    raise UnavailableError(
                        HostedCode.ENGINE_PROCESS_FAILED,
                        f"{len(loaded)} of {self._workers} workers have their weights"
                        f" after {timeout_s:g} s",
                    )
                with self._changed:
                    self._changed.wait(_LOOK_S)
        finally:
            self._stop_listening()

    def hold(self, left_s: float) -> None:
        """Tell all workers that the lease was renewed.

        Args:
            left_s: seconds until it ends.
        """
        with self._lock:
            connections = list(self._served.values())
        for connection in connections:
            with suppress(OSError), self._sending:  # its reader notices and reports
                send(connection, Hold(left_s))

    def close(self) -> None:
        """Close all connections: workers that still live end themselves."""
        with self._lock:
            self._closed = True
            connections = list(self._served.values())
        self._stop_listening()
        for connection in connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def _stop_listening(self) -> None:
        if self._listener is not None:
            # A thread that waits in accept(2) is woken by shutdown and not by close.
            with suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._path.unlink(missing_ok=True)

    def _accept(self, listener: socket.socket, parts: Sequence[Handover]) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            # One after the other: there are few workers, and each is quick.
            try:
                rank = self._welcome(connection, parts)
            except (OSError, RegaliaError, RuntimeError) as exc:
                code = exc.code.name if isinstance(exc, RegaliaError) else type(exc).__name__
                if not self._closed:
                    emit(ServiceEvent.WORKER_REFUSED, code=code)
                connection.close()
                continue
            threading.Thread(target=self._follow, args=(rank, connection), daemon=True).start()

    def _welcome(self, connection: socket.socket, parts: Sequence[Handover]) -> int:
        """Check who has connected, and hand over the keys."""
        connection.settimeout(HELLO_S)
        raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        pid, uid, _ = _CREDENTIALS.unpack(raw)
        if uid != os.geteuid() or not self._is_member(pid):
            raise UnavailableError(
                HostedCode.WORKER_REFUSED, f"process {pid} of user {uid} is not of this engine"
            )
        hello = receive(connection)
        if not isinstance(hello, Hello) or hello.workers != self._workers:
            raise UnavailableError(HostedCode.WORKER_REFUSED, f"process {pid} does not say hello")
        with self._lock:
            if self._closed or pid in self._pids or hello.rank in self._served:
                raise UnavailableError(
                    HostedCode.WORKER_REFUSED, f"rank {hello.rank} has its key already"
                )
            if not 0 <= hello.rank < self._workers:
                raise UnavailableError(HostedCode.WORKER_REFUSED, f"there is no {hello.rank}")
            self._served[hello.rank] = connection
            self._pids.add(pid)
        try:
            with self._sending:
                for part in parts:
                    send(connection, part.grant(), part.key.view())
                connection.settimeout(None)
        except BaseException:
            self._end(f"worker {hello.rank} did not take its key")
            raise
        emit(ServiceEvent.WORKER_KEYED, rank=hello.rank, pid=pid)
        return hello.rank

    def _follow(self, rank: int, connection: socket.socket) -> None:
        """Read what a worker says until it is gone."""
        try:
            while (frame := receive(connection)) is not None:
                self._note(rank, frame)
        except (OSError, RegaliaError):
            pass
        self._end(f"worker {rank} is gone")

    def _end(self, why: str) -> None:
        """A worker is lost, and so is the engine: tell it once, unless this side has ended it."""
        with self._changed:
            closed, self._closed = self._closed, True
            if self._failed is None:
                self._failed = UnavailableError(HostedCode.ENGINE_PROCESS_FAILED, why)
            self._changed.notify_all()
        if not closed:
            self._on_gone(why)

    def _note(self, rank: int, frame: object) -> None:
        with self._changed:
            if isinstance(frame, Loaded):
                self._loaded[rank] = frame
            elif isinstance(frame, Failed):
                self._failed = _failure(rank, frame)
            self._changed.notify_all()


def _failure(rank: int, frame: Failed) -> RegaliaError:
    """What a worker says of its end: of an adapter as other engines say it."""
    what = f"worker {rank}: {_shown(frame.what, 500)}"
    if frame.code == _MISFIT.name:
        return IntegrityError(_MISFIT, what)
    if frame.code == _UNSUPPORTED.name:
        return UsageError(_UNSUPPORTED, what)
    what = f"worker {rank}: {_shown(frame.code, 64)}: {_shown(frame.what, 500)}"
    return UnavailableError(HostedCode.ENGINE_PROCESS_FAILED, what)


def _shown(text: str, most: int) -> str:
    return "".join(char if char.isprintable() else " " for char in text[:most])
