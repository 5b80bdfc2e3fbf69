"""A whole runtime against a real broker, a real store and a simulated platform, on loopback."""

from __future__ import annotations

import asyncio
import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import msgspec
import openai

import regalia
from regalia.appraisal.appraisal_context import AppraisalContext
from regalia.appraisal.pki import Cache
from regalia.client.transport import RegaliaTransport
from regalia.client.trust import ClientTrust
from regalia.core.errors import RegaliaError
from regalia.host.listen import address_of, bind, serve
from regalia.policy.pin import OwnerChoices, pin_client, pin_release
from regalia.runtime.config import load_config
from regalia.runtime.service import Runtime
from regalia.seal.format.sealed import WrappedKey
from regalia.seal.writer import SealOptions, seal_model
from regalia.tees.snp.evidence.plugin import SNP
from regalia_testing.tees.snp.simulator import measure_code
from regalia_testing.testbed import REQUIRED
from regalia_testing.verify import verify_fresh
from tests.broker.harness import KEK, Deployment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from starlette.types import ASGIApp

    from regalia.policy.documents import ReleasePolicy
    from regalia.tees.snp.claims import SnpClaims
    from regalia.wire.runtime_config import RuntimeConfig
    from tests.broker.harness import Shared

MEASUREMENT = measure_code(Path(regalia.__file__).parent)
PROMPT = "What do the crown jewels say?"
LEASE_S = 2


class SealedDeployment(Deployment):
    """The broker's deployment, with a sealed model that can be loaded."""

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
        return verify_fresh(
            SNP,
            platform.evidence(
                report_data,
                measurement=MEASUREMENT,
                runtime_config=self.runtime_config().encode(),
            ),
            anchors=platform.anchors(),
            collateral=platform.collateral(),
            report_data=report_data,
            at=AppraisalContext(now=self.now, rule=REQUIRED, cache=Cache()),
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
        return ClientTrust(policy=policy, verifier=platform.verifier())


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

    deployment: Deployment
    change: Callable[[bytes], bytes] | None = None
    down: bool = False
    drips: bool = False
    releases: int = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401
        if self.down:
            await send({"type": "http.response.start", "status": 503, "headers": []})
            await send({"type": "http.response.body", "body": b"down"})
            return
        if self.drips:
            headers = [(b"content-length", b"1000000")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            for _ in range(1_000_000):
                await send({"type": "http.response.body", "body": b" ", "more_body": True})
                await asyncio.sleep(0.1)
        messages: list[Any] = []

        async def keep(message: Any) -> None:  # noqa: ANN401
            messages.append(message)

        await self.deployment.app(scope, receive, keep)
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

    def start(self, within_s: float = 30) -> Running:
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
        assert self.ready.wait(within_s)
        return self

    def stop(self) -> None:
        self.runtime._stop_server()
        self.join()

    def join(self, within_s: float = 20) -> None:
        assert self.thread is not None
        self.thread.join(within_s)
        assert not self.thread.is_alive()

    def get(self, path: str) -> httpx.Response:
        with httpx.Client(trust_env=False) as http:
            return http.get(self.url + path)


class LiveDeployment:
    """One deployment, its broker on a port, and runtimes that are asked to start in it."""

    def __init__(self, deployment: SealedDeployment, between: Between, broker: str) -> None:
        self.deployment = deployment
        self.between = between
        self.broker = broker
        self.started: list[Running] = []

    def configure(self, *, measured: RuntimeConfig | None = None, text: str = "") -> Path:
        folder = self.deployment.folder
        config = measured or self.deployment.runtime_config()
        (folder / "measured.json").write_bytes(config.encode())
        dangers = "" if "dangerous" in text else "dangerous_simulated_tee = true\n"
        settings = {
            "store": str(self.deployment.sealed),
            "broker": self.broker,
            "measured_config": "measured.json",
            "listen": "127.0.0.1:0",
            "served_name": "tiny",
        }
        lines = [
            f"{name} = {json.dumps(v)}"
            for name, v in settings.items()
            if f"\n{name} =" not in f"\n{text}"
        ]
        platform = json.dumps(str(self.deployment.shared.platform.directory))
        evidence = f'[evidence]\nsource = "simulated-snp"\noptions = {{ platform = {platform} }}\n'
        path = folder / "runtime.toml"
        path.write_text(dangers + "\n".join(lines) + f"\n{text}\n{evidence}")
        return path

    def start(self, *, within_s: float = 30, **options: Any) -> Running:  # noqa: ANN401
        path = self.configure(**options)
        shown: list[str] = []
        # Hardening would change this process for all other tests; it has tests of its own.
        config = load_config(path)
        runtime = Runtime(config, path.parent, show=shown.append, ending=None, hardening=tuple)
        self.started.append(Running(runtime, shown=shown))
        return self.started[-1].start(within_s)

    def refused(self, **options: Any) -> RegaliaError:  # noqa: ANN401
        """Start; demand that nothing was loaded; return why."""
        running = self.start(**options)
        running.join()
        assert isinstance(running.error, RegaliaError), running.error
        assert running.runtime.weights_size == 0, "no memory for weights was even asked for"
        return running.error


@contextmanager
def client(live: LiveDeployment, url: str) -> Iterator[openai.OpenAI]:
    """The stock client, through the verified and sealed channel."""
    with httpx.Client(transport=RegaliaTransport(url, live.deployment.trust())) as http:
        yield openai.OpenAI(base_url=f"{url}/v1", api_key="none", http_client=http, max_retries=0)
