"""A broker, a client and runtimes around any kind of machine. No sockets.

deployment = MachineDeployment(folder, shared, keys, machine)
deployment.release(deployment.attester())            a whole release, as a runtime does it
deployment.ask(deployment.attester(defects))           one answer of the broker, whatever it is
deployment.appraise(deployment.serving(...))         what a client makes of the runtime
"""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import httpx
import msgspec

from regalia.appraisal.pki import Cache
from regalia.client.trust import ClientTrust
from regalia.client.verify import appraise_runtime
from regalia.core.codec import b64, unb64
from regalia.core.types import Digest, ModelId, PolicyId
from regalia.host.clock import system_clock
from regalia.policy.pin import OwnerChoices, pin_client, pin_release
from regalia.runtime.attester import Attester
from regalia.runtime.broker import BrokerClient
from regalia.runtime.release import accept, exchange, unwrap
from regalia.wire.evidence import NO_DEVICES, Binding, Role
from regalia.wire.release import ReleaseRequest, device_names
from regalia_testing.source_composite import CompositeSource
from tests.broker.harness import Deployment

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path

    from regalia.appraisal.claims import Claims
    from regalia.client.verify import VerifiedRuntime
    from regalia.policy.documents import ReleasePolicy
    from regalia.runtime.keys import RuntimeKeys
    from regalia.runtime.release import AcceptedRelease
    from regalia.wire.evidence import Evidence, EvidenceSource
    from regalia.wire.release import ChallengeResponse
    from regalia.wire.runtime_config import RuntimeConfig
    from regalia_testing.machines import SimulatedMachine
    from regalia_testing.tees.nvidia.simulator import NvidiaSimulator
    from tests.broker.harness import Shared

PIN_CHALLENGE = hashlib.sha256(b"a challenge of the owner's").digest()
OTHER_MODEL = ModelId(hashlib.sha256(b"another model").digest())


class InProcess(httpx.BaseTransport):
    """Carries a runtime's requests to the broker's application."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        async def call() -> tuple[int, bytes]:
            app = httpx.ASGITransport(self._deployment.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=app) as client:
                answer = await client.post(str(request.url), content=request.content)
                return answer.status_code, answer.content

        status, content = asyncio.run(call())
        return httpx.Response(status, stream=httpx.ByteStream(content))


class MachineDeployment(Deployment):
    """The broker's deployment, for one machine. Time goes on by itself.

    Attributes:
        others: further machines whose roots broker and clients trust; the policy knows none.
    """

    def __init__(
        self,
        folder: Path,
        shared: Shared,
        keys: RuntimeKeys,
        machine: SimulatedMachine,
        *,
        others: tuple[SimulatedMachine, ...] = (),
        **options: Any,  # noqa: ANN401
    ) -> None:
        self.keys, self.machine = keys, machine
        self._late = timedelta()
        self._trusted = replace(machine.verifier(*others), cache=Cache())
        super().__init__(folder, shared, **options)

    @property
    def now(self) -> datetime:
        return system_clock() + self._late

    @now.setter
    def now(self, value: datetime) -> None:
        self._late = value - system_clock()

    def verifier(self) -> Any:  # noqa: ANN401 - a Verifier
        return self._trusted

    # -- the owner ----------------------------------------------------------------------------

    def choices(self) -> OwnerChoices:
        return OwnerChoices(
            name="test", version=5, model_id=self.model_id, model_version_minimum=1,
            owner_key=self.shared.owner.verify_key.fingerprint, challenge_max_age_s=60,
            holders_max=2, lease_s=600, custody=("broker",), approvals_threshold=0,
            approvers=(), pin_chip=True, pin_host_data=True,
        )  # fmt: skip

    def known_good(self) -> Claims:
        """Of this machine, which the owner has looked at."""
        policy_id = PolicyId(bytes(PolicyId.SIZE))
        attester = self.attester()
        evidence = attester.for_release(
            challenge=PIN_CHALLENGE, audience="owner", policy_id=policy_id
        )
        expected = Binding(
            role=Role.RELEASE,
            audience="owner",
            challenge=PIN_CHALLENGE,
            hpke_public_key=self.keys.release.public_key,
            wrap_public_key=self.keys.wrap_public,
            model_id=self.model_id,
            policy_id=policy_id,
            device_evidence=Digest(NO_DEVICES),
        )
        return self._trusted.verify(
            evidence, expected=expected, rule=self.machine.rule, now=self.now
        )

    def make_policy(self, **changes: Any) -> ReleasePolicy:  # noqa: ANN401
        self.claims = self.known_good()
        pinned = pin_release(self.claims, self.runtime_config(), self.choices(), now=self.now)
        return msgspec.structs.replace(pinned, **changes)

    def known_good_devices(self) -> list[str]:
        """As records list them."""
        return device_names(self.claims.devices)

    # -- the runtime --------------------------------------------------------------------------

    def attester(
        self,
        defect: str | None = None,
        *,
        devices: NvidiaSimulator | None = None,
        machine: SimulatedMachine | None = None,
        measured: RuntimeConfig | None = None,
        model_id: ModelId | None = None,
        keys: RuntimeKeys | None = None,
    ) -> Attester:
        """A runtime that can attest; healthy but for what is given.

        Args:
            defect: one of the machine's.
            devices: in place of those that the machine has.
            machine: another one.
            measured: another configuration, which is really what it was measured with.
            model_id: another model.
            keys: its own.
        """
        source: EvidenceSource = (machine or self.machine).open(defect)
        if devices is not None:
            cpu = source.cpu if isinstance(source, CompositeSource) else source
            defects = {"defects": source.defects} if isinstance(source, CompositeSource) else {}
            source = CompositeSource(cpu, devices, **defects)
        config = measured or self.runtime_config()
        return Attester(source, config.encode(), keys or self.keys, model_id or self.model_id)

    def broker_client(self) -> BrokerClient:
        return BrokerClient("http://broker", httpx.Client(transport=InProcess(self)))

    def release(self, attester: Attester, *, lease_id: str | None = None) -> Released:
        """The runtime's own code, from its question to the opened key.

        Raises:
            PolicyDenied: as a runtime is told.
        """
        done = exchange(
            self.broker_client(),
            attester,
            log_key=self.shared.log_key,
            model_version=3,
            lease_id=lease_id,
        )
        accepted = accept(done, log_key=self.shared.log_key)
        with unwrap(accepted, attester.keys, attester.model_id) as key:
            return Released(accepted, done.evidence, bytes(key.view()))

    def collected(self, attester: Attester, asked: ChallengeResponse) -> Evidence:
        return attester.for_release(
            challenge=unb64(asked.challenge, what="challenge"),
            audience=asked.audience,
            policy_id=PolicyId.parse(asked.policy_id),
        )

    def request_of(
        self,
        attester: Attester,
        asked: ChallengeResponse,
        evidence: Evidence,
        **changes: Any,  # noqa: ANN401 - fields of a request
    ) -> dict[str, Any]:
        request = ReleaseRequest(
            challenge=asked.challenge,
            model_id=str(self.model_id),
            model_version=3,
            policy_id=asked.policy_id,
            hpke_public_key=b64(attester.keys.release.public_key),
            wrap_public_key=b64(attester.keys.wrap_public),
            evidence=b64(evidence.encode()),
            lease_id=None,
        )
        fields: dict[str, Any] = msgspec.to_builtins(request)
        return fields | changes

    def codes(
        self,
        attester: Attester,
        change: Callable[[Evidence], Evidence] = lambda evidence: evidence,
        **changes: Any,  # noqa: ANN401 - fields of a request
    ) -> list[str]:
        """Ask for the key; demand a logged denial and an untouched key store; say why."""
        asked = self.challenge()
        evidence = change(self.collected(attester, asked))
        request = self.request_of(attester, asked, evidence, **changes)
        return self.denied(self.post("/v1/release", request))

    # -- the client ---------------------------------------------------------------------------

    def trust(self) -> ClientTrust:
        policy = pin_client(self.claims, self.runtime_config(), self.choices(), now=self.now)
        return ClientTrust(policy=policy, verifier=self._trusted, clock=lambda: self.now)

    def appraise(
        self,
        attester: Attester,
        released: Released,
        *,
        challenge: bytes = PIN_CHALLENGE,
        asked_with: bytes = PIN_CHALLENGE,
    ) -> VerifiedRuntime:
        """What a client makes of a runtime that was asked with ``asked_with``."""
        serving = attester.for_client(
            asked_with, model_version=3, release=released.accepted.logged.proof
        )
        return self.appraise_bytes(serving.encode(), challenge=challenge)

    def appraise_bytes(
        self, serving: bytes, *, challenge: bytes = PIN_CHALLENGE
    ) -> VerifiedRuntime:
        now = self.now
        return appraise_runtime(serving, challenge, self.trust(), asked=now, now=now)


@dataclass(frozen=True)
class Released:
    """What a runtime got."""

    accepted: AcceptedRelease
    evidence: Evidence
    model_key: bytes
