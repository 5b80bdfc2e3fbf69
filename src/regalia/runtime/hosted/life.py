"""One life of an engine: its folder, its processes, and the channel that its workers get keys from.

An engine that ends is not repaired. Everything of it is removed, and the next start is a new life.

``begin`` starts the first process, which imports the engine's libraries and has nothing secret to
look at. ``load`` gives it the model, once the key was released. ``wipe`` ends the life, whatever
goes on at that moment in another thread: nothing is made afterwards.
"""

from __future__ import annotations

import socket
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from regalia.core.errors import UnavailableError
from regalia.engines.hosted_codes import HostedCode
from regalia.host.events import ServiceEvent, emit
from regalia.runtime.hosted.channel import KeyChannel
from regalia.runtime.hosted.folder import EngineFolder
from regalia.runtime.hosted.health import HealthWatch, is_healthy
from regalia.runtime.hosted.processes import EngineProcesses

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from regalia.engines.hosted import Command, Place, Trial
    from regalia.runtime.config import ServeConfig
    from regalia.runtime.hosted.channel import Handover
    from regalia.runtime.hosted.files import SmallFiles
    from regalia.runtime.hosted.frames import Loaded

_LOOK_S = 0.1  # between two looks at an engine that starts
_TRIAL_S = 120.0  # seconds that a small request may take


def _accepts(path: Path) -> bool:
    """Whether somebody listens on a unix socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        try:
            sock.connect(str(path))
        except OSError:
            return False
        return True


class EngineLife:
    """One life of an engine.

    Args:
        config: settings.
        workers: number of workers.
        on_failed: called once, from any thread, when an engine that has served ends by itself or
            stops answering. All of it is wiped by then, as far as ``gone`` says.
    """

    def __init__(self, config: ServeConfig, workers: int, on_failed: Callable[[str], None]) -> None:
        self._config = config
        self._workers = workers
        self._on_failed = on_failed
        self._lock = threading.Lock()  # nothing is made while, or after, the life ends
        self._over = False
        self._why: str | None = None  # it ended by itself
        self._served = False
        self._folder: EngineFolder | None = None
        self._health: HealthWatch | None = None
        self.processes: EngineProcesses | None = None
        self.channel: KeyChannel | None = None
        self.gone = False  # whether the life is over, and none of its processes is left

    @property
    def place(self) -> Place:
        """Paths of the engine's folders and sockets. Raises RuntimeError before ``begin``."""
        if self._folder is None:
            raise RuntimeError("an engine begins with a folder")
        return self._folder.place

    @contextmanager
    def _making(self) -> Iterator[None]:
        """While a part is made that ``wipe`` would have to remove.

        Raises:
            UnavailableError: ENGINE_PROCESS_FAILED, the life is over.
        """
        with self._lock:
            if self._over:
                raise self._failure(self._why or "it was ended while it started")
            yield

    def begin(self, command: Callable[[Place], Command]) -> None:
        """Make the folder, and start the first process. No key is needed yet.

        Args:
            command: starts the first process of an engine that works in a place.

        Raises:
            LocalError: the folder cannot be made.
            UnavailableError: ENGINE_PROCESS_FAILED.
        """
        with self._making():
            self._folder = EngineFolder(Path(self._config.engine_folder))
            self.processes = EngineProcesses(command(self.place), self._failed)
            self.processes.start()

    def load(
        self,
        small: SmallFiles,
        parts: Sequence[Handover],
        require_lease: Callable[[], None],
    ) -> dict[int, Loaded]:
        """Give the engine its model, and wait until its workers have loaded it.

        Args:
            small: the model's files that are not weights.
            parts: what each worker gets, as ``KeyChannel.open``. The caller wipes the keys.
            require_lease: raises once the lease is lost.

        Returns:
            What each worker has loaded, by rank.

        Raises:
            LocalError: a file cannot be written.
            UnavailableError, IntegrityError, UsageError: as ``KeyChannel.wait``.
            RuntimeError: it has not begun.
        """
        with self._making():
            folder, processes = self._folder, self.processes
            if folder is None or processes is None:
                raise RuntimeError("an engine begins before it loads")
            for path in small.paths():
                folder.write(path, small.view(path))
            channel = self.channel = KeyChannel(
                folder.place.channel,
                workers=self._workers,
                is_member=processes.contains,
                on_gone=self._failed,
            )
            channel.open(parts)
        processes.go_on()
        return channel.wait(self._still_starts(require_lease), self._config.engine_start_s)

    def _still_starts(self, require_lease: Callable[[], None]) -> Callable[[], None]:
        def check() -> None:
            require_lease()
            if self.processes is not None and self.processes.ended:
                raise self._failure("it ended before it served")

        return check

    def serve(self, trial: Trial, require_lease: Callable[[], None]) -> None:
        """Wait until the engine's API answers, and let it answer one small request.

        An engine whose processes live may still be unable to run this model, and would end at the
        first client's request.

        Args:
            trial: the small request.
            require_lease: raises once the lease is lost.

        Raises:
            UnavailableError: ENGINE_PROCESS_FAILED.
        """
        still_starts = self._still_starts(require_lease)
        deadline = time.monotonic() + self._config.engine_start_s
        transport = httpx.HTTPTransport(uds=str(self.place.api))
        with httpx.Client(transport=transport, trust_env=False, timeout=_TRIAL_S) as http:
            while not (_accepts(self.place.api) and is_healthy(http)):
                still_starts()
                if time.monotonic() > deadline:
                    raise self._failure("its API does not answer")
                time.sleep(_LOOK_S)
            self._note_shared_memory()
            self._try(http, trial)
        self._note_shared_memory()
        with self._making():
            self._served = True
            self._health = HealthWatch(self.place.api, self._config.engine_health_s, self._failed)
            self._health.start()
            if self._folder is not None and self.processes is not None:
                self._folder.forget_model()
                self.processes.forget_output()

    def _note_shared_memory(self) -> None:
        if self.processes is not None:
            self.processes.note_shared_memory()

    def _try(self, http: httpx.Client, trial: Trial) -> None:
        try:
            status = http.post(f"http://engine{trial.route}", json=trial.body).status_code
        except httpx.HTTPError as exc:
            raise self._failure("it ended at the first request") from exc
        if status != httpx.codes.OK:
            raise self._failure(f"it answers a small request with status {status}")

    def _failure(self, why: str) -> UnavailableError:
        if self.processes is not None:
            return self.processes.failure(why)
        return UnavailableError(HostedCode.ENGINE_PROCESS_FAILED, f"the engine: {why}")

    def _failed(self, why: str) -> None:
        """The engine has ended by itself. Threads of its parts call this."""
        with self._lock:
            if self._over:
                return
            self._over, self._why = True, why
        emit(ServiceEvent.ENGINE_ENDED, why=why)
        self.wipe()
        if self._served:
            self._on_failed(why)

    def hold(self, left_s: float) -> None:
        """Tell the workers that the lease lasts for so many seconds."""
        if self.channel is not None:
            self.channel.hold(left_s)

    def wipe(self) -> None:
        """Kill all processes of the engine: the kernel clears their memory."""
        with self._lock:
            self._over = True
        if self._health is not None:
            self._health.stop()
        if self.channel is not None:
            self.channel.close()
        self.gone = self.processes is None or self.processes.kill()
        if self._folder is not None:
            self._folder.remove()
