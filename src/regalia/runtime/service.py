"""The life cycle of a runtime: start, serve, and wipe key and weights at the end."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from regalia.core.errors import CoreCode, KeyAccessError, RegaliaError, UnavailableError
from regalia.engines.hosted_codes import HostedCode
from regalia.host.clock import system_clock
from regalia.host.events import ServiceEvent, emit
from regalia.host.listen import address_of, bind, serve
from regalia.runtime.broker import BrokerClient, open_http
from regalia.runtime.callers import Callers
from regalia.runtime.choice import choose_workload
from regalia.runtime.codes import RuntimeCode
from regalia.runtime.grant import Grant, SealedPart
from regalia.runtime.hardening import harden
from regalia.runtime.metrics import Metrics
from regalia.runtime.replay import ReplayMemory
from regalia.runtime.restarts import Restarts
from regalia.runtime.startup import (
    announce_dangers,
    gateway_limits,
    open_adapter_blobs,
    open_blobs,
    read_adapter,
    read_manifest,
    take_identity,
    wants_adapter,
)
from regalia.runtime.watched import WatchedBlobs
from regalia.runtime.workload import InnerParts, adapting

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from starlette.types import ASGIApp

    from regalia.core.secret import SecretBytes
    from regalia.runtime.config import ServeConfig
    from regalia.runtime.hardening import HardeningCheck
    from regalia.runtime.lease import Lease
    from regalia.runtime.process_end import ProcessEnd
    from regalia.runtime.startup import Identity
    from regalia.runtime.workload import Workload
    from regalia.seal.manifest import VerifiedManifest
    from regalia.wire.serving import ServingEvidence

# Seconds between the loss of the lease and the stop of the server. Clients that ask meanwhile get
# NOT_SERVING instead of a refused connection.
LINGER_S = 0.3
LEAVE_S = 3.0  # seconds from the loss of the lease to the end of a process that does not end itself
RETURN_S = 5.0  # seconds that giving the lease back may take, at the end
RESTART_END_S = 5.0  # seconds that a start of the engine may take to notice that it is over


def _later(seconds: float, call: Callable[[], None]) -> None:
    """Call from a thread that does not keep the process alive."""
    timer = threading.Timer(seconds, call)
    timer.daemon = True
    timer.start()


class Runtime:
    """One attested runtime.

    Args:
        config: settings.
        folder: folder that relative paths in the settings start from.
        show: prints one line for the operator.
        ending: ends the process if it has not ended by itself soon after the lease was lost; None
            leaves that to the caller.
        hardening: enables the kernel's protections for this process. Tests replace it, because
            they share their process with other tests.
    """

    def __init__(
        self,
        config: ServeConfig,
        folder: Path,
        *,
        show: Callable[[str], None],
        ending: ProcessEnd | None,
        hardening: Callable[[], tuple[HardeningCheck, ...]] = harden,
    ) -> None:
        self._config = config
        self._folder = folder
        self._show = show
        self._harden = hardening
        self._lost: str | None = None
        self._failed: RegaliaError | None = None  # why the engine ended and stays ended
        self._restarting = False
        self._restarts: Restarts | None = None
        self._serving = False
        self._stop_server: Callable[[], None] = lambda: None
        self._lock = threading.Lock()
        self._keys = ExitStack()  # model keys that are in use
        self._grants: list[Grant] = []  # the model's, then its adapter's
        self._writing = False  # whether the model is being written into memory
        self._ending = ending
        self._workload: Workload | None = None
        self.metrics = Metrics()
        self.checks: tuple[HardeningCheck, ...] = ()

    @property
    def leases(self) -> tuple[Lease, ...]:
        """Leases of the model and its adapter, as far as they were begun."""
        return tuple(grant.lease for grant in self._grants if grant.lease is not None)

    @property
    def workload(self) -> Workload:
        """The model and its engine, once the engine was chosen. Raises RuntimeError before."""
        if self._workload is None:
            raise RuntimeError("the engine is chosen during the start")
        return self._workload

    @property
    def weights_size(self) -> int:
        """Number of bytes of weights that are or were in memory."""
        return 0 if self._workload is None else self._workload.size

    def run(self, on_serving: Callable[[dict[str, object]], None]) -> None:
        """Start, serve until a signal arrives or the lease is lost, and wipe key and weights.

        The order matters: hardening precedes the first secret, and the address is bound before
        it so that a port in use is reported before any key is generated or requested.

        Args:
            on_serving: called once the runtime accepts clients, with facts about it to print.

        Raises:
            RegaliaError: a step of the start failed. Key and weights are already wiped.
            KeyAccessError: LEASE_LOST. Key and weights are already wiped.
            UnavailableError: ENGINE_PROCESS_FAILED. The engine's processes are gone, and were
                started again too often.
            PolicyDenied: RELEASE_DENIED, also of the key for an engine that is started again.
        """
        with ExitStack() as cleanup:
            cleanup.callback(self._end)
            announce_dangers(self._config, self._show)
            sock = bind(self._config.listen)
            cleanup.callback(sock.close)
            self.checks = self._harden()
            for check in self.checks:
                emit(
                    ServiceEvent.HARDENING,
                    name=check.name,
                    state=str(check.state),
                    why=check.detail,
                )
            identity = take_identity(self._config, self._folder)
            model, adapter = self._sealed_parts(identity, cleanup)
            log_key = identity.measured.log_key
            grant = Grant(model, log_key=log_key, show=self._show)
            other = None if adapter is None else Grant(adapter, log_key=log_key, show=self._show)
            self._workload = choose_workload(
                self._config, self._folder, on_failed=self._engine_failed
            )
            self._prepare(identity, grant, other)
            http = cleanup.enter_context(open_http())
            cleanup.callback(self._stop_restarts)  # before what they ask with is closed
            broker = BrokerClient(self._config.broker, http)
            self._receive(identity, broker, grant, other)
            self._serve(sock, identity, model.manifest, on_serving)
        if self._lost is not None:
            raise KeyAccessError(
                RuntimeCode.LEASE_LOST, f"the lease ended; last attempt: {self._lost}"
            )
        if self._failed is not None:
            raise self._failed

    # Keys and weights --------------------------------------------------------------------------

    def _sealed_parts(
        self, identity: Identity, cleanup: ExitStack
    ) -> tuple[SealedPart, SealedPart | None]:
        """The model, and the adapter that is to be merged into it, verified without their keys."""
        source = open_blobs(self._config, self._folder)
        cleanup.callback(source.close)
        model = SealedPart(source, read_manifest(source, identity), identity.attester)
        if not wants_adapter(self._config, identity):
            return model, None
        blobs = open_adapter_blobs(self._config, self._folder)
        cleanup.callback(blobs.close)
        manifest = read_adapter(blobs, identity, model.manifest)
        attester = replace(identity.attester, model_id=manifest.content.model_id)
        return model, SealedPart(blobs, manifest, attester)

    def _prepare(self, identity: Identity, model: Grant, adapter: Grant | None) -> None:
        """Find out all that can be known without a key, before anybody is asked for one."""
        self.workload.prepare(model.part.manifest, identity.measured.surfaces)
        if adapter is not None:
            merging = adapting(self.workload, self._config.engine.name)
            merging.prepare_adapter(adapter.part.manifest)

    def _receive(
        self, identity: Identity, broker: BrokerClient, model: Grant, adapter: Grant | None
    ) -> None:
        """Obtain the keys, load the weights and build the engine, all under running leases."""
        grants = [grant for grant in (model, adapter) if grant is not None]

        def start_again() -> None:
            self._require_lease()
            self._prepare(identity, model, adapter)
            for grant in grants:
                restarts.ask(partial(grant.ask_again, broker), self._require_lease)
            self._load(model, adapter)
            with self._lock:
                self._restarting = False
                self._serving = self._lost is None and self._failed is None

        restarts = self._restarts = Restarts(self._config.restart, start_again, self._give_up)
        for grant in grants:
            self._grants.append(grant)
            grant.obtain(broker, on_lost=self._lose, on_held=self._hold)
            self._require_lease()
        self._load(model, adapter)

    def _load(self, model: Grant, adapter: Grant | None) -> None:
        """Unwrap the keys, and load the weights with them."""
        with self._writers(model, adapter) as (key, adapter_key):
            source = WatchedBlobs(model.part.source, self._require_lease)
            if adapter is not None and adapter_key is not None:
                adapting(self.workload, self._config.engine.name).load_adapter(
                    WatchedBlobs(adapter.part.source, self._require_lease),
                    adapter.part.manifest,
                    adapter_key,
                )
            self.workload.load(source, model.part.manifest, key, self._require_lease)

    @contextmanager
    def _writers(
        self, model: Grant, adapter: Grant | None
    ) -> Iterator[tuple[SecretBytes, SecretBytes | None]]:
        """While keys are used, and weights are written.

        Raises:
            KeyAccessError: LEASE_LOST, whatever it was that failed for this reason.
        """
        with ExitStack() as keys:
            key = keys.enter_context(model.unwrap())
            other = None if adapter is None else keys.enter_context(adapter.unwrap())
            with self._lock:
                self._require_lease()
                self._keys, self._writing = keys.pop_all(), True
        try:
            yield key, other
        except Exception as exc:
            if self._lost is None or isinstance(exc, KeyAccessError):
                raise
            self._require_lease(cause=exc)
        finally:
            with self._lock:
                self._keys.close()
            # Weights that were written after the memory was wiped are wiped here. Nothing writes
            # any more, so only now it is true that they are gone.
            with self._lock:
                self._writing = False
                if self._lost is not None:
                    self._tell_wiped()

    def _require_lease(self, cause: Exception | None = None) -> None:
        if self._lost is not None:
            raise KeyAccessError(
                RuntimeCode.LEASE_LOST, f"the lease ended during the start: {self._lost}"
            ) from cause

    def _tell_wiped(self) -> None:
        self.workload.wipe()
        if self.workload.wiped:
            emit(ServiceEvent.WIPED, bytes=self.workload.size)

    def _hold(self) -> None:
        """Say how long all leases last. The leases' threads call this."""
        left_s = self._remaining_s()
        self.workload.hold(left_s)
        if self._ending is not None:
            self._ending.after(left_s + LEAVE_S)

    def _lose(self, why: str) -> None:
        """Stop serving and wipe the model after the lease ended. The lease's thread calls this."""
        with self._lock:
            self._lost = why
            self._serving = False
            self._keys.close()
            self.workload.wipe()
            emit(ServiceEvent.LEASE_LOST, why=why)
            if not self._writing:
                self._tell_wiped()
        _later(LINGER_S, self._stop_server)
        # Libraries keep copies on heaps of their own. The kernel takes them with the process.
        if self._ending is not None:
            _later(LEAVE_S, self._leave_now)

    def _remaining_s(self) -> float:
        """Seconds until the first of the leases ends."""
        return min((grant.remaining_s for grant in self._grants), default=0.0)

    def _engine_failed(self, why: str) -> None:
        """Start the engine again: its processes are gone, and the weights with them."""
        with self._lock:
            self._restarting = True
            self._serving = False
        if self._lost is not None:
            return
        if self.workload.wiped and self._restarts is not None:
            emit(ServiceEvent.WIPED, bytes=self.workload.size)
            self._restarts.engine_failed(why)
        else:
            self._give_up(UnavailableError(HostedCode.ENGINE_PROCESS_FAILED, f"{why}; it lives on"))

    def _give_up(self, error: RegaliaError) -> None:
        """Stop serving: the engine has ended and stays ended."""
        with self._lock:
            self._failed = error
            self._serving = False
        _later(LINGER_S, self._stop_server)

    def _stop_restarts(self) -> None:
        """Have no start of the engine run, or make anything, from now on."""
        if self._restarts is not None:
            self._restarts.stop()
            self.workload.wipe()
            self._restarts.join(RESTART_END_S)

    def _leave_now(self) -> None:
        self._show(f"LEASE_LOST: the lease ended: {self._lost}")
        if self._ending is not None:
            self._ending.now(KeyAccessError.exit_status)

    def _end(self) -> None:
        """Wipe the model at the end of ``run``, also after a failure."""
        for grant in self._grants:
            grant.stop()
        with self._lock:
            self._serving = False
            if self._workload is not None:
                self._workload.wipe()
        if self._ending is not None and self._lost is None:
            self._ending.never()
        self._give_back()
        emit(ServiceEvent.SERVICE_STOPPED, service="runtime")

    def _give_back(self) -> None:
        """Give back leases that run on, now that keys and weights are wiped: others may wait."""
        owed = [grant for grant in self._grants if grant.remaining_s]
        if not owed or self._lost is not None:
            return
        # A thread of its own: whatever the broker answers, and however slowly, the process ends.
        sending = threading.Thread(target=self._send_back, args=(owed,), daemon=True)
        sending.start()
        sending.join(RETURN_S)
        if sending.is_alive():
            emit(ServiceEvent.LEASE_NOT_RETURNED, code=CoreCode.PEER_UNREACHABLE.name)

    def _send_back(self, owed: list[Grant]) -> None:
        for grant in owed:
            try:
                with open_http(RETURN_S) as http:
                    BrokerClient(self._config.broker, http).give_back(grant.give_back())
            except RegaliaError as exc:
                emit(ServiceEvent.LEASE_NOT_RETURNED, code=exc.code.name)
            else:
                emit(ServiceEvent.LEASE_RETURNED)

    # Serving -----------------------------------------------------------------------------------

    def serving(self) -> bool:
        """Whether the model is loaded and the lease holds."""
        return self._serving

    def _serve(
        self,
        sock: socket.socket,
        identity: Identity,
        manifest: VerifiedManifest,
        on_serving: Callable[[dict[str, object]], None],
    ) -> None:
        app = self._build_app(identity, manifest)
        facts: dict[str, object] = {
            "listen": address_of(sock),
            "model": self._config.served_name,
            "model_id": identity.measured.model_id,
            "model_version": manifest.content.version,
            "simulated_tee": identity.attester.source.simulated,
            "lease_s": round(self._remaining_s()),
            **self.workload.facts(),
            "hardening": [
                {"name": c.name, "state": str(c.state), "why": c.detail} for c in self.checks
            ],
        }
        if identity.measured.adapters:
            facts["adapter"] = ", ".join(identity.measured.adapters)

        def ready(stop: Callable[[], None]) -> None:
            # Under the lock of ``_lose``: the lease may end at this very moment, and a late
            # ``_serving = True`` would then serve wiped weights.
            with self._lock:
                self._stop_server = stop
                stays = self._lost is None and self._failed is None
                self._serving = stays and not self._restarting
            if stays:
                emit(ServiceEvent.SERVICE_STARTED, service="runtime", listen=address_of(sock))
                on_serving(facts)
            else:
                stop()

        try:
            serve(app, sock, drain_s=self._config.limits.drain_s, on_ready=ready)
        finally:
            self.workload.shut()

    def _build_app(self, identity: Identity, manifest: VerifiedManifest) -> ASGIApp:
        from regalia.runtime.outer import Outside, build_outer
        from regalia.runtime.sealed import SealedGateway

        limits = self._config.limits
        version = manifest.content.version
        inner = self.workload.app(
            InnerParts(
                callers=Callers(self._config.callers),
                metrics=self.metrics,
                fingerprint=identity.measured.model_id,
                started=int(time.time()),
                serving=self.serving,
            )
        )

        def evidence(challenge: bytes) -> ServingEvidence:
            return identity.attester.for_client(
                challenge, model_version=version, release=self._grants[0].proof
            )

        def refresh() -> None:
            self.metrics.waiting.set(self.workload.waiting)
            self.metrics.lease_remaining.set(self._remaining_s())
            self.metrics.lease_renewals.set(sum(lease.renewals for lease in self.leases))

        gateway = SealedGateway(
            identity.attester.keys.serving,
            inner,
            ReplayMemory(system_clock),
            self.metrics,
            gateway_limits(limits),
            serving=self.serving,
        )
        outside = Outside(
            evidence,
            self.metrics,
            parallel=limits.evidence_parallel,
            serving=self.serving,
            refresh=refresh,
        )
        return build_outer(outside, gateway)
