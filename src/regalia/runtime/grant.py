"""One model key that the runtime asks for, and the lease that it is held under.

A runtime has one grant for its model, and another for the adapter that is merged into it. Each is
released, logged and leased on its own.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from regalia.host.events import ServiceEvent, emit
from regalia.runtime.broker import BrokerBusyError
from regalia.runtime.lease import Lease, since_boot
from regalia.runtime.release import accept, exchange, give_back, unwrap

if TYPE_CHECKING:
    from collections.abc import Callable

    from regalia.core.secret import SecretBytes
    from regalia.core.weights import BlobSource
    from regalia.runtime.attester import Attester
    from regalia.runtime.broker import BrokerClient
    from regalia.runtime.release import AcceptedRelease
    from regalia.seal.manifest import VerifiedManifest
    from regalia.wire.release import LeaseReturn, LogProof

BUSY_PAUSES_S = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 30.0, 30.0)  # before a busy broker is asked again


@dataclass(frozen=True, slots=True)
class SealedPart:
    """What is sealed under one model key: the model, or its adapter.

    Attributes:
        source: store of the ciphertext, untrusted.
        manifest: verified with the measured owner key.
        attester: makes evidence for this part's model id.
    """

    source: BlobSource
    manifest: VerifiedManifest
    attester: Attester


class Grant:
    """The key of one part, from the first request to the return of its lease.

    Args:
        part: what the key opens.
        log_key: verifier key of the trusted log, from the measured configuration.
        show: prints one line for the operator.
    """

    def __init__(self, part: SealedPart, *, log_key: str, show: Callable[[str], None]) -> None:
        self.part = part
        self._log_key = log_key
        self._show = show
        self._first: AcceptedRelease | None = None  # which the lease began with
        self._latest: AcceptedRelease | None = None  # which the key is unwrapped from
        self._ends_at = 0.0  # by ``since_boot``
        self.lease: Lease | None = None
        self.proof: LogProof | None = None  # of the latest renewal

    @property
    def remaining_s(self) -> float:
        """Seconds until the lease ends; 0 if it has ended, or was not begun.

        It takes no lock, so that the threads of one lease may look at another one.
        """
        return max(0.0, self._ends_at - since_boot())

    def obtain(
        self,
        broker: BrokerClient,
        *,
        on_lost: Callable[[str], None],
        on_held: Callable[[], None],
    ) -> None:
        """Ask for the key, and watch over its lease from then on. Unwraps no key.

        Args:
            broker: client of the broker, which need not be trusted.
            on_lost: as ``Lease`` has it.
            on_held: called at the start and after each renewal.

        Raises:
            As ``exchange`` and ``accept``.
        """
        accepted, asked_at = self._first_release(broker)
        self._first = self._latest = accepted
        lease_id = accepted.response.lease_id
        emit(
            ServiceEvent.KEY_RECEIVED,
            model=str(self.part.attester.model_id),
            lease=lease_id,
            lease_s=accepted.response.lease_s,
            log_index=accepted.logged.index,
        )

        def renew() -> float:
            renewed = self._ask(broker, lease_id)
            emit(ServiceEvent.LEASE_RENEWED, lease=lease_id, log_index=renewed.logged.index)
            return float(renewed.response.lease_s)

        def held(left_s: float) -> None:
            self._ends_at = since_boot() + left_s
            on_held()

        self.lease = Lease(
            float(accepted.response.lease_s),
            asked_at,
            renew=renew,
            on_lost=on_lost,
            on_held=held,
        )
        self.lease.start()

    def ask_again(self, broker: BrokerClient) -> None:
        """Renew the lease, for the key in the answer: no other one was kept.

        The broker appraises fresh evidence and releases the key again.

        Args:
            broker: client of the broker, which need not be trusted.

        Raises:
            As ``exchange`` and ``accept``.
        """
        self._latest = self._ask(broker, _obtained(self._first).response.lease_id)

    def unwrap(self) -> SecretBytes:
        """Decrypt the model key. The caller closes it. Raises KeyAccessError."""
        attester = self.part.attester
        return unwrap(_obtained(self._latest), attester.keys, attester.model_id)

    def give_back(self) -> LeaseReturn:
        """The message that ends the lease, once key and weights are wiped."""
        attester = self.part.attester
        return give_back(_obtained(self._first), attester.keys.release, attester.model_id)

    def stop(self) -> None:
        """End the lease's threads, if there are any."""
        if self.lease is not None:
            self.lease.stop()

    def _ask(self, broker: BrokerClient, lease_id: str | None) -> AcceptedRelease:
        """Attest, request a release and verify its log proof."""
        done = exchange(
            broker,
            self.part.attester,
            log_key=self._log_key,
            model_version=self.part.manifest.content.version,
            lease_id=lease_id,
        )
        accepted = accept(done, log_key=self._log_key)
        # Clients get the proof of the latest renewal, as they check that its lease still runs.
        self.proof = accepted.response.log
        return accepted

    def _first_release(self, broker: BrokerClient) -> tuple[AcceptedRelease, float]:
        """Ask for the key, again and again for some minutes if the broker is busy.

        Returns:
            The release, and the moment before it was asked for, so that the lease never ends too
            late.
        """
        for pause in (*BUSY_PAUSES_S, None):
            asked_at = since_boot()
            try:
                return self._ask(broker, None), asked_at
            except BrokerBusyError as busy:
                if pause is None:
                    raise
                emit(ServiceEvent.BROKER_BUSY, again_s=pause)
                self._show(f"{busy.what}; asking again in {pause:g} s")
                time.sleep(pause)
        raise RuntimeError("the last attempt returns or raises")


def _obtained(release: AcceptedRelease | None) -> AcceptedRelease:
    if release is None:
        raise RuntimeError("a key is used once it was obtained")
    return release
