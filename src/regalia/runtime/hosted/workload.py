"""A model in the processes of an engine, which this runtime starts, feeds, guards and ends."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from regalia.host.events import ServiceEvent, emit
from regalia.runtime.hosted.channel import KeyChannel
from regalia.runtime.hosted.files import SealedFiles, SmallFiles
from regalia.runtime.hosted.folder import EngineFolder, require_in_memory
from regalia.runtime.hosted.frames import Grant
from regalia.runtime.hosted.processes import EngineProcesses
from regalia.seal.reader import open_sealed

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp

    from regalia.core.secret import SecretBytes
    from regalia.core.weights import BlobSource
    from regalia.engines.hosted import HostedEngine, RequestGuard
    from regalia.runtime.config import ServeConfig
    from regalia.runtime.hosted.frames import Loaded
    from regalia.runtime.hosted.proxy import Proxy
    from regalia.runtime.workload import InnerParts
    from regalia.seal.manifest import VerifiedManifest

_LOOK_S = 0.25  # between two looks at an engine that starts
_TRIAL_S = 120.0  # seconds that a small request may take
HEALTH_PATH = "/health"


def _accepts(path: Path) -> bool:
    """Whether somebody listens on a unix socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        try:
            sock.connect(str(path))
        except OSError:
            return False
        return True


class Hosted:
    """Implements ``runtime.workload.Workload``.

    Args:
        config: settings.
        folder: folder that relative paths in the settings start from.
        engine: the engine's plug-in.
        on_failed: called, from any thread, when the engine has ended by itself.
    """

    def __init__(
        self,
        config: ServeConfig,
        folder: Path,
        engine: HostedEngine,
        *,
        on_failed: Callable[[str], None],
    ) -> None:
        self._config = config
        self._base = folder
        self._engine = engine
        self._on_failed = on_failed
        self._opens: tuple[str, ...] = ()
        self._left_until = 0.0  # monotonic time at which the lease ends, as far as is known
        self._folder: EngineFolder | None = None
        self._processes: EngineProcesses | None = None
        self._channel: KeyChannel | None = None
        self._guard: RequestGuard | None = None
        self._proxy: Proxy | None = None
        self._ending = False
        self._gone = False
        self._workers = 0
        self._size = 0

    def prepare(self, manifest: VerifiedManifest, opens: tuple[str, ...]) -> None:  # noqa: ARG002
        """Check options, surfaces and folder; arguments and errors as ``Workload``."""
        self._engine.check(self._config.engine.options, opens)
        self._workers = self._engine.workers(self._config.engine.options)
        self._opens = opens
        require_in_memory(Path(self._config.engine_folder))

    def load(
        self,
        source: BlobSource,
        manifest: VerifiedManifest,
        key: SecretBytes,
        require_lease: Callable[[], None],
    ) -> None:
        """Start the engine and its workers; arguments and errors as ``Workload``."""
        began = time.monotonic()
        with key:
            files = SealedFiles(open_sealed(source, manifest, key), threads=1)
            small = SmallFiles.of(files, filter(self._engine.keeps, files.sizes()))
            self._guard = self._engine.guard(small, self._opens)
            folder = self._folder = EngineFolder(Path(self._config.engine_folder))
            for path in small.paths():
                folder.write(path, small.view(path))
            self._start(folder)
            loaded = self._hand_over(folder, manifest, key, require_lease)
        self._size = max(worker.size for worker in loaded.values())
        self._wait_served(folder, require_lease)
        folder.forget_model()
        if self._processes is not None:
            self._processes.forget_output()
        for rank, worker in sorted(loaded.items()):
            emit(
                ServiceEvent.WORKER_LOADED,
                rank=rank,
                tensors=worker.tensors,
                bytes=worker.size,
                bytes_read=worker.read,
                seconds=round(worker.seconds, 3),
            )
        seconds = round(time.monotonic() - began, 3)
        emit(ServiceEvent.MODEL_LOADED, bytes=self._size, seconds=seconds, workers=self._workers)

    def _start(self, folder: EngineFolder) -> None:
        command = self._engine.command(
            self._config.engine.options,
            folder.place,
            served_name=self._config.served_name,
            parallel=self._config.limits.parallel,
        )
        self._processes = EngineProcesses(command, self._failed)
        self._processes.start()

    def _hand_over(
        self,
        folder: EngineFolder,
        manifest: VerifiedManifest,
        key: SecretBytes,
        require_lease: Callable[[], None],
    ) -> dict[int, Loaded]:
        if self._processes is None:
            raise RuntimeError("the engine is started before its workers get a key")
        channel = self._channel = KeyChannel(
            folder.place.channel,
            workers=self._workers,
            is_member=self._processes.contains,
            on_gone=self._failed,
        )

        def grant() -> Grant:
            return Grant(
                store=self._config.store,
                folder=str(self._base.resolve()),
                cache=self._config.cache,
                cache_bytes=self._config.cache_bytes,
                peers=list(self._config.peers),
                owner_key=str(manifest.signer),
                model_id=str(manifest.content.model_id),
                manifest=str(manifest.digest),
                threads=self._config.load_threads,
                left_s=self._left_until - time.monotonic(),
            )

        channel.open(grant, key)
        return channel.wait(self._still_starts(require_lease), self._config.engine_start_s)

    def _still_starts(self, require_lease: Callable[[], None]) -> Callable[[], None]:
        def check() -> None:
            require_lease()
            if self._processes is not None and self._processes.ended:
                raise self._processes.failure("it ended before it served")

        return check

    def _wait_served(self, folder: EngineFolder, require_lease: Callable[[], None]) -> None:
        """Wait until the engine's API answers, and let it answer one small request.

        An engine whose processes live may still be unable to run this model, and would end at the
        first client's request.
        """
        still_starts = self._still_starts(require_lease)
        deadline = time.monotonic() + self._config.engine_start_s
        transport = httpx.HTTPTransport(uds=str(folder.place.api))
        trial = self._engine.trial(self._config.served_name)
        with httpx.Client(transport=transport, trust_env=False, timeout=_TRIAL_S) as http:
            while not (_accepts(folder.place.api) and self._healthy(http)):
                still_starts()
                if time.monotonic() > deadline:
                    raise self._failure("its API does not answer")
                time.sleep(_LOOK_S)
            try:
                status = http.post(f"http://engine{trial.route}", json=trial.body).status_code
            except httpx.HTTPError as exc:
                raise self._failure("it ended at the first request") from exc
        if status != httpx.codes.OK:
            raise self._failure(f"it answers a small request with status {status}")

    @staticmethod
    def _healthy(http: httpx.Client) -> bool:
        try:
            return http.get(f"http://engine{HEALTH_PATH}").status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False

    def _failure(self, why: str) -> Exception:
        if self._processes is None:
            raise RuntimeError("the engine was started")
        return self._processes.failure(why)

    def _failed(self, why: str) -> None:
        if not self._ending:
            self._ending = True
            emit(ServiceEvent.ENGINE_ENDED, why=why)
            self.wipe()
            self._on_failed(why)

    def app(self, parts: InnerParts) -> ASGIApp:
        """Routes that pass on what the guard lets through; arguments and errors as ``Workload``."""
        from regalia.runtime.hosted.proxy import Proxy, build_app

        if self._guard is None or self._folder is None:
            raise RuntimeError("a model is loaded before it is served")
        self._proxy = Proxy(
            self._folder.place.api,
            self._guard,
            parts,
            served_name=self._config.served_name,
            limits=self._config.limits,
        )
        return build_app(self._proxy)

    def hold(self, left_s: float) -> None:
        """Tell the workers that the lease was renewed."""
        self._left_until = time.monotonic() + left_s
        if self._channel is not None:
            self._channel.hold(left_s)

    def wipe(self) -> None:
        """Kill all processes of the engine: the kernel clears their memory."""
        self._ending = True
        if self._channel is not None:
            self._channel.close()
        self._gone = self._processes is None or self._processes.kill()
        if self._folder is not None:
            self._folder.remove()

    def shut(self) -> None:
        """Let the engine end."""
        self.wipe()

    @property
    def size(self) -> int:
        """Number of bytes of weights that one worker has read, also after they are gone."""
        return self._size

    @property
    def wiped(self) -> bool:
        """Whether no process of the engine is left."""
        return self._gone

    @property
    def waiting(self) -> int:
        """Number of requests that wait for a place."""
        return 0 if self._proxy is None else self._proxy.waiting

    def facts(self) -> dict[str, object]:
        """Facts about the served model, to be printed."""
        return {
            "engine": self._config.engine.name,
            "workers": self._workers,
            "memory": "of the engine's processes",
            "opens": list(self._opens),
        }
