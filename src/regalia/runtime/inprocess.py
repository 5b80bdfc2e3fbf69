"""A model in this process: decrypted into locked memory, with an engine that uses it there."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from regalia.core.errors import LocalError, UsageError
from regalia.engines.base import ChecksOptions, MergesAdapters
from regalia.engines.hosted_codes import HostedCode
from regalia.host.events import ServiceEvent, emit
from regalia.runtime.codes import RuntimeCode
from regalia.runtime.generation import Generations
from regalia.runtime.memory import LockedMemory, MemoryKind
from regalia.runtime.startup import generation_limits
from regalia.runtime.workload import merges_none

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp

    from regalia.core.secret import SecretBytes
    from regalia.core.weights import BlobSource
    from regalia.engines.base import BuildEngine, ServedModel
    from regalia.runtime.config import ServeConfig
    from regalia.runtime.workload import InnerParts
    from regalia.seal.load import LoadedModel
    from regalia.seal.manifest import VerifiedManifest


def make_memory(config: ServeConfig) -> LockedMemory:
    """Create the memory for the model, not yet allocated."""
    return LockedMemory(
        MemoryKind(config.memory), dangerous_allow_unlocked=config.dangerous_unlocked_memory
    )


def load(
    config: ServeConfig,
    source: BlobSource,
    manifest: VerifiedManifest,
    key: SecretBytes,
    memory: LockedMemory,
) -> LoadedModel:
    """Decrypt the model into ``memory``. The key is wiped in any case.

    Args:
        config: sets the number of threads, and whether unlocked memory is allowed.
        source: store of the ciphertext, untrusted.
        manifest: verified manifest of the model.
        key: the model key; closed on return.
        memory: not yet allocated; receives the plaintext.

    Raises:
        IntegrityError, KeyAccessError, LocalError, ParseError, UnavailableError: as
            ``load_model``; the memory is then wiped.
    """
    from regalia.seal.load import load_model

    with key:
        model = load_model(
            source,
            manifest,
            key,
            memory,
            threads=config.load_threads,
            progress=lambda _done, _total: None,
        )
    if not memory.locked and not config.dangerous_unlocked_memory:
        raise LocalError(RuntimeCode.MEMORY_NOT_LOCKABLE, "the model's memory is not locked")
    return model


def require_memory(config: ServeConfig, manifest: VerifiedManifest) -> None:
    """Look whether memory of the model's size can be had and locked, without touching it.

    Args:
        config: sets the kind of memory.
        manifest: verified manifest, which tells the size.

    Raises:
        LocalError: as ``LockedMemory.allocate``.
    """
    trial = make_memory(config)
    trial.allocate(manifest.content.geometry.stream_size).release()
    trial.free()


def build(
    config: ServeConfig, builder: BuildEngine, model: LoadedModel, adapter: LoadedModel | None
) -> ServedModel:
    """Build the configured engine on the model's memory.

    Args:
        config: holds the engine's options.
        builder: the engine's plug-in, from ``prepare_engine``.
        model: decrypted model in locked memory.
        adapter: decrypted adapter in locked memory, to be merged into the model; None if there is
            none.

    Raises:
        UsageError, ParseError, IntegrityError: the engine refuses the model or the options.
    """
    name, options = config.served_name, config.engine.options
    if adapter is None:
        return builder(model, model_name=name, options=options)
    if not isinstance(builder, MergesAdapters):
        raise merges_none(config.engine.name)
    return builder.with_adapter(model, adapter, model_name=name, options=options)


class InProcess:
    """Implements ``runtime.workload.Workload`` and ``TakesAdapter``.

    Args:
        config: settings.
        builder: the engine's plug-in.
    """

    def __init__(self, config: ServeConfig, builder: BuildEngine) -> None:
        self._config = config
        self._builder = builder
        self._engine: ServedModel | None = None
        self._generations: Generations | None = None
        self._adapter: LoadedModel | None = None
        self.memory = make_memory(config)
        self.adapter_memory = make_memory(config)  # also of what is computed while merging

    def prepare(self, manifest: VerifiedManifest, opens: tuple[str, ...]) -> None:
        """Look for memory, and check options; arguments and errors as ``Workload``."""
        if opens:
            raise UsageError(
                HostedCode.ENGINE_SURFACE_UNKNOWN,
                f"{', '.join(opens)[:200]}: this engine has no surface that could be opened",
            )
        require_memory(self._config, manifest)
        if isinstance(self._builder, ChecksOptions):
            self._builder.check(self._config.engine.options)

    def prepare_adapter(self, manifest: VerifiedManifest) -> None:
        """Look for memory, and at the engine; arguments and errors as ``TakesAdapter``."""
        if not isinstance(self._builder, MergesAdapters):
            raise merges_none(self._config.engine.name)
        require_memory(self._config, manifest)

    def load_adapter(
        self, source: BlobSource, manifest: VerifiedManifest, key: SecretBytes
    ) -> None:
        """Decrypt the adapter; arguments and errors as ``TakesAdapter``."""
        self._adapter = load(self._config, source, manifest, key, self.adapter_memory)

    def load(
        self,
        source: BlobSource,
        manifest: VerifiedManifest,
        key: SecretBytes,
        require_lease: Callable[[], None],
    ) -> None:
        """Decrypt the model and build the engine; arguments and errors as ``Workload``."""
        began = time.monotonic()
        model = load(self._config, source, manifest, key, self.memory)
        seconds = round(time.monotonic() - began, 3)
        emit(ServiceEvent.MODEL_LOADED, bytes=self.memory.size, seconds=seconds)
        require_lease()
        try:
            self._engine = build(self._config, self._builder, model, self._adapter)
        finally:
            self._adapter = None
            self.adapter_memory.retire()
        require_lease()

    def app(self, parts: InnerParts) -> ASGIApp:
        """OpenAI's routes on the engine; arguments and errors as ``Workload``."""
        from regalia.runtime.openai.app import Service, build_app

        if self._engine is None:
            raise RuntimeError("a model is loaded before it is served")
        metrics, limits = parts.metrics, self._config.limits
        self._generations = Generations(
            self._engine,
            generation_limits(limits),
            serving=parts.serving,
            on_abandoned=lambda code: metrics.abandoned.labels(code=code.name).inc(),
        )
        return build_app(
            Service(
                engine=self._engine,
                generations=self._generations,
                callers=parts.callers,
                metrics=metrics,
                fingerprint=parts.fingerprint,
                answer_tokens=limits.answer_tokens,
                padding=limits.stream_padding,
                started=parts.started,
            )
        )

    def hold(self, left_s: float) -> None:
        """The weights are this process's own, which watches over its lease."""

    def wipe(self) -> None:
        """Wipe the memory."""
        self.memory.close()
        self.adapter_memory.close()

    def shut(self) -> None:
        """End the engine's thread."""
        if self._generations is not None:
            self._generations.shut()

    @property
    def size(self) -> int:
        """Number of bytes of weights in memory, also after they were wiped."""
        return self.memory.size + self.adapter_memory.size

    @property
    def wiped(self) -> bool:
        """Whether they are gone."""
        return self.memory.wiped and self.adapter_memory.wiped

    @property
    def waiting(self) -> int:
        """Number of generations that wait for a place."""
        return 0 if self._generations is None else self._generations.waiting

    def facts(self) -> dict[str, object]:
        """Facts about the served model, to be printed."""
        kind = self._config.memory if self.memory.locked else "dangerous: not locked"
        return {"engine": self._config.engine.name, "memory": kind}
