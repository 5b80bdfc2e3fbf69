"""A whole runtime against a real broker, a real store and a simulated platform, on loopback."""

from __future__ import annotations

import json
import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import msgspec
import openai
import pytest
import regalia
import torch
from broker_harness import KEK, Shared, World

from regalia.attest.snp import verify_snp
from regalia.client.transport import RegaliaTransport
from regalia.client.trust import ClientTrust
from regalia.core.codec import b64, canonical_json
from regalia.core.errors import (
    CoreCode,
    IntegrityError,
    KeyAccessError,
    LogError,
    PolicyDenied,
    RegaliaError,
    UnavailableError,
    UsageError,
)
from regalia.core.listen import address_of, bind, serve
from regalia.crypto.dsse import DsseCode
from regalia.crypto.sign import SigningKey
from regalia.engines.base import GenerationRequest, Message
from regalia.engines.transformers import build_engine
from regalia.formats.release import ReleaseResponse
from regalia.formats.sealed import WrappedKey
from regalia.policy.codes import PolicyCode
from regalia.policy.pin import OwnerChoices, pin_client, pin_release
from regalia.runtime import service
from regalia.runtime.codes import RuntimeCode
from regalia.runtime.config import load_config
from regalia.runtime.service import Runtime
from regalia.seal.writer import SealOptions, seal_model
from regalia.testing.models import FilesInMemory, tiny_llama
from regalia.testing.snp import measure_code
from regalia.tlog.codes import TlogCode
from regalia.tlog.note import verifier_key_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from regalia.formats.claims import SnpClaims
    from regalia.formats.policy import ReleasePolicy
    from regalia.formats.release import LogProof
    from regalia.formats.runtime_config import RuntimeConfig
    from starlette.types import ASGIApp

torch.set_num_threads(1)
MEASUREMENT = measure_code(Path(regalia.__file__).parent)
PROMPT = "What do the crown jewels say?"
LEASE_S = 2


class RealWorld(World):
    """The broker's world, with a sealed model that can be loaded."""

    def __init__(self, folder: Path, shared: Shared, model: Path, **options: Any) -> None:  # noqa: ANN401
        self.model = model
        self.sealed = folder / "sealed"
        super().__init__(folder, shared, **options)

    def make_manifest(self, version: int) -> bytes:
        def wrap(key: Any, context: bytes) -> WrappedKey:  # noqa: ANN401
            blob = self.store.wrap(KEK, key, context)
            return WrappedKey(kek=KEK, algorithm=self.store.wrap_algorithm, blob=blob)

        sealed = seal_model(
            self.model,
            self.sealed,
            SealOptions(version=version, stride=64 * 1024),
            wrap=wrap,
            signing_key=self.shared.owner,
            progress=lambda _done, _total: None,
        )
        self.model_id = sealed.manifest.model_id
        return (self.sealed / "manifest.json").read_bytes()

    def claims(self) -> SnpClaims:
        platform, report_data = self.shared.platform, b"r" * 64
        return verify_snp(
            platform.evidence(
                report_data,
                measurement=MEASUREMENT,
                runtime_config=self.runtime_config().encode(),
            ),
            anchors=platform.anchors(),
            collateral=platform.collateral(),
            report_data=report_data,
            now=self.now,
        )

    def choices(self) -> OwnerChoices:
        return OwnerChoices(
            name="test", version=5, model_id=self.model_id, model_version_minimum=1,
            owner_key=self.shared.owner.verify_key.fingerprint, challenge_max_age_s=60,
            holders_max=2, lease_s=600, custody=("broker",), approvals_threshold=0,
            approvers=(), pin_chip=True, pin_host_data=True,
        )  # fmt: skip

    def make_policy(self, **changes: Any) -> ReleasePolicy:  # noqa: ANN401
        pinned = pin_release(self.claims(), self.runtime_config(), self.choices(), now=self.now)
        return msgspec.structs.replace(pinned, **changes)

    def trust(self) -> ClientTrust:
        """What a client of this model holds a runtime against."""
        policy = pin_client(self.claims(), self.runtime_config(), self.choices(), now=self.now)
        platform = self.shared.platform
        return ClientTrust(
            policy=policy, anchors=platform.anchors(), collateral=platform.collateral()
        )


@contextmanager
def served(app: ASGIApp) -> Iterator[str]:
    """An application on a loopback port."""
    sock = bind("127.0.0.1:0")
    ready = threading.Event()
    stops: list[Callable[[], None]] = []

    def on_ready(stop: Callable[[], None]) -> None:
        stops.append(stop)
        ready.set()

    thread = threading.Thread(
        target=serve, args=(app, sock), kwargs={"drain_s": 1, "on_ready": on_ready}
    )
    thread.start()
    assert ready.wait(10)
    try:
        yield f"http://{address_of(sock)}"
    finally:
        stops[0]()
        thread.join(10)


@dataclass
class Between:
    """Somebody between runtime and broker, who may answer in the broker's place."""

    world: World
    change: Callable[[bytes], bytes] | None = None
    down: bool = False
    releases: int = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401
        if self.down:
            await send({"type": "http.response.start", "status": 503, "headers": []})
            await send({"type": "http.response.body", "body": b"down"})
            return
        messages: list[Any] = []

        async def keep(message: Any) -> None:  # noqa: ANN401
            messages.append(message)

        await self.world.app(scope, receive, keep)
        start, *bodies = messages
        body = b"".join(message.get("body", b"") for message in bodies)
        if scope["path"] == "/v1/release" and start["status"] == 200:
            self.releases += 1
            body = self.change(body) if self.change else body
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": start["status"], "headers": headers})
        await send({"type": "http.response.body", "body": body})


@dataclass
class Running:
    """A runtime in a thread of its own."""

    runtime: Runtime
    url: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    error: BaseException | None = None
    shown: list[str] = field(default_factory=list)
    ready: threading.Event = field(default_factory=threading.Event)
    thread: threading.Thread | None = None

    def start(self) -> Running:
        def on_serving(facts: dict[str, object]) -> None:
            self.facts, self.url = dict(facts), f"http://{facts['listen']}"
            self.ready.set()

        def run() -> None:
            try:
                self.runtime.run(on_serving)
            except RegaliaError as exc:
                self.error = exc
            finally:
                self.ready.set()

        self.thread = threading.Thread(target=run)
        self.thread.start()
        assert self.ready.wait(30)
        return self

    def stop(self) -> None:
        self.runtime._stop_server()
        self.join()

    def join(self) -> None:
        assert self.thread is not None
        self.thread.join(20)
        assert not self.thread.is_alive()

    def get(self, path: str) -> httpx.Response:
        with httpx.Client(trust_env=False) as http:
            return http.get(self.url + path)


class Stage:
    """One world, its broker on a port, and runtimes that are asked to start in it."""

    def __init__(self, world: RealWorld, between: Between, broker: str) -> None:
        self.world = world
        self.between = between
        self.broker = broker
        self.started: list[Running] = []

    def configure(self, *, measured: RuntimeConfig | None = None, text: str = "") -> Path:
        folder = self.world.folder
        config = measured or self.world.runtime_config()
        (folder / "measured.json").write_bytes(config.encode())
        dangers = "" if "dangerous" in text else "dangerous_simulated_tee = true\n"
        settings = {
            "store": str(self.world.sealed),
            "broker": self.broker,
            "measured_config": "measured.json",
            "listen": "127.0.0.1:0",
            "served_name": "tiny",
        }
        lines = [
            f"{name} = {json.dumps(v)}" for name, v in settings.items() if f"{name} =" not in text
        ]
        platform = json.dumps(str(self.world.shared.platform.directory))
        evidence = f'[evidence]\nsource = "simulated-snp"\noptions = {{ platform = {platform} }}\n'
        path = folder / "runtime.toml"
        path.write_text(dangers + "\n".join(lines) + f"\n{text}\n{evidence}")
        return path

    def start(self, **options: Any) -> Running:  # noqa: ANN401
        path = self.configure(**options)
        shown: list[str] = []
        # Hardening would change this process for all other tests; it has tests of its own.
        runtime = Runtime(load_config(path), path.parent, show=shown.append, hardening=tuple)
        self.started.append(Running(runtime, shown=shown))
        return self.started[-1].start()

    def refused(self, **options: Any) -> RegaliaError:  # noqa: ANN401
        """Start; demand that nothing was loaded; return why."""
        running = self.start(**options)
        running.join()
        assert isinstance(running.error, RegaliaError), running.error
        assert running.runtime.memory.size == 0, "no memory for weights was even asked for"
        return running.error


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("models") / "tiny", shards=2)


@pytest.fixture
def make_stage(shared: Shared, tiny: Path, tmp_path: Path) -> Iterator[Callable[..., Stage]]:
    with ExitStack() as cleanup:

        def make(**options: Any) -> Stage:  # noqa: ANN401
            world = RealWorld(tmp_path, shared, tiny, **options)
            cleanup.callback(world.close)
            between = Between(world)
            stage = Stage(world, between, cleanup.enter_context(served(between)))
            cleanup.callback(lambda: [item.stop() for item in stage.started])
            return stage

        yield make


@pytest.fixture
def stage(make_stage: Callable[..., Stage]) -> Stage:
    return make_stage()


@contextmanager
def client(stage: Stage, url: str) -> Iterator[openai.OpenAI]:
    """The stock client, through the verified and sealed channel."""
    with httpx.Client(transport=RegaliaTransport(url, stage.world.trust())) as http:
        yield openai.OpenAI(base_url=f"{url}/v1", api_key="none", http_client=http, max_retries=0)


def expected(tiny: Path, limit: int) -> str:
    """The answer of the same model, without any of this."""
    engine = build_engine(FilesInMemory.of(tiny), model_name="tiny", options={})
    request = GenerationRequest(
        engine.encode_chat((Message("user", PROMPT),)), limit, (), 0.0, 1.0, None
    )
    return "".join(delta.text for delta in engine.generate(request))


def test_serves_through_the_sealed_path(stage: Stage, tiny: Path) -> None:
    running = stage.start()
    assert running.error is None
    assert running.facts["simulated_tee"] is True
    assert running.facts["model_id"] == str(stage.world.model_id)
    assert running.facts["memory"] == "locked"
    assert any("SIMULATED TEE" in line for line in running.shown), "the banner"
    messages: Any = [{"role": "user", "content": PROMPT}]
    options: Any = {"model": "tiny", "messages": messages, "temperature": 0, "max_tokens": 20}
    with client(stage, running.url) as chat:
        whole = chat.chat.completions.create(**options)
        pieces = list(chat.chat.completions.create(**options, stream=True))
        streamed = "".join(item.choices[0].delta.content or "" for item in pieces)
        assert whole.choices[0].message.content == streamed == expected(tiny, 20)
        assert whole.system_fingerprint == str(stage.world.model_id)
        with pytest.raises(openai.NotFoundError):
            chat.chat.completions.create(**(options | {"model": "nope"}))
    assert running.get("/health").status_code == 200
    refused = running.get("/v1/models")
    assert refused.json()["error"]["code"] == "SEALED_PATH_ONLY"
    metrics = running.get("/metrics").text
    assert 'regalia_requests_total{route="chat",status="200"} 2.0' in metrics
    assert not running.runtime.memory.wiped
    running.stop()
    assert running.error is None
    assert running.runtime.memory.wiped


def test_the_key_is_gone_once_the_model_is_loaded(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys: list[Any] = []
    unwrap = service.unwrap

    def watch(*args: Any) -> Any:  # noqa: ANN401
        keys.append(unwrap(*args))
        return keys[-1]

    monkeypatch.setattr(service, "unwrap", watch)
    stage.start()
    (key,) = keys
    with pytest.raises(RuntimeError, match="after close"):
        key.view()
    assert bytes(key._buf) == bytes(32)


def test_no_file_appears_while_it_serves(stage: Stage) -> None:
    before = {path for path in stage.world.folder.rglob("*") if "db" not in path.name}
    running = stage.start()
    with client(stage, running.url) as chat:
        chat.completions.create(model="tiny", prompt="hello", max_tokens=3)
    new = {path for path in stage.world.folder.rglob("*") if "db" not in path.name} - before
    assert {path.name for path in new} == {"runtime.toml", "measured.json"}


# -- refusals before anything is unwrapped ----------------------------------------------------


@pytest.fixture
def no_unwrap(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("the key was unwrapped")

    monkeypatch.setattr(service, "unwrap", never)


def answer(change: Callable[[ReleaseResponse], ReleaseResponse]) -> Callable[[bytes], bytes]:
    def rewrite(body: bytes) -> bytes:
        return canonical_json(change(msgspec.json.decode(body, type=ReleaseResponse)))

    return rewrite


def proof_of(stage: Stage, **changes: object) -> LogProof:
    """A genuine proof, in the right log, of a record that says something else."""
    stage.world.ask()
    record = msgspec.structs.replace(stage.world.records()[-1], **changes)
    return stage.world.log.append(record).proof


@pytest.mark.usefixtures("no_unwrap")
def test_a_release_that_is_not_logged_is_refused(stage: Stage) -> None:
    def other_log(response: ReleaseResponse) -> ReleaseResponse:
        signer = SigningKey.generate_ed25519().sign(b"x")
        lines = response.log.checkpoint.rsplit(" ", 1)
        note = f"{lines[0]} {b64(b'abcd' + signer)}\n"
        return msgspec.structs.replace(
            response, log=msgspec.structs.replace(response.log, checkpoint=note)
        )

    stage.between.change = answer(other_log)
    error = stage.refused()
    assert isinstance(error, LogError)
    assert error.code is TlogCode.CHECKPOINT_INVALID


@pytest.mark.usefixtures("no_unwrap")
def test_the_proof_of_another_release_is_refused(make_stage: Callable[..., Stage]) -> None:
    stage = make_stage()
    stage.world.policy = stage.world.make_policy()
    other = proof_of(stage, decision="release", recipient="key:" + "00" * 32)
    stage.between.change = answer(lambda r: msgspec.structs.replace(r, log=other))
    error = stage.refused()
    assert isinstance(error, LogError)
    assert error.code is RuntimeCode.RELEASE_RECORD_MISMATCH


@pytest.mark.usefixtures("no_unwrap")
def test_a_lease_that_the_log_does_not_know_is_refused(stage: Stage) -> None:
    stage.between.change = answer(lambda r: msgspec.structs.replace(r, lease_id="mine"))
    assert stage.refused().code is RuntimeCode.RELEASE_RECORD_MISMATCH
    stage.between.change = answer(lambda r: msgspec.structs.replace(r, lease_s=1 << 20))
    assert stage.refused().code is RuntimeCode.RELEASE_RECORD_MISMATCH


@pytest.mark.usefixtures("no_unwrap")
def test_a_runtime_that_was_measured_with_another_log(make_stage: Callable[..., Stage]) -> None:
    """The broker would refuse it; here the policy lets it pass, and the runtime refuses."""
    stage = make_stage()
    elsewhere = verifier_key_text("log.example/regalia", SigningKey.generate_ed25519().verify_key)
    measured = msgspec.structs.replace(stage.world.runtime_config(), log_key=elsewhere)
    policy = stage.world.policy
    snp = msgspec.structs.replace(policy.platform.snp, host_data="any")
    stage.world.policy = msgspec.structs.replace(
        policy,
        version=policy.version + 1,
        platform=msgspec.structs.replace(policy.platform, snp=snp),
        runtime=msgspec.structs.replace(policy.runtime, log_key="any"),
    )
    stage.world.restart()
    error = stage.refused(measured=measured)
    assert error.code is TlogCode.CHECKPOINT_INVALID
    assert stage.between.releases == 1, "the broker did release"


@pytest.mark.usefixtures("no_unwrap")
def test_a_denial_brings_the_brokers_reasons(make_stage: Callable[..., Stage]) -> None:
    stage = make_stage()
    policy = stage.world.policy
    snp = msgspec.structs.replace(policy.platform.snp, measurements=["00" * 48])
    stage.world.policy = msgspec.structs.replace(
        policy,
        version=policy.version + 1,
        platform=msgspec.structs.replace(policy.platform, snp=snp),
    )
    stage.world.restart()
    error = stage.refused()
    assert isinstance(error, PolicyDenied)
    assert error.code is RuntimeCode.RELEASE_DENIED
    assert [code for code, _ in error.reasons] == [PolicyCode.MEASUREMENT_UNKNOWN]


@pytest.mark.usefixtures("no_unwrap")
def test_another_owners_model_is_refused(stage: Stage) -> None:
    stranger = str(SigningKey.generate_ed25519().verify_key.fingerprint)
    measured = msgspec.structs.replace(stage.world.runtime_config(), owner_key=stranger)
    error = stage.refused(measured=measured)
    assert isinstance(error, IntegrityError)
    assert error.code is DsseCode.SIGNER_UNKNOWN
    assert stage.between.releases == 0


@pytest.mark.usefixtures("no_unwrap")
def test_another_model_is_refused(stage: Stage) -> None:
    measured = msgspec.structs.replace(stage.world.runtime_config(), model_id="model:" + "00" * 32)
    error = stage.refused(measured=measured)
    assert error.code is RuntimeCode.SERVED_MODEL_MISMATCH
    assert stage.between.releases == 0


def test_a_simulated_tee_must_be_asked_for(stage: Stage) -> None:
    error = stage.refused(text="dangerous_unlocked_memory = false")
    assert isinstance(error, UsageError)
    assert error.code is CoreCode.DANGEROUS_NOT_ALLOWED


def test_a_key_that_does_not_open_the_model(stage: Stage) -> None:
    stage.between.change = answer(lambda r: msgspec.structs.replace(r, wrapped_key=b64(bytes(48))))
    error = stage.refused()
    assert isinstance(error, KeyAccessError)
    assert error.code is RuntimeCode.RELEASED_KEY_UNUSABLE


def test_damaged_ciphertext_leaves_nothing_in_memory(stage: Stage) -> None:
    shard = stage.world.sealed / "shard-00000.seal"
    data = bytearray(shard.read_bytes())
    data[-100] ^= 1
    shard.write_bytes(data)
    running = stage.start()
    running.join()
    assert isinstance(running.error, IntegrityError)
    assert running.error.code.name == "CHUNK_FORGED"
    assert running.runtime.memory.size > 0
    assert running.runtime.memory.wiped


@pytest.mark.slow
def test_nobody_answers(stage: Stage) -> None:
    error = stage.refused(text='broker = "http://127.0.0.1:9"')
    assert (error.code, error.exit_status) == (CoreCode.PEER_UNREACHABLE, 8)
    error = stage.refused(text='store = "http://127.0.0.1:9/"')
    assert (error.code, error.exit_status) == (CoreCode.PEER_UNREACHABLE, 8)


def test_a_port_in_use(stage: Stage) -> None:
    running = stage.start()
    taken = running.facts["listen"]
    error = stage.refused(text=f'listen = "{taken}"')
    assert isinstance(error, UnavailableError)
    assert (error.code, error.exit_status) == (CoreCode.PORT_IN_USE, 8)
    assert stage.between.releases == 1, "the address comes first: no key was asked for in vain"


# -- leases -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_lease_is_renewed_without_unwrapping(
    make_stage: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = make_stage(policy={"lease_s": LEASE_S})
    running = stage.start()
    monkeypatch.setattr(service, "unwrap", None)
    time.sleep(LEASE_S * 1.7)
    assert running.get("/health").status_code == 200
    assert running.runtime.lease is not None
    assert running.runtime.lease.renewals >= 2
    metrics = running.get("/metrics").text
    assert "regalia_lease_renewals" in metrics
    with client(stage, running.url) as chat:
        assert chat.models.list().data[0].id == "tiny"


@pytest.mark.slow
def test_losing_the_lease_wipes_and_stops(make_stage: Callable[..., Stage]) -> None:
    stage = make_stage(policy={"lease_s": LEASE_S})
    running = stage.start()
    assert not running.runtime.memory.wiped
    stage.between.down = True
    began = time.monotonic()
    statuses = []
    while running.runtime._lost is None and time.monotonic() - began < 3 * LEASE_S:
        time.sleep(0.02)
    assert running.runtime.memory.wiped, "before anything else"
    statuses.append(running.get("/health").status_code)
    with pytest.raises(openai.APIConnectionError), client(stage, running.url) as chat:
        chat.models.list()
    running.join()
    assert statuses == [503]
    assert isinstance(running.error, KeyAccessError)
    assert running.error.code is RuntimeCode.LEASE_LOST
    assert running.error.exit_status == 7
    assert "BROKER_REFUSED" in running.error.what, "it says why the lease was not renewed"
    with pytest.raises(httpx.ConnectError):
        running.get("/health")


@pytest.mark.slow
def test_losing_the_lease_cuts_a_running_answer(make_stage: Callable[..., Stage]) -> None:
    stage = make_stage(policy={"lease_s": LEASE_S})
    running = stage.start()
    with client(stage, running.url) as chat:
        stage.between.down = True
        seen = 0
        with pytest.raises(openai.APIError) as caught:
            while True:
                stream = chat.completions.create(
                    model="tiny", prompt="x", max_tokens=450, temperature=1.3, stream=True
                )
                for _ in stream:
                    seen += 1
    assert seen > 0
    assert running.runtime.memory.wiped
    assert caught.value is not None
    running.join()
