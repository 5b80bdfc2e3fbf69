"""A runtime, a relay that may lie, and a client's trust: all in memory, no sockets."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from regalia.client.trust import ClientTrust
from regalia.core.clock import rfc3339
from regalia.core.types import KeyFingerprint, ModelId
from regalia.crypto.hpke import Kem, generate_keypair
from regalia.crypto.ohttp import REQUEST_MEDIA_TYPE, RESPONSE_MEDIA_TYPE, ServerExchange
from regalia.crypto.sign import SigningKey
from regalia.host.clock import system_clock
from regalia.policy.documents import parse_client_policy
from regalia.tlog.database import open_engine
from regalia.tlog.log import Log
from regalia.wire import bhttp
from regalia.wire.release import RECORD_FORMAT, ReleaseRecord
from regalia.wire.runtime_config import FORMAT, Placement, RuntimeConfig
from regalia.wire.serving import (
    DATE_WINDOW_S,
    EVIDENCE_PATH,
    SEALED_PATH,
    ServingEvidence,
    parse_challenge,
)
from regalia_testing.tees.snp.defects import HEALTHY
from regalia_testing.tees.snp.simulator import SnpSimulator

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from regalia.crypto.hpke import KemKeyPair
    from regalia.host.clock import Clock as AnyClock
    from regalia.policy.documents import ClientPolicy
    from regalia.wire.release import LogProof
    from regalia_testing.tees.snp.defects import SnpDefects

URL = "http://runtime.test"
NEEDLE = "the prompt that nobody else may read"
MODEL_ID = ModelId(b"\x11" * 32)
VERSION = 3
MEASUREMENT = b"\x22" * 48
NOW = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
ANSWER = ["Gold", " and", " jewels", "."]


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


RECIPIENT = KeyFingerprint(b"\x66" * 32)  # of the key that the model key was released to


@dataclass
class InnerRequest:
    """What arrived inside the TEE."""

    head: bhttp.RequestHead
    body: bytes

    def header(self, name: bytes) -> bytes:
        (value,) = (value for key, value in self.head.fields if key == name)
        return value


@dataclass
class Runtime:
    """The server's side: evidence, opening, a chat that always says the same."""

    platform: SnpSimulator
    config: RuntimeConfig
    clock: AnyClock
    proof: LogProof | None = None
    keys: KemKeyPair = field(default_factory=lambda: generate_keypair(Kem.X_WING))
    defects: SnpDefects = HEALTHY
    measurement: bytes = MEASUREMENT
    version: int = VERSION
    wrap: bytes = b"wrap key"
    recipient: KeyFingerprint = RECIPIENT
    requests: list[InnerRequest] = field(default_factory=list)
    encs: set[bytes] = field(default_factory=set)

    def document(self, challenge: bytes) -> ServingEvidence:
        shown = ServingEvidence(
            evidence=None,
            hpke_public_key=self.keys.public_key,
            wrap_public_key=self.wrap,
            model_id=ModelId.parse(self.config.model_id),
            model_version=self.version,
            release=self.proof,
            recipient=self.recipient,
        )
        evidence = self.platform.evidence(
            shown.binding(challenge).report_data(),
            measurement=self.measurement,
            runtime_config=self.config.encode(),
            defects=self.defects,
        )
        return replace(shown, evidence=evidence)

    def serve(self, outer: bytes) -> Iterator[bytes]:
        """Open a sealed request; seal the answer in pieces."""
        exchange = ServerExchange(self.keys)
        parser = bhttp.RequestParser()
        events = [event for chunk in exchange.feed(outer) for event in parser.feed(chunk)]
        events += parser.feed(exchange.finish()) + parser.finish()
        head, *content, _ = events
        request = InnerRequest(head, b"".join(event.data for event in content))
        self.requests.append(request)
        assert exchange.enc not in self.encs, "a replay"
        self.encs.add(exchange.enc)
        sent = parsedate_to_datetime(request.header(b"date").decode())
        assert abs(sent - self.clock()) <= timedelta(seconds=DATE_WINDOW_S)
        sealer = exchange.response()
        yield sealer.start
        status, kind, pieces = self.answer(request)
        answer = bhttp.ResponseHead(status, ((b"content-type", kind), (b"connection", b"x")))
        yield sealer.seal(bhttp.encode_streamed_head(answer))
        for piece in pieces:
            yield sealer.seal(bhttp.encode_streamed_content(piece))
        yield sealer.seal_final(bhttp.encode_streamed_end(padding=100))

    def answer(self, request: InnerRequest) -> tuple[int, bytes, list[bytes]]:
        path = request.head.path.partition(b"?")[0]
        if path == b"/v1/models":
            models = {"object": "list", "data": [{"id": "crown", "object": "model"}]}
            return 200, b"application/json", [json.dumps(models).encode()]
        if path != b"/v1/chat/completions":
            problem = {"error": {"message": "no such path", "code": "not_found"}}
            return 404, b"application/json", [json.dumps(problem).encode()]
        base = {"id": "c", "created": 1, "model": "crown"}
        if not json.loads(request.body).get("stream"):
            message = {"role": "assistant", "content": "".join(ANSWER)}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            body = base | {"object": "chat.completion", "choices": [choice]}
            return 200, b"application/json", [json.dumps(body).encode()]
        pieces = []
        for text in ANSWER:
            choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
            event = base | {"object": "chat.completion.chunk", "choices": [choice]}
            pieces.append(b"data: " + json.dumps(event).encode() + b"\n\n")
        return 200, b"text/event-stream", [*pieces, b"data: [DONE]\n\n"]


Reply = tuple[int, str, Iterator[bytes]]


class Relay(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """Carries bytes between client and runtime, writes everything down, and may interfere.

    ``on_document`` changes the evidence document, ``on_answer`` the pieces of a sealed answer,
    ``instead`` answers in the runtime's place.
    """

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.seen: list[httpx.Request] = []
        self.on_document: Callable[[ServingEvidence], ServingEvidence | bytes] | None = None
        self.on_answer: Callable[[list[bytes]], list[bytes | Exception]] | None = None
        self.instead: Callable[[httpx.Request], Reply | None] | None = None
        self.streams: list[Pieces] = []

    def paths(self) -> list[str]:
        return [request.url.path for request in self.seen]

    def everything(self) -> bytes:
        """All that a relay can read of the client."""
        parts = []
        for request in self.seen:
            parts += [request.method.encode(), str(request.url).encode(), request.content]
            parts += [name + b": " + value for name, value in request.headers.raw]
        return b"\n".join(parts)

    def sealed(self) -> list[httpx.Request]:
        return [request for request in self.seen if request.url.path.endswith(SEALED_PATH)]

    def _reply(self, request: httpx.Request) -> Reply:
        self.seen.append(request)
        if self.instead is not None:
            reply = self.instead(request)
            if reply is not None:
                return reply
        if request.url.path.endswith(EVIDENCE_PATH):
            document = self.runtime.document(parse_challenge(request.url.params["challenge"]))
            changed = self.on_document(document) if self.on_document else document
            data = changed if isinstance(changed, bytes) else changed.encode()
            return 200, "application/json", iter([data])
        assert request.method == "POST"
        assert request.url.path.endswith(SEALED_PATH)
        assert request.headers["content-type"] == REQUEST_MEDIA_TYPE
        pieces: Iterator[Any] = self.runtime.serve(request.content)
        if self.on_answer:
            pieces = iter(self.on_answer(list(pieces)))
        return 200, RESPONSE_MEDIA_TYPE, pieces

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.read()
        return self._respond(request)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await request.aread()
        return self._respond(request)

    def _respond(self, request: httpx.Request) -> httpx.Response:
        status, kind, pieces = self._reply(request)
        self.streams.append(Pieces(pieces))
        return httpx.Response(status, headers={"content-type": kind}, stream=self.streams[-1])


class Pieces(httpx.SyncByteStream, httpx.AsyncByteStream):
    """Pieces as they come; an exception among them is raised."""

    def __init__(self, pieces: Iterator[bytes | Exception]) -> None:
        self.pieces = pieces
        self.closed = False

    def __iter__(self) -> Iterator[bytes]:
        for piece in self.pieces:
            if isinstance(piece, Exception):
                raise piece
            yield piece

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self:
            yield piece

    def close(self) -> None:
        self.closed = True

    async def aclose(self) -> None:
        self.closed = True


@contextmanager
def listening(relay: Relay) -> Iterator[str]:
    """The relay on a loopback port; pieces of an answer are chunks of the transfer coding."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.do_POST()

        def do_POST(self) -> None:
            size = int(self.headers.get("content-length", 0))
            request = httpx.Request(
                self.command,
                f"http://{self.headers['host']}{self.path}",
                headers=list(self.headers.items()),
                content=self.rfile.read(size),
            )
            status, kind, pieces = relay._reply(request)
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            for piece in pieces:
                if isinstance(piece, Exception):
                    self.close_connection = True
                    return
                self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            self.wfile.write(b"0\r\n\r\n")

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> SnpSimulator:
    directory = tmp_path_factory.mktemp("platform") / "snp"
    return SnpSimulator.create(directory, "Genoa", now=NOW - timedelta(days=1))


@pytest.fixture(scope="session")
def other_platform(
    platform: SnpSimulator, tmp_path_factory: pytest.TempPathFactory
) -> SnpSimulator:
    """Another chip under the same root."""
    directory = tmp_path_factory.mktemp("platform") / "other"
    keys = platform.authority.keys
    return SnpSimulator.create(directory, "Genoa", now=NOW - timedelta(days=1), keys=keys)


@pytest.fixture(scope="session")
def log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Log]:
    engine = open_engine(f"sqlite:///{tmp_path_factory.mktemp('log')}/log.db")
    yield Log(engine, origin="log.test/regalia", key=SigningKey.generate_ed25519())
    engine.dispose()


@pytest.fixture(scope="session")
def logged(log: Log, platform: SnpSimulator) -> Callable[..., LogProof]:
    """Append the release that gave the runtime its model, with changes; return its proof."""

    def append(**changes: object) -> LogProof:
        fields = {
            "format": RECORD_FORMAT,
            "decision": "release",
            "time": rfc3339(NOW),
            "broker": "log.test/regalia",
            "model_id": str(MODEL_ID),
            "model_version": VERSION,
            "policy_id": "policy:" + "2" * 64,
            "policy_version": 1,
            "hardware": "simulated",
            "tee": "sev-snp",
            "product": "Genoa",
            "measurement": MEASUREMENT.hex(),
            "chip_id": platform.hwid.hex(),
            "devices": [],
            "revocation": "checked",
            "evidence_digest": "sha256:" + "5" * 64,
            "recipient": str(RECIPIENT),
            "custody": "broker",
            "key_wrapping": "none",
            "control": "",
            "lease_id": "lease:1",
            "lease_until": rfc3339(NOW + timedelta(hours=1)),
            "wildcards": [],
            "reasons": [],
        }
        return log.append(ReleaseRecord(**(fields | changes))).proof

    return append


@pytest.fixture(scope="session")
def proof(logged: Callable[..., LogProof]) -> LogProof:
    return logged()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="session")
def config(log: Log) -> RuntimeConfig:
    return RuntimeConfig(
        format=FORMAT,
        model_id=str(MODEL_ID),
        owner_key=str(KeyFingerprint(b"\x33" * 32)),
        log_key=log.log_key,
        placement=Placement(region="eu", site="lab", tier="dedicated"),
        egress=[],
    )


@pytest.fixture
def runtime(
    platform: SnpSimulator, config: RuntimeConfig, clock: Clock, proof: LogProof
) -> Runtime:
    return Runtime(platform, config, clock, proof)


@pytest.fixture
def relay(runtime: Runtime) -> Relay:
    return Relay(runtime)


def policy_document(log_key: str, **changes: Any) -> ClientPolicy:  # noqa: ANN401
    snp = {
        "products": ["Genoa"],
        "measurements": [MEASUREMENT.hex()],
        "host_data": "any",
        "id_blocks": "any",
        "vmpl": [0],
        "guest_policy": {
            "abi_minor_min": 0,
            "abi_major_min": 0,
            "smt": "allow",
            "single_socket": "any",
            "cxl": "deny",
            "mem_aes_256_xts": "any",
            "rapl_dis": "any",
            "ciphertext_hiding": "any",
            "page_swap_disable": "any",
        },
        "platform_info_required": ["ALIAS_CHECK_COMPLETE"],
        "tcb_minimum": "any",
        "firmware_minimum": "any",
        "provisional_firmware": "deny",
        "mitigations_required": "any",
        "report_version_minimum": 3,
        "signing_keys": ["vcek"],
        "csp_ids": "any",
        "chip_ids": "any",
        "revocation": "required",
    }
    document: dict[str, Any] = {
        "format": "regalia/client-policy/v1",
        "name": "test",
        "model": {"id": str(MODEL_ID), "version_minimum": VERSION},
        "platform": {"hardware": "dangerous_simulated", "snp": snp, "devices": []},
        "freshness": {"challenge_max_age_s": 60},
        "placement": {"regions": ["eu"], "sites": "any", "tiers": "any"},
        "runtime": {"owner_key": "any", "log_key": log_key, "egress": []},
        "conditions": [],
    }
    data = json.dumps(document | changes, sort_keys=True, separators=(",", ":"))
    return parse_client_policy(data.encode())


@pytest.fixture
def make_policy(log: Log) -> Callable[..., ClientPolicy]:
    def make(log_key: str = log.log_key, **changes: object) -> ClientPolicy:
        return policy_document(log_key, **changes)

    return make


@pytest.fixture
def trust(
    platform: SnpSimulator, make_policy: Callable[..., ClientPolicy], clock: Clock
) -> ClientTrust:
    return ClientTrust(
        policy=make_policy(),
        verifier=platform.verifier(),
        clock=clock,
    )


@pytest.fixture
def policy_file(trust: ClientTrust, tmp_path: Path) -> Path:
    path = tmp_path / "client-policy.json"
    path.write_bytes(trust.policy.encode())
    return path


@pytest.fixture
def address(relay: Relay) -> Iterator[str]:
    with listening(relay) as address:
        yield address


@pytest.fixture
def live(
    platform: SnpSimulator,
    config: RuntimeConfig,
    logged: Callable[..., LogProof],
    tmp_path: Path,
) -> Iterator[tuple[Relay, str]]:
    """A relay on a loopback port before a runtime that lives now: for commands with a clock."""
    now = system_clock()
    keys = platform.authority.keys
    today = SnpSimulator.create(
        tmp_path / "platform", "Genoa", now=now - timedelta(hours=1), keys=keys
    )
    proof = logged(
        chip_id=today.hwid.hex(), time=rfc3339(now), lease_until=rfc3339(now + timedelta(hours=1))
    )
    relay = Relay(Runtime(today, config, system_clock, proof))
    with listening(relay) as address:
        yield relay, address
