"""A whole release in one process: owner, simulated platform, broker, runtime. No sockets.

    deployment = Deployment(folder, shared)              everything healthy
    deployment.ask()                                one release through HTTP, as a runtime does it
    deployment.ask(Deviation(role=Role.SERVE))      the same with one thing wrong
    deployment.records()                            what the log says, verified

The heavy parts (RSA keys, the key store's KDF) are made once, in ``Shared``.
"""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import httpx
import msgspec
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from regalia.appraisal.appraisal_context import AppraisalContext
from regalia.appraisal.pki import Cache
from regalia.broker.administration import Administration
from regalia.broker.app import create_app
from regalia.broker.appraise import Appraiser
from regalia.broker.assemble import read_collateral
from regalia.broker.challenges import ChallengeStore
from regalia.broker.config import LimitsSection
from regalia.broker.denials import DenialCounter
from regalia.broker.floors import FloorStore
from regalia.broker.leases import LeaseStore
from regalia.broker.metrics import Metrics
from regalia.broker.models import ModelFiles, by_id, load_model
from regalia.broker.peers import Peers
from regalia.broker.proposals import ProposalStore
from regalia.broker.reconcile import begin
from regalia.broker.service import Broker
from regalia.broker.state import create_tables
from regalia.broker.statement_floors import StatementFloors
from regalia.broker.tenants import Tenants
from regalia.broker.watermarks import LogWatch
from regalia.core.codec import b64, canonical_json, unb64
from regalia.core.secret import SecretBytes
from regalia.core.types import Digest, ModelId, PolicyId
from regalia.crypto import dsse, hpke
from regalia.crypto.sign import SigningKey
from regalia.host.clock import system_clock
from regalia.keys.devfile import create_store
from regalia.policy.pin import OwnerChoices, pin_release
from regalia.policy.signed import sign_release_policy
from regalia.seal.format.manifest import PAYLOAD_TYPE, Manifest, SealedFile
from regalia.seal.format.sealed import (
    INDEX_PADDING,
    STRIDE,
    Geometry,
    SealId,
    WrappedKey,
    stored_size,
    wrap_context,
)
from regalia.tees.snp.evidence.plugin import SNP
from regalia.tlog.audit import audit_log
from regalia.tlog.database import open_engine
from regalia.tlog.log import Log
from regalia.tlog.note import parse_log_key, verifier_key_text
from regalia.tlog.source import DatabaseSource
from regalia.tlog.verify import verify_proof
from regalia.verifier.verifier import Verifier
from regalia.wire.evidence import NO_DEVICES, Binding, Role
from regalia.wire.release import (
    ChallengeResponse,
    LogNotice,
    Refusal,
    ReleaseRecord,
    ReleaseRequest,
    ReleaseResponse,
    release_info,
)
from regalia.wire.runtime_config import FORMAT as CONFIG_FORMAT
from regalia.wire.runtime_config import Placement, RuntimeConfig
from regalia.wire.statement import LogStatement
from regalia_testing.anchors import simulated_anchors
from regalia_testing.tees.snp.authority import SnpKeys
from regalia_testing.tees.snp.defects import HEALTHY
from regalia_testing.tees.snp.simulator import SnpSimulator
from regalia_testing.testbed import REQUIRED
from regalia_testing.verify import verify_fresh
from tests.broker.config_files import write_config
from tests.broker.spy_store import SpyStore

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from regalia.crypto.hpke import KemKeyPair
    from regalia.keys.base import KeyStore
    from regalia.policy.documents import ReleasePolicy
    from regalia.wire.evidence import Evidence
    from regalia.wire.release import LogEntry
    from regalia_testing.tees.snp.defects import SnpDefects

ORIGIN = "log.example/regalia"
MEASUREMENT = hashlib.sha384(b"the accepted image").digest()
MODEL_KEY = hashlib.sha256(b"the model key").digest()


def wrap_key(label: str, *, bits: int = 3072, exponent: int = 65537) -> bytes:
    """A public key that can be parsed; nobody has its private half."""
    modulus = int.from_bytes(hashlib.shake_256(label.encode()).digest(bits // 8), "big")
    modulus |= 1 | 1 << (bits - 1)
    key = RSAPublicNumbers(exponent, modulus).public_key()
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


WRAP_KEY = wrap_key("a runtime's")
KEK = "model"


class Shared:
    """What is slow to make and may be used by every test: nothing in it changes."""

    def __init__(self, folder: Path) -> None:
        self.passphrase = b"correct horse"
        self.store_path = folder / "keys.json"
        with SecretBytes(bytearray(self.passphrase)) as passphrase:
            self.store = create_store(self.store_path, passphrase)
        self.store.add_kek(KEK)
        self.platform = SnpSimulator.create(
            folder / "platform", now=system_clock(), keys=SnpKeys.generate()
        )
        self.owner = SigningKey.generate_ed25519()
        self.log_signer = SigningKey.generate_ed25519()
        self.log_key = verifier_key_text(ORIGIN, self.log_signer.verify_key)


@dataclass(frozen=True, kw_only=True)
class Deviation:
    """What one request does differently from a healthy runtime."""

    defects: SnpDefects = HEALTHY
    role: Role = Role.RELEASE
    audience: str | None = None
    bound_key: bytes | None = None  # evidence is over another HPKE key than the request's
    bound_policy: PolicyId | None = None
    bound_model: ModelId | None = None
    bound_devices: Digest = field(default_factory=lambda: Digest(NO_DEVICES))
    measurement: bytes = MEASUREMENT
    platform: SnpSimulator | None = None
    config: RuntimeConfig | None = None
    evidence: bytes | None = None  # instead of fresh evidence: a replay, or rubbish
    request: dict[str, Any] = field(default_factory=dict)  # fields of the request
    wait_s: float = 0  # between challenge and request


HEALTHY_RUNTIME = Deviation()


class Deployment:
    """Everything around one broker. ``now`` is the time for all of it."""

    def __init__(
        self,
        folder: Path,
        shared: Shared,
        *,
        version: int = 3,
        limits: LimitsSection | None = None,
        policy: dict[str, Any] | None = None,
        store: KeyStore | None = None,
    ) -> None:
        self.folder = folder
        self.shared = shared
        self.now: datetime = system_clock() + timedelta(seconds=1)
        self.limits = limits or LimitsSection(peer_refusals=1000, denials_logged=1000)
        self.peer = "192.0.2.1"  # address that requests come from
        self.store = SpyStore(store or shared.store)
        self.wrap_key = WRAP_KEY  # of the runtime
        self.open_databases()
        self.model_id = ModelId(hashlib.sha256(b"the model's files").digest())
        self.manifest = self.make_manifest(version)
        self.policy = self.make_policy(**(policy or {}))
        self.key: KemKeyPair = hpke.generate_keypair(hpke.Kem.X_WING)
        self.approvals: dict[str, bytes] = {}
        self.approvers: tuple[SigningKey, ...] = ()
        self.charters: dict[str, Digest] = {}  # tenants of this broker
        self.tenant: str | None = None  # of the model
        self.metrics = Metrics()
        self.restart()

    # -- the owner ----------------------------------------------------------------------------

    def make_manifest(self, version: int) -> bytes:
        """A signed manifest whose wrapped key is real; its shards are never read here."""
        seal_id = SealId(hashlib.sha256(b"seal %d" % version).digest())
        context = wrap_context(self.model_id, version, seal_id)
        with SecretBytes(bytearray(MODEL_KEY)) as key:
            blob = self.store.wrap(KEK, key, context)
        nothing = Digest.of(b"")
        manifest = Manifest(
            seal_id=seal_id,
            model_id=self.model_id,
            version=version,
            geometry=Geometry(STRIDE, 1, 0),
            signer=self.shared.owner.verify_key.spki,
            wrapped_key=WrappedKey(kek=KEK, algorithm=self.store.wrap_algorithm, blob=blob),
            index=SealedFile(stored_size(INDEX_PADDING, STRIDE), nothing, nothing),
            shards=(SealedFile(stored_size(0, STRIDE), nothing, nothing),),
        )
        return dsse.sign(PAYLOAD_TYPE, manifest.encode(), (self.shared.owner,)).encode()

    def make_policy(self, **changes: Any) -> ReleasePolicy:  # noqa: ANN401
        """A policy pinned from a healthy platform, then changed."""
        choices = OwnerChoices(
            name="test",
            version=5,
            model_id=self.model_id,
            model_version_minimum=1,
            owner_key=self.shared.owner.verify_key.fingerprint,
            challenge_max_age_s=60,
            holders_max=2,
            lease_s=600,
            custody=(self.store.custody,),
            approvals_threshold=0,
            approvers=(),
            pin_chip=True,
            pin_host_data=True,
        )
        config, report_data = self.runtime_config(), b"r" * 64
        platform = self.shared.platform
        claims = verify_fresh(
            SNP,
            platform.evidence(report_data, measurement=MEASUREMENT, runtime_config=config.encode()),
            anchors=platform.anchors(),
            collateral=platform.collateral(),
            report_data=report_data,
            at=AppraisalContext(now=self.now, rule=REQUIRED, cache=Cache()),
        )
        pinned = pin_release(claims, config, choices, now=self.now)
        return msgspec.structs.replace(pinned, **changes)

    def runtime_config(self) -> RuntimeConfig:
        """What the healthy runtime was measured with."""
        return RuntimeConfig(
            format=CONFIG_FORMAT,
            model_id=str(self.model_id),
            owner_key=str(self.shared.owner.verify_key.fingerprint),
            log_key=self.shared.log_key,
            placement=Placement(region="eu", site="one", tier="own"),
            egress=[],
        )

    # -- the broker ---------------------------------------------------------------------------

    def model_files(self, **changes: Any) -> ModelFiles:  # noqa: ANN401
        fields: dict[str, Any] = {
            "manifest": self.manifest,
            "policy": sign_release_policy(self.policy, (self.shared.owner,)),
            "owner_keys": (self.shared.owner.verify_key,),
            "owner_threshold": 1,
            "approvals": self.approvals,
            "approver_keys": tuple(key.verify_key for key in self.approvers),
            "tenant": self.tenant,
        }
        return ModelFiles(**(fields | changes))

    def verifier(self) -> Verifier:
        """What this broker trusts."""
        return Verifier(
            simulated_anchors((self.shared.platform.ark,)),
            read_collateral(self.shared.platform.collateral_directory),
        )

    def open_databases(self) -> None:
        """Open the files as they are now, which may be copies that somebody put back."""
        self.log_engine = open_engine(f"sqlite:///{self.folder}/log.db")
        self.state_engine = open_engine(f"sqlite:///{self.folder}/state.db")
        self.log = Log(self.log_engine, origin=ORIGIN, key=self.shared.log_signer)

    def restart(self) -> None:
        """A new broker on the same databases, with the current manifest and policy."""
        create_tables(self.state_engine)
        model = load_model(self.model_files(), store=self.store, log_key=self.log.log_key)
        seen = begin(self.state_engine, self.log, self.now)
        floors = FloorStore(self.state_engine)
        floors.adopt(model.versions)
        leases = LeaseStore(self.state_engine)
        peers, seen_log = self.peers_of(leases), LogWatch(self.state_engine)
        self.broker = Broker(
            models=by_id((model,)),
            appraiser=Appraiser(
                verifier=self.verifier(),
                audience=ORIGIN,
            ),
            challenges=ChallengeStore(
                self.state_engine,
                key=seen.challenge_key,
                audience=ORIGIN,
                ttl_s=self.limits.challenge_ttl_s,
            ),
            leases=leases,
            peers=peers,
            administration=Administration(
                tenants=Tenants(self.log, self.charters, StatementFloors(self.state_engine)),
                proposals=ProposalStore(self.state_engine),
                log=self.log,
                seen=seen_log,
                peers=peers,
                clock=lambda: self.now,
            ),
            denials=DenialCounter(self.limits.denials_logged),
            floors=floors,
            log=self.log,
            seen=seen_log,
            keys=self.store,
            clock=lambda: self.now,
            watch=self.metrics,
        )
        self.app = create_app(self.broker, self.metrics, self.limits)

    def peers_of(self, leases: LeaseStore) -> Peers:
        return Peers(self.limits.peer_refusals, leases.held(self.now))

    def close(self) -> None:
        self.log_engine.dispose()
        self.state_engine.dispose()

    def pass_time(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    # -- the network --------------------------------------------------------------------------

    def scrape(self) -> str:
        """The metrics as they are now."""
        self.metrics.forget_rendered()
        return self.http("GET", "/metrics").text

    def http(self, method: str, path: str, **options: Any) -> httpx.Response:  # noqa: ANN401
        async def call() -> httpx.Response:
            transport = httpx.ASGITransport(
                self.app, raise_app_exceptions=False, client=(self.peer, 40_000)
            )
            async with httpx.AsyncClient(transport=transport, base_url="http://broker") as client:
                return await client.request(method, path, **options)

        return asyncio.run(call())

    def post(self, path: str, message: object) -> httpx.Response:
        return self.http("POST", path, content=canonical_json(message))

    # -- the runtime --------------------------------------------------------------------------

    def challenge(self) -> ChallengeResponse:
        answer = self.post("/v1/challenge", {"model_id": str(self.model_id)})
        assert answer.status_code == 200, answer.text
        return self.parse_challenge(answer.content)

    def parse_challenge(self, answer: bytes) -> ChallengeResponse:
        return msgspec.json.decode(answer, type=ChallengeResponse)

    def evidence(
        self, asked: ChallengeResponse, deviation: Deviation = HEALTHY_RUNTIME
    ) -> Evidence:
        """Fresh evidence for a challenge, from the simulated platform."""
        binding = Binding(
            role=deviation.role,
            audience=asked.audience if deviation.audience is None else deviation.audience,
            challenge=unb64(asked.challenge, what="challenge"),
            hpke_public_key=deviation.bound_key or self.key.public_key,
            wrap_public_key=self.wrap_key,
            model_id=deviation.bound_model or self.model_id,
            policy_id=deviation.bound_policy or PolicyId.parse(asked.policy_id),
            device_evidence=deviation.bound_devices,
        )
        platform = deviation.platform or self.shared.platform
        return platform.evidence(
            binding.report_data(),
            measurement=deviation.measurement,
            runtime_config=(deviation.config or self.runtime_config()).encode(),
            defects=deviation.defects,
        )

    def request(
        self, asked: ChallengeResponse, deviation: Deviation = HEALTHY_RUNTIME
    ) -> dict[str, Any]:
        evidence = deviation.evidence or self.evidence(asked, deviation).encode()
        request = ReleaseRequest(
            challenge=asked.challenge,
            model_id=str(self.model_id),
            model_version=3,
            policy_id=asked.policy_id,
            hpke_public_key=b64(self.key.public_key),
            wrap_public_key=b64(self.wrap_key),
            evidence=b64(evidence),
            lease_id=None,
        )
        fields: dict[str, Any] = msgspec.to_builtins(request)
        return fields | deviation.request

    def guest(self, number: int) -> SnpSimulator:
        """Another guest on the same chip: the firmware gave it a REPORT_ID of its own."""
        return replace(self.shared.platform, report_id=bytes([number]) * 32)

    def ask(self, deviation: Deviation = HEALTHY_RUNTIME) -> httpx.Response:
        """One whole exchange."""
        asked = self.challenge()
        self.pass_time(deviation.wait_s)
        return self.post("/v1/release", self.request(asked, deviation))

    def granted(self, answer: httpx.Response) -> ReleaseResponse:
        assert answer.status_code == 200, answer.text
        return msgspec.json.decode(answer.content, type=ReleaseResponse)

    def open(self, answer: httpx.Response, **info: Any) -> bytes:  # noqa: ANN401
        """What the runtime does with an answer: check the proof, then open the key."""
        response = self.granted(answer)
        logged = verify_proof(response.log, log_key=self.shared.log_key)
        bound = {
            "model_id": str(self.model_id),
            "lease_id": response.lease_id,
            "record_index": logged.index,
        }
        return hpke.open_(
            self.key,
            unb64(response.encapsulated_key, what="enc"),
            release_info(**(bound | info)),
            b"",
            unb64(response.wrapped_key, what="key"),
        )

    # -- everybody ----------------------------------------------------------------------------

    def statements(self) -> list[LogStatement]:
        """Every statement in the log, after an audit of all of it."""
        return [entry for entry in self.entries() if isinstance(entry, LogStatement)]

    def records(self) -> list[ReleaseRecord]:
        """Every decision of the log, after an audit of all of it."""
        return [entry for entry in self.entries() if isinstance(entry, ReleaseRecord)]

    def notices(self) -> list[LogNotice]:
        """Every notice of the log, after an audit of all of it."""
        return [entry for entry in self.entries() if isinstance(entry, LogNotice)]

    def entries(self) -> list[LogEntry]:
        """Every entry of the log, after an audit of all of it."""
        found: list[LogEntry] = []
        audit_log(
            DatabaseSource(self.log.reader),
            parse_log_key(self.shared.log_key),
            remembered=None,
            visit=lambda _index, record: found.append(record),
        )
        return found

    def refused(self, answer: httpx.Response) -> Refusal:
        assert answer.status_code != 200, answer.text
        return msgspec.json.decode(answer.content, type=Refusal)

    def denied(self, answer: httpx.Response, *, status: int = 403) -> list[str]:
        """Codes of a denial that is in the log, with the proof of it in the answer."""
        assert answer.status_code == status, answer.text
        refusal = self.refused(answer)
        assert refusal.log is not None
        logged = verify_proof(refusal.log, log_key=self.shared.log_key)
        assert logged.record == self.records()[-1]
        assert logged.record.decision == "denial"
        assert logged.record.lease_until == ""
        assert logged.record.reasons == refusal.reasons
        assert refusal.code == refusal.reasons[0].code
        assert refusal.why
        assert refusal.fix
        assert self.store.unwrapped == []
        return [reason.code for reason in refusal.reasons]

    def write_config(self, folder: Path, **changes: str) -> Path:
        """The same deployment as files, for ``regalia broker``; returns the configuration file."""
        return write_config(self, folder, ORIGIN, changes)
