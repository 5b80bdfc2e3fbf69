"""What a runtime serves a model with: an engine in this process, or one in processes of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from regalia.core.errors import UsageError
from regalia.engines.codes import EngineCode

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp

    from regalia.core.secret import SecretBytes
    from regalia.core.weights import BlobSource
    from regalia.runtime.callers import Callers
    from regalia.runtime.metrics import Metrics
    from regalia.seal.manifest import VerifiedManifest


@dataclass(frozen=True, slots=True)
class InnerParts:
    """What the inner application is built from, whatever engine answers.

    Attributes:
        callers: tells callers from each other, where some are listed.
        metrics: counters to increment.
        fingerprint: OpenAI's ``system_fingerprint``; the model id.
        started: Unix time of the start, in seconds.
        serving: tells whether the model is loaded and the lease holds.
    """

    callers: Callers
    metrics: Metrics
    fingerprint: str
    started: int
    serving: Callable[[], bool]


@runtime_checkable
class TakesAdapter(Protocol):
    """What a workload has as well if it can merge an adapter into its model."""

    def prepare_adapter(self, manifest: VerifiedManifest) -> None:
        """Find out all that can be known without the key, after ``Workload.prepare``.

        Args:
            manifest: verified manifest of the adapter.

        Raises:
            RegaliaError: the adapter could not be merged.
        """

    def load_adapter(
        self, source: BlobSource, manifest: VerifiedManifest, key: SecretBytes
    ) -> None:
        """Decrypt the adapter, or have it decrypted; ``Workload.load`` then merges and wipes it.

        Args:
            source: store of the ciphertext, untrusted.
            manifest: verified manifest of the adapter.
            key: the adapter's model key; closed when the model is loaded, at the latest.

        Raises:
            RegaliaError: the adapter cannot be read. What was decrypted is wiped by ``wipe``.
        """


def adapting(workload: Workload, engine: str) -> TakesAdapter:
    """The workload, as one that merges adapters.

    Args:
        workload: as the configuration chose it.
        engine: name of its engine.

    Raises:
        UsageError: ENGINE_MERGES_NO_ADAPTERS.
    """
    if not isinstance(workload, TakesAdapter):
        raise merges_none(engine)
    return workload


def merges_none(engine: str) -> UsageError:
    """The refusal of an engine that would leave the adapter out."""
    return UsageError(EngineCode.ENGINE_MERGES_NO_ADAPTERS, f"the engine {engine!r}")


class Workload(Protocol):
    """The model and its engine. Its methods are called in this order."""

    def prepare(self, manifest: VerifiedManifest, opens: tuple[str, ...]) -> None:
        """Find out all that can be known without the key.

        Args:
            manifest: verified manifest of the model.
            opens: surfaces of the engine that the measured configuration opens.

        Raises:
            RegaliaError: the model could not be served, so nobody needs to be asked for its key.
        """

    def load(
        self,
        source: BlobSource,
        manifest: VerifiedManifest,
        key: SecretBytes,
        require_lease: Callable[[], None],
    ) -> None:
        """Decrypt the model and start the engine. The key is wiped in any case.

        Args:
            source: store of the ciphertext, untrusted.
            manifest: verified manifest of the model.
            key: the model key; closed on return.
            require_lease: raises once the lease is lost.

        Raises:
            RegaliaError: the model is not served. What was decrypted is wiped by ``wipe``.
        """

    def app(self, parts: InnerParts) -> ASGIApp:
        """The application inside the sealed channel."""

    def hold(self, left_s: float) -> None:
        """The lease was renewed, and lasts for so many seconds."""

    def wipe(self) -> None:
        """End the use of the weights, and take them from memory. May be called again."""

    def shut(self) -> None:
        """End what answers requests, after the server has stopped."""

    @property
    def size(self) -> int:
        """Number of bytes of weights in memory, also after they were wiped."""

    @property
    def wiped(self) -> bool:
        """Whether they are gone."""

    @property
    def waiting(self) -> int:
        """Number of requests that wait for a place."""

    def facts(self) -> dict[str, object]:
        """Facts about the served model, to be printed."""
