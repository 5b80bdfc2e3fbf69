"""The vectors are current, and say enough for somebody who has only them."""

from __future__ import annotations

import base64
import copy
import json
from pathlib import Path
from typing import Any

import make_policy_vectors
import msgspec
import pytest

from regalia.appraisal.claims import MINT, Hardware, Revocation
from regalia.core.clock import parse_rfc3339
from regalia.core.codec import canonical_json
from regalia.core.errors import ParseError
from regalia.core.types import Digest, ModelId, PolicyId
from regalia.crypto.sign import VerifyKey
from regalia.policy.documents import ReleasePolicy, parse_client_policy, parse_release_policy
from regalia.policy.evaluate import Deny, ReleaseContext, evaluate_release
from regalia.policy.signed import load_release_policy
from regalia.tees.snp.claims import Firmware, SnpClaims, Tcb
from regalia.wire.runtime_config import RuntimeConfig

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "tests" / "vectors" / "policy"
EVALUATION = json.loads((FOLDER / "evaluation.json").read_bytes())
Json = dict[str, Any]


def test_the_script_writes_what_is_committed() -> None:
    files = make_policy_vectors.files()
    for name, data in files.items():
        assert (FOLDER / name).read_bytes() == data, "run: python scripts/make_policy_vectors.py"
    by_hand = {"conditions.json", "ill-formed.json", "ill-formed-base.json"}
    assert {path.name for path in FOLDER.iterdir()} == set(files) | by_hand


def test_documents() -> None:
    data = (FOLDER / "release-policy.json").read_bytes()
    policy = parse_release_policy(data)
    about = json.loads((FOLDER / "signed-policy.key.json").read_bytes())
    key = VerifyKey.from_der(base64.b64decode(about["public_key"]))
    assert str(key.fingerprint) == about["fingerprint"]
    signed = (FOLDER / "signed-policy.json").read_bytes()
    assert load_release_policy(signed, (key,), 1) == policy
    assert str(policy.policy_id()) == about["policy_id"]
    client = parse_client_policy((FOLDER / "client-policy.json").read_bytes())
    assert client.model == policy.model
    assert str(PolicyId.of(client.encode())) == about["client_policy_id"]


def test_the_ill_formed_documents_differ_from_a_well_formed_one() -> None:
    base = json.loads((FOLDER / "ill-formed-base.json").read_bytes())
    for kind, parse in (("release", parse_release_policy), ("client", parse_client_policy)):
        assert parse(canonical_json(base[kind])).encode() == canonical_json(base[kind])
    for name, case in json.loads((FOLDER / "ill-formed.json").read_bytes()).items():
        document = copy.deepcopy(base["release"])
        *groups, last = case["path"].split(".")
        inner = document
        for group in groups:
            inner = inner[group]
        inner[last] = case["value"]
        with pytest.raises(ParseError, match="MALFORMED") as caught:
            parse_release_policy(canonical_json(document))
        assert case["named"] in caught.value.what, name


def _claims(values: Json) -> SnpClaims:
    fields: Json = {}
    for name, value in values.items():
        if name.endswith("_tcb"):
            fields[name] = Tcb(**value)
        elif name.endswith("_firmware"):
            fields[name] = Firmware(**value)
        elif name == "hardware":
            fields[name] = Hardware(value)
        elif name == "revocation":
            fields[name] = Revocation(value)
        elif name == "evidence_digest":
            fields[name] = Digest.parse(value)
        elif name in {"product", "signing_key", "csp_id"} or isinstance(value, int):
            fields[name] = value
        elif name == "devices":
            fields[name] = tuple(value)
        elif name != "tee":
            fields[name] = bytes.fromhex(value)
    return SnpClaims(**fields, mint=MINT)


def _codes(facts: Json) -> list[str]:
    context = facts["context"]
    verdict = evaluate_release(
        msgspec.convert(facts["policy"], ReleasePolicy),
        _claims(facts["claims"]),
        ReleaseContext(
            now=parse_rfc3339(context["now"]),
            challenge_age_s=context["challenge_age_s"],
            runtime_config=msgspec.convert(context["runtime_config"], RuntimeConfig),
            model_id=ModelId.parse(context["model_id"]),
            model_version=context["model_version"],
            active_holders=context["active_holders"],
            approvals=frozenset(context["approvals"]),
            custody=context["custody"],
        ),
    )
    return [each.code.name for each in verdict.reasons] if isinstance(verdict, Deny) else []


def test_the_base_case_is_allowed() -> None:
    assert _codes(EVALUATION["base"]) == []


@pytest.mark.parametrize("name", EVALUATION["denied"])
def test_denied(name: str) -> None:
    case = EVALUATION["denied"][name]
    facts = copy.deepcopy(EVALUATION["base"])
    for path, value in case["changes"].items():
        *groups, last = path.split(".")
        inner = facts
        for group in groups:
            inner = inner[group]
        inner[last] = value
    assert case["changes"]
    assert case["codes"]
    assert _codes(facts) == case["codes"]
