"""What the thieves work with: the unprotected server, a naive broker, and a way to know success."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx

from regalia.core.codec import b64, unb64
from regalia.core.errors import RegaliaError
from regalia.core.secret import SecretBytes
from regalia.core.types import PolicyId
from regalia.crypto import hpke
from regalia.host.localfs import read_file, read_private_file
from regalia.keys.devfile import open_store
from regalia.runtime.broker import BrokerClient
from regalia.seal.manifest import ANY_SIGNER, verify_manifest
from regalia.seal.reader import open_sealed
from regalia.store.local import LocalBlobs
from regalia.wire.evidence import CHALLENGE_SIZE
from regalia.wire.release import ReleaseRequest, release_info
from regalia.wire.runtime_config import parse_runtime_config
from regalia_demo.deployment import KEK, SERVED_NAME
from regalia_demo.naive import SignatureOnlyBroker
from regalia_demo.processes import DemoService

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from regalia.core.types import ModelId
    from regalia.runtime.keys import RuntimeKeys
    from regalia.seal.manifest import VerifiedManifest
    from regalia.wire.evidence import Evidence
    from regalia.wire.release import ChallengeResponse
    from regalia_demo.deployment import Deployment
    from regalia_testing.tees.snp.simulator import SnpSimulator

AnyBroker = BrokerClient | SignatureOnlyBroker
_MANIFEST_LIMIT = 24 << 20
_PROBE = 4 << 20  # bytes of the model that a thief decrypts to prove that the key is right


@dataclass
class Attacker:
    """The thieves' testbed."""

    deployment: Deployment
    platform: SnpSimulator
    manifest: VerifiedManifest
    plain: DemoService
    naive: SignatureOnlyBroker
    real: BrokerClient

    @property
    def model_id(self) -> ModelId:
        """The model they are after."""
        return self.manifest.content.model_id

    def measured(self) -> bytes:
        """The measured runtime configuration, which is no secret."""
        data = read_file(self.deployment.root / "runtime" / "measured.json", limit=1 << 16)
        parse_runtime_config(data)
        return data

    def owner_key(self) -> SecretBytes:
        """The model key, from the owner's own key store."""
        return owner_recovers_key(self.deployment, self.manifest)

    def opens_model(self, key: SecretBytes) -> bool:
        """Whether this key decrypts the sealed model in the store."""
        try:
            blobs = LocalBlobs(self.deployment.root / "store")
            reader = open_sealed(blobs, self.manifest, key)
            piece = memoryview(bytearray(min(_PROBE, reader.stream_size)))
            reader.read_range(0, piece)
        except RegaliaError:
            return False
        return any(piece)

    def ask(
        self, broker: AnyBroker, keys: RuntimeKeys, make_evidence: Callable[..., Evidence]
    ) -> SecretBytes:
        """Ask a broker for the model key, with whatever evidence the thief has made.

        Raises what the broker refuses with.
        """
        asked = broker.challenge(self.model_id)
        request = ReleaseRequest(
            challenge=asked.challenge,
            model_id=str(self.model_id),
            model_version=self.manifest.content.version,
            policy_id=asked.policy_id,
            hpke_public_key=b64(keys.release.public_key),
            wrap_public_key=b64(keys.wrap_public),
            evidence=b64(make_evidence(asked).encode()),
            lease_id=None,
        )
        answer = broker.release(request)
        info = release_info(
            model_id=str(self.model_id), lease_id=answer.lease_id, record_index=answer.log.index
        )
        return hpke.open_secret(
            keys.release,
            unb64(answer.encapsulated_key, what="enc"),
            info,
            b"",
            unb64(answer.wrapped_key, what="key"),
        )


def challenge_of(asked: ChallengeResponse) -> tuple[bytes, str, PolicyId]:
    """Challenge, audience and policy, as a binding wants them."""
    challenge = unb64(asked.challenge, what="challenge", size=CHALLENGE_SIZE)
    return challenge, asked.audience, PolicyId.parse(asked.policy_id)


def owner_recovers_key(deployment: Deployment, manifest: VerifiedManifest) -> SecretBytes:
    """The owner's own copy of the model key: the naive broker has it in a configuration file."""
    phrase = SecretBytes(
        bytearray(read_private_file(deployment.passphrase, limit=4096).rstrip(b"\n"))
    )
    with phrase, open_store(deployment.key_store, phrase) as store:
        return store.recover_for_owner(
            KEK, manifest.wrapped_key.blob, manifest.content.wrap_context()
        )


def start_unprotected(deployment: Deployment, address: str, folder: Path) -> DemoService:
    """A plaintext model behind a plain server, as a process of its own."""
    log = deployment.root / "logs" / "unprotected.log"
    with log.open("ab") as output:
        process = subprocess.Popen(  # noqa: S603 - our own module
            [
                *(sys.executable, "-m", "regalia_demo.unprotected"),
                *(str(folder), address, SERVED_NAME),
            ],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    return DemoService("unprotected", process, log, f"http://{address}")


def set_up(deployment: Deployment, platform: SnpSimulator, plain: DemoService) -> Attacker:
    """Have everything that the attacks need."""
    data = read_file(deployment.root / "store" / "manifest.json", limit=_MANIFEST_LIMIT)
    manifest = verify_manifest(data, signers=ANY_SIGNER, minimum_version=1)
    http = deployment.services.enter_context(httpx.Client(timeout=60))
    return Attacker(
        deployment=deployment,
        platform=platform,
        manifest=manifest,
        plain=plain,
        naive=SignatureOnlyBroker(platform, owner_recovers_key(deployment, manifest)),
        real=BrokerClient(f"http://{deployment.broker_address}", http),
    )
