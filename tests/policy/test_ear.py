"""Attestation results: one way to write, two ways to read, and tiers that never get better."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regalia.core.errors import ParseError
from regalia.policy.ear_document import (
    LIMIT,
    PROFILE,
    Ear,
    Status,
    Submod,
    TrustVector,
    parse_ear,
    tier,
)

if TYPE_CHECKING:
    from pathlib import Path

TIERS = {
    0: Status.NONE, 1: Status.NONE, -1: Status.NONE, -2: Status.NONE,
    2: Status.AFFIRMING, 31: Status.AFFIRMING, -3: Status.AFFIRMING, -32: Status.AFFIRMING,
    32: Status.WARNING, 95: Status.WARNING, -33: Status.WARNING, -96: Status.WARNING,
    96: Status.CONTRAINDICATED, 127: Status.CONTRAINDICATED, -97: Status.CONTRAINDICATED,
    -128: Status.CONTRAINDICATED,
}  # fmt: skip
GOOD = Submod(
    status=Status.AFFIRMING,
    vector=TrustVector(hardware=2, executables=3),
    policy_ids=("policy:00",),
    attester_claims={"measurement": {"value": "00", "source": "hardware_proven"}},
    verifier_claims={"checks": []},
)
EAR = Ear(
    profile=PROFILE,
    issued_at=1_700_000_000,
    nonce="00" * 32,
    developer="regalia",
    build="1",
    submods={"cpu": GOOD},
    topology={"cpu": ("gpu-0",)},
)


@pytest.mark.parametrize("value", TIERS)
def test_tiers(value: int) -> None:
    assert tier(value) is TIERS[value]


def vectors() -> st.SearchStrategy[TrustVector]:
    return st.builds(TrustVector, **{f.name: st.integers(-128, 127) for f in fields(TrustVector)})


@given(vectors())
def test_a_vector_is_as_good_as_its_worst_claim(vector: TrustVector) -> None:
    found = {tier(value) for value in vector.claims().values()}
    order = (Status.CONTRAINDICATED, Status.WARNING, Status.AFFIRMING, Status.NONE)
    assert vector.status() is next(status for status in order if status in found)


@given(vectors(), st.sampled_from(Status))
def test_parse_inverts_encode_and_no_status_is_better_than_its_vector(
    vector: TrustVector, status: Status
) -> None:
    order = [Status.NONE, Status.AFFIRMING, Status.WARNING, Status.CONTRAINDICATED]
    if order.index(status) < order.index(vector.status()):
        with pytest.raises(ValueError, match="better"):
            replace(GOOD, vector=vector, status=status)
        return
    ear = replace(EAR, submods={"cpu": replace(GOOD, vector=vector, status=status)})
    assert parse_ear(ear.encode()) == ear


def test_the_result_is_as_bad_as_its_worst_submodule() -> None:
    warned = replace(GOOD, status=Status.WARNING)
    silent = replace(GOOD, status=Status.NONE, vector=TrustVector())
    assert EAR.status() is Status.AFFIRMING
    assert replace(EAR, submods={}).status() is Status.NONE
    assert replace(EAR, submods={"a": GOOD, "b": warned}).status() is Status.WARNING
    assert replace(EAR, submods={"a": GOOD, "b": silent}).status() is Status.NONE
    assert replace(EAR, submods={"a": silent, "b": warned}).status() is Status.WARNING


def test_earlier_names_are_read() -> None:
    old = {
        "eat_profile": "tag:github.com,2023:veraison/ear",
        "iat": 1,
        "ear.verifier-id": {"developer": "d", "build": "b"},
        "submods": {
            "cpu0": {
                "ear.status": 96,
                "ear.trustworthiness-vector": {"instance-identity": 0, "hardware": 97},
                "ear.appraisal-policy-id": "default",
                "ear.veraison.annotated-evidence": {"anything": [1]},
            }
        },
    }
    ear = parse_ear(json.dumps(old).encode())
    assert ear.submods["cpu0"].status is Status.CONTRAINDICATED
    assert ear.submods["cpu0"].vector == TrustVector(hardware=97)
    assert ear.submods["cpu0"].policy_ids == ("default",)


def test_a_deployed_verifiers_result_is_read(vectors: Path) -> None:
    data = (vectors / "tokens" / "coco-ear-example.token.json").read_bytes()
    ear = parse_ear(data)
    (submod,) = ear.submods.values()
    assert ear.status() is Status.CONTRAINDICATED
    assert submod.vector == TrustVector(configuration=36, executables=33, hardware=97)


def _changed(path: str, value: object) -> bytes:
    body: Any = json.loads(EAR.encode())
    *groups, last = path.split(".")
    inner = body
    for name in groups:
        inner = inner[name]
    if value is None:
        del inner[last]
    else:
        inner[last] = value
    return json.dumps(body).encode()


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("eat_profile", None),
        ("iat", "now"),
        ("iat", True),
        ("submods", {}),
        ("submods", {str(i): {} for i in range(129)}),
        ("submods", {"cpu": 1}),
        ("submods.cpu.ear_status", None),
        ("submods.cpu.ear_status", "fine"),
        ("submods.cpu.ear_status", 3),
        ("submods.cpu.ear.status", "affirming"),  # beside ear_status
        ("submods.cpu.ear_trustworthiness_vector", {"hardware": 97}),  # worse than the status
        ("submods.cpu.ear_trustworthiness_vector", {"hardware": 128}),
        ("submods.cpu.ear_trustworthiness_vector", {"hardware": True}),
        ("submods.cpu.ear_trustworthiness_vector", {"luck": 2}),
        ("submods.cpu.ear_appraisal_policy_ids", [1]),
        ("submods.cpu.ear_attester_claims", []),
        ("ear_device_topology", {"cpu": [1]}),
        ("ear_device_topology", {"cpu": "gpu"}),
        ("ear_verifier_id", {"build": "1"}),
    ],
)
def test_defects(path: str, value: object) -> None:
    if path == "submods.cpu.ear.status":
        body = json.loads(EAR.encode())
        body["submods"]["cpu"]["ear.status"] = value
        data = json.dumps(body).encode()
    else:
        data = _changed(path, value)
    with pytest.raises(ParseError) as refusal:
        parse_ear(data)
    assert refusal.value.code.name == "MALFORMED"


@given(st.binary(max_size=200))
def test_noise_is_refused(data: bytes) -> None:
    with pytest.raises(ParseError):
        parse_ear(data)


def test_a_large_result_is_refused_unread() -> None:
    with pytest.raises(ParseError) as refusal:
        parse_ear(b" " * (LIMIT + 1))
    assert refusal.value.code.name == "TOO_LARGE"
