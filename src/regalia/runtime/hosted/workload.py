"""A model in the processes of an engine, which this runtime starts, feeds, guards and ends."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from regalia.core.errors import UnavailableError
from regalia.engines.hosted import WorkersMerge
from regalia.engines.hosted_codes import HostedCode
from regalia.host.events import ServiceEvent, emit
from regalia.runtime.hosted.channel import Handover
from regalia.runtime.hosted.files import SealedFiles, SmallFiles
from regalia.runtime.hosted.folder import require_in_memory
from regalia.runtime.hosted.frames import Grant
from regalia.runtime.hosted.life import EngineLife
from regalia.runtime.workload import merges_none
from regalia.seal.reader import open_sealed

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp

    from regalia.core.secret import SecretBytes
    from regalia.core.weights import BlobSource
    from regalia.engines.hosted import Command, HostedEngine, Place, RequestGuard
    from regalia.runtime.config import ServeConfig
    from regalia.runtime.hosted.frames import Loaded
    from regalia.runtime.hosted.proxy import Proxy
    from regalia.runtime.workload import InnerParts
    from regalia.seal.manifest import VerifiedManifest


class Hosted:
    """Implements ``runtime.workload.Workload`` and ``TakesAdapter``.

    It may be prepared and loaded again after a failure.

    Args:
        config: settings.
        folder: folder that relative paths in the settings start from.
        engine: the engine's plug-in.
        on_failed: called, from any thread, when an engine that has served ended by itself.
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
        self._lock = threading.Lock()
        self._ended = False  # no other life begins
        self._life: EngineLife | None = None
        self._adapter: Handover | None = None
        self._guard: RequestGuard | None = None
        self._proxy: Proxy | None = None
        self._workers = 0
        self._size = 0

    @property
    def life(self) -> EngineLife:
        """The engine's present or last life. Raises RuntimeError before ``prepare``."""
        if self._life is None:
            raise RuntimeError("an engine is prepared before it is used")
        return self._life

    def prepare(self, manifest: VerifiedManifest, opens: tuple[str, ...]) -> None:  # noqa: ARG002
        """Check options, surfaces and folder; arguments and errors as ``Workload``.

        Then the engine's first process imports its libraries, while the runtime attests.
        """
        self._engine.check(self._config.engine.options, opens)
        self._workers = self._engine.workers(self._config.engine.options)
        self._opens = opens
        require_in_memory(Path(self._config.engine_folder))
        self._require_gone()
        life = EngineLife(self._config, self._workers, self._on_failed)
        with self._lock:
            if self._ended:
                raise UnavailableError(
                    HostedCode.ENGINE_PROCESS_FAILED, "the engine: the runtime has ended"
                )
            self._life = life
        life.begin(self._command)

    def prepare_adapter(self, manifest: VerifiedManifest) -> None:  # noqa: ARG002
        """Look at the engine; arguments and errors as ``TakesAdapter``."""
        if not isinstance(self._engine, WorkersMerge):
            raise merges_none(self._config.engine.name)
        self._engine.check_adapter(self._config.engine.options)

    def load_adapter(
        self,
        source: BlobSource,  # noqa: ARG002 - the workers read it
        manifest: VerifiedManifest,
        key: SecretBytes,
    ) -> None:
        """Keep the key for the workers, which decrypt it; arguments as ``TakesAdapter``."""
        self._adapter = Handover(lambda: self._adapter_grant(manifest), key)

    def _require_gone(self) -> None:
        """Wipe what a start that failed has left, as a second engine would stand beside it."""
        if self._life is None:
            return
        self._life.wipe()
        if not self._life.gone:
            raise UnavailableError(
                HostedCode.ENGINE_PROCESS_FAILED, "the engine: its processes cannot be killed"
            )

    def _command(self, place: Place) -> Command:
        return self._engine.command(
            self._config.engine.options,
            place,
            served_name=self._config.served_name,
            parallel=self._config.limits.parallel,
        )

    def load(
        self,
        source: BlobSource,
        manifest: VerifiedManifest,
        key: SecretBytes,
        require_lease: Callable[[], None],
    ) -> None:
        """Give the engine model and key; arguments and errors as ``Workload``."""
        began = time.monotonic()
        life = self.life
        adapter, self._adapter = self._adapter, None
        follows = adapter is not None
        model = Handover(lambda: self._grant(manifest, adapter_follows=follows), key)
        parts = [model] if adapter is None else [model, adapter]
        try:
            with ExitStack() as keys:
                for part in parts:
                    keys.enter_context(part.key)
                files = SealedFiles(open_sealed(source, manifest, key), threads=1)
                small = SmallFiles.of(files, filter(self._engine.keeps, files.sizes()))
                files.forget()
                self._guard = self._engine.guard(small, self._opens)
                loaded = life.load(small, parts, require_lease)
            self._size = max(worker.size for worker in loaded.values())
            life.serve(self._engine.trial(self._config.served_name), require_lease)
        except BaseException:
            life.wipe()  # now, and not after the pause before the next start
            raise
        if self._proxy is not None:
            self._proxy.turn_to(life.place.api)
        self._tell_loaded(loaded, time.monotonic() - began)

    def _adapter_grant(self, manifest: VerifiedManifest) -> Grant:
        grant = self._grant(manifest, adapter_follows=False)
        # It is small, and read without cache and peers, as the runtime reads it.
        return msgspec.structs.replace(grant, store=self._config.adapter_store, cache="", peers=[])

    def _grant(self, manifest: VerifiedManifest, *, adapter_follows: bool) -> Grant:
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
            adapter_follows=adapter_follows,
        )

    def _tell_loaded(self, loaded: dict[int, Loaded], seconds: float) -> None:
        for rank, worker in sorted(loaded.items()):
            emit(
                ServiceEvent.WORKER_LOADED,
                rank=rank,
                tensors=worker.tensors,
                bytes=worker.size,
                bytes_read=worker.read,
                seconds=round(worker.seconds, 3),
            )
        emit(
            ServiceEvent.MODEL_LOADED,
            bytes=self._size,
            seconds=round(seconds, 3),
            workers=self._workers,
        )

    def app(self, parts: InnerParts) -> ASGIApp:
        """Routes that pass on what the guard lets through; arguments and errors as ``Workload``."""
        from regalia.runtime.hosted.proxy import Proxy, build_app

        if self._guard is None:
            raise RuntimeError("a model is loaded before it is served")
        self._proxy = Proxy(
            self.life.place.api,
            self._guard,
            parts,
            served_name=self._config.served_name,
            limits=self._config.limits,
        )
        return build_app(self._proxy)

    def hold(self, left_s: float) -> None:
        """Tell the workers that the lease was renewed."""
        self._left_until = time.monotonic() + left_s
        if self._life is not None:
            self._life.hold(left_s)

    def wipe(self) -> None:
        """Kill all processes of the engine, for good: none is started again."""
        with self._lock:
            self._ended = True
        if self._life is not None:
            self._life.wipe()

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
        return self._life is None or self._life.gone

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
