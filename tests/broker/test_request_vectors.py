"""Release requests that a broker refuses, over HTTP: code, status, and what the log says of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from vector_files import differing

if TYPE_CHECKING:
    from tests.broker.harness import Deployment

VECTORS = Path(__file__).parents[1] / "vectors"
EXCHANGE: dict[str, Any] = json.loads((VECTORS / "messages" / "exchange.json").read_text())
RELEASED: dict[str, Any] = json.loads((VECTORS / "release" / "released-key.json").read_text())
CASES: dict[str, Any] = EXCHANGE["refused_release_requests"]


def request_for(deployment: Deployment, challenge: str, case: dict[str, Any]) -> bytes:
    """The request of a case, with a challenge of this broker for what it serves."""
    asked = {
        "challenge": challenge,
        "model_id": str(deployment.model_id),
        "policy_id": str(deployment.policy.policy_id()),
        "hpke_public_key": RELEASED["public_key"],
    }
    members = asked | case.get("members", {})
    return differing(EXCHANGE["release_request"], case | {"members": members}).encode()


@pytest.mark.parametrize("name", CASES)
def test_release_requests_are_refused(name: str, deployment: Deployment) -> None:
    case = CASES[name]
    asked = deployment.challenge()
    body = request_for(deployment, asked.challenge, case)
    answer = deployment.http("POST", "/v1/release", content=body)
    assert (answer.status_code, deployment.refused(answer).code) == (case["status"], case["code"])
    records = deployment.records()
    assert bool(records) == case["logged"]
    if case["logged"]:
        assert deployment.denied(answer, status=case["status"]) == [case["code"]]
    else:
        assert deployment.refused(answer).log is None
    # A refusal that is not logged has spent no challenge.
    good = request_for(deployment, asked.challenge, {})
    again = deployment.http("POST", "/v1/release", content=good)
    assert (deployment.refused(again).code == "CHALLENGE_REUSED") == case["logged"]
