"""Answers of brokers: the runtime takes those that the vectors say, and opens their keys."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from vector_files import differing

from regalia.core.codec import unb64
from regalia.core.errors import RegaliaError
from regalia.core.types import ModelId
from regalia.crypto.kem import XWingKeyPair
from regalia.runtime.broker import BrokerClient
from regalia.runtime.keys import RuntimeKeys
from regalia.runtime.release import Exchange, accept, give_back, unwrap
from regalia.wire.evidence import parse_evidence
from regalia.wire.release import ReleaseRequest

if TYPE_CHECKING:
    from regalia.core.secret import SecretBytes
    from regalia.runtime.release import AcceptedRelease

VECTORS = Path(__file__).parents[1] / "vectors"
ANSWERS: dict[str, Any] = json.loads((VECTORS / "messages" / "exchange.json").read_text())[
    "release_answers"
]
RELEASED: dict[str, Any] = json.loads((VECTORS / "release" / "released-key.json").read_text())
PAIR = XWingKeyPair(
    MLKEM768PrivateKey.from_seed_bytes(bytes.fromhex(RELEASED["mlkem768_seed"])),
    X25519PrivateKey.from_private_bytes(bytes.fromhex(RELEASED["x25519_private"])),
)
# No vector has a key that a token has wrapped; their format is in docs/spec/release-exchange.md.
KEYS = RuntimeKeys(release=PAIR, serving=PAIR, wrap=rsa.generate_private_key(65537, 3072))


def accepted(case: dict[str, Any]) -> AcceptedRelease:
    """What a runtime makes of an answer, from HTTP to the proof."""
    answer = differing(ANSWERS["answer"], case)
    asked = differing(ANSWERS["request"], {"members": case.get("request_members", {})})
    request = msgspec.json.decode(asked, type=ReleaseRequest)
    transport = httpx.MockTransport(
        lambda _: httpx.Response(200, stream=httpx.ByteStream(answer.encode()))
    )
    with httpx.Client(transport=transport) as http:
        response = BrokerClient("http://broker.example", http).release(request)
    evidence = parse_evidence(unb64(request.evidence, what="evidence"))
    return accept(Exchange(request, evidence, False, response), log_key=ANSWERS["log_key"])  # noqa: FBT003


def opened(release: AcceptedRelease) -> SecretBytes:
    return unwrap(release, KEYS, ModelId.parse(release.logged.record.model_id))


@pytest.mark.parametrize("name", ANSWERS["accepted"])
def test_answers_are_accepted(name: str) -> None:
    release = accepted(ANSWERS["accepted"][name])
    with opened(release) as key:
        assert key.view().hex() == ANSWERS["model_key"]
    returned = give_back(release, PAIR, ModelId.parse(release.logged.record.model_id))
    assert unb64(returned.token, what="token").hex() == ANSWERS["return_token"]


@pytest.mark.parametrize("name", ANSWERS["refused"])
def test_answers_are_refused(name: str) -> None:
    case = ANSWERS["refused"][name]
    with pytest.raises(RegaliaError) as caught:
        opened(accepted(case)).close()
    assert caught.value.code.name == case["code"]


def test_sizes_around_the_limit() -> None:
    cases = [ANSWERS["refused"][name] for name in ("1_mib", "1_mib_and_a_byte")]
    sizes = [len(differing(ANSWERS["answer"], case).encode()) for case in cases]
    assert sizes == [1 << 20, (1 << 20) + 1]
