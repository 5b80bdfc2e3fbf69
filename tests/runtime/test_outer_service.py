"""What the runtime says in clear: a short list, and nothing of OpenAI's."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import pytest

from regalia.core.errors import LocalError
from regalia.core.types import KeyFingerprint, ModelId
from regalia.crypto.hpke import Kem, generate_keypair
from regalia.runtime.codes import RuntimeCode
from regalia.runtime.metrics import Metrics
from regalia.runtime.outer import OPENAI_METHODS, Outside, build_outer
from regalia.wire.evidence import Evidence, Tee
from regalia.wire.serving import (
    EVIDENCE_PATH,
    ServingEvidence,
    encode_challenge,
    parse_serving_evidence,
)
from tests.runtime.harness import call

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from tests.runtime.harness import Answer

CHALLENGE = b"c" * 32
KEY = generate_keypair(Kem.X_WING).public_key
RECIPIENT = KeyFingerprint(bytes(32))


class Sealed:
    """Stands for the sealed path."""

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 299, "headers": []})
        await send({"type": "http.response.body", "body": b"sealed"})


class Front:
    """The outer application around a stand-in for the sealed path."""

    def __init__(self, parallel: int = 2) -> None:
        self.alive = True
        self.go = threading.Event()
        self.go.set()
        self.running = 0
        self.most = 0
        self.error: Exception | None = None
        self.metrics = Metrics()
        self.outside = Outside(
            self.make,
            self.metrics,
            parallel=parallel,
            serving=lambda: self.alive,
            refresh=lambda: self.metrics.waiting.set(7),
        )
        self.app = build_outer(self.outside, Sealed())
        self.lock = threading.Lock()

    def make(self, challenge: bytes) -> ServingEvidence:
        with self.lock:
            self.running += 1
            self.most = max(self.most, self.running)
        self.go.wait(10)
        with self.lock:
            self.running -= 1
        if self.error is not None:
            raise self.error
        evidence = Evidence(Tee.SEV_SNP, challenge, (), b"config")
        return ServingEvidence(evidence, KEY, b"rsa", ModelId(bytes(32)), 3, None, RECIPIENT)

    def get(self, path: str, method: str = "GET") -> Answer:
        return asyncio.run(call(self.app, method, path))


@pytest.fixture
def front() -> Front:
    return Front()


def ask_path(challenge: bytes = CHALLENGE) -> str:
    return f"{EVIDENCE_PATH}?challenge={encode_challenge(challenge)}"


def test_health(front: Front) -> None:
    assert (front.get("/health").status, front.get("/health").json()) == (
        200,
        {"status": "serving"},
    )
    front.alive = False
    assert front.get("/health").status == 503
    assert front.get(ask_path()).status == 503


def test_metrics_are_brought_up_to_date(front: Front) -> None:
    answer = front.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert b"regalia_queue_waiting 7.0" in answer.body


def test_evidence_over_the_clients_challenge(front: Front) -> None:
    answer = front.get(ask_path())
    assert answer.status == 200
    assert answer.headers["cache-control"] == "no-store"
    assert parse_serving_evidence(answer.body).evidence.report == CHALLENGE


@pytest.mark.parametrize("query", ["", "?challenge=", "?challenge=AAAA", "?challenge=" + "A" * 44,
                                   "?challenge=" + "A" * 42 + "B", "?c=x"])  # fmt: skip
def test_challenges_that_are_none(query: str, front: Front) -> None:
    answer = front.get(EVIDENCE_PATH + query)
    assert (answer.status, answer.json()["code"]) == (400, "MALFORMED")
    assert "32 random bytes in base64url" in answer.json()["fix"]


def test_evidence_that_cannot_be_had(front: Front) -> None:
    front.error = LocalError(RuntimeCode.EVIDENCE_SOURCE_UNUSABLE, "no device")
    answer = front.get(ask_path())
    assert (answer.status, answer.json()["code"]) == (503, "EVIDENCE_SOURCE_UNUSABLE")


def test_only_a_few_pieces_of_evidence_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("regalia.runtime.outer._WAITING_MAX", 5)

    async def scenario() -> list[int]:
        front = Front(parallel=2)
        front.go.clear()
        tasks = [asyncio.create_task(call(front.app, "GET", ask_path())) for _ in range(8)]
        await asyncio.sleep(0.2)
        assert (front.running, front.most) == (2, 2)
        front.go.set()
        answers = await asyncio.gather(*tasks)
        assert front.most == 2
        refused = [answer.json()["code"] for answer in answers if answer.status != 200]
        assert refused == ["TOO_MANY_CHALLENGES"] * 2
        return sorted(answer.status for answer in answers)

    # Two are made, and of the five that may wait one peer has four.
    assert asyncio.run(scenario()) == [200] * 6 + [429] * 2


def test_others_get_evidence_while_one_peer_asks_without_pause() -> None:
    async def scenario() -> list[str]:
        front = Front(parallel=1)
        front.go.clear()
        done: list[str] = []

        async def ask(peer: str) -> None:
            answer = await call(front.app, "GET", ask_path(), client=peer)
            done.append(f"{peer} {answer.status}")

        many = [asyncio.create_task(ask("10.0.0.1")) for _ in range(100)]
        await asyncio.sleep(0.2)
        assert done == ["10.0.0.1 429"] * 51, "one is made, and 48 wait"
        other = asyncio.create_task(ask("10.0.0.2"))
        await asyncio.sleep(0.05)
        front.go.set()
        await asyncio.gather(other, *many)
        return done[51:]

    assert asyncio.run(scenario()).index("10.0.0.2 200") <= 2


@pytest.mark.parametrize("method", OPENAI_METHODS)
def test_openai_in_clear_is_refused(method: str, front: Front) -> None:
    for path in ("/v1/chat/completions", "/v1/models", "/v1/", "/v1/x/y"):
        answer = front.get(path, method)
        assert answer.status == 400
        if method != "HEAD":
            error = answer.json()["error"]
            assert (error["code"], error["type"]) == ("SEALED_PATH_ONLY", "invalid_request_error")


def test_the_sealed_path(front: Front) -> None:
    assert front.get("/ohttp", "POST").status == 299
    assert front.get("/ohttp", "GET").status in (404, 405)


def test_nothing_else(front: Front) -> None:
    """The routes are an allow-list; adding one needs a thought, and a change here."""
    paths = sorted(route.path for route in front.app.routes)  # type: ignore[attr-defined]
    assert paths == [EVIDENCE_PATH, "/health", "/metrics", "/ohttp", "/v1/{path:path}"]
    for path in ("/", "/docs", "/openapi.json", "/v2/x", "/health/", "/v1", "/ohttp/x"):
        answer = front.get(path)
        assert (answer.status, answer.json()["code"]) == (404, "ROUTE_UNKNOWN")
