"""Messages of a release and of a serving runtime: the product agrees with every vector."""

from __future__ import annotations

import base64
import hashlib
import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import msgspec
import pytest
from vector_files import differing, text_of

from regalia.appraisal.config_binding import expected_slot
from regalia.broker.approvals import verify_approvals
from regalia.broker.leases import holder_of
from regalia.broker.models import ServedModel
from regalia.broker.request import (
    decode,
    parse_challenge_request,
    parse_lease_return,
    parse_release_request,
)
from regalia.core.clock import parse_rfc3339
from regalia.core.codec import MIB, canonical_json, parse_json
from regalia.core.errors import ParseError, RegaliaError
from regalia.core.types import ModelId, PolicyId
from regalia.crypto.sign import VerifyKey
from regalia.wire.evidence import (
    CHALLENGE_SIZE,
    DeviceEvidence,
    DeviceKind,
    Role,
    Tee,
    device_nonce,
    devices_digest,
    parse_evidence,
)
from regalia.wire.release import (
    RETURN_TOKEN_SIZE,
    ChallengeRequest,
    ChallengeResponse,
    LeaseReturn,
    LeaseReturned,
    Refusal,
    ReleaseRequest,
    ReleaseResponse,
)
from regalia.wire.runtime_config import parse_runtime_config
from regalia.wire.serving import encode_challenge, parse_challenge, parse_serving_evidence

if TYPE_CHECKING:
    from regalia.appraisal.claims import Claims
    from regalia.broker.approvals import VerifiedApproval

FOLDER = Path(__file__).parents[1] / "vectors" / "messages"
MESSAGES = {
    "challenge_request": ChallengeRequest,
    "challenge_response": ChallengeResponse,
    "release_request": ReleaseRequest,
    "release_request_to_renew": ReleaseRequest,
    "release_response": ReleaseResponse,
    "lease_return": LeaseReturn,
    "lease_returned": LeaseReturned,
    "denial": Refusal,
    "refusal_without_record": Refusal,
}


def read(name: str) -> Any:  # noqa: ANN401 - JSON
    return json.loads((FOLDER / name).read_text(encoding="utf-8"))


EXCHANGE, EVIDENCE, DEVICES = read("exchange.json"), read("evidence.json"), read("devices.json")
SERVING, APPROVALS = read("serving-evidence.json"), read("approvals.json")


def code_of(call: Any) -> str:  # noqa: ANN401 - any callable
    with pytest.raises(RegaliaError) as caught:
        call()
    return caught.value.code.name


# -- by hand, from docs/spec/release-exchange.md alone --------------------------------------------


def lp(*parts: bytes) -> bytes:
    return b"".join(struct.pack(">I", len(part)) + part for part in parts)


def sha256(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


# -- the release exchange -------------------------------------------------------------------------


@pytest.mark.parametrize("name", MESSAGES)
def test_messages(name: str) -> None:
    text = EXCHANGE[name].encode()
    message: Any = parse_json(text, MESSAGES[name], limit=8 * MIB, what=name)
    assert canonical_json(message) == text


def test_the_broker_reads_the_requests() -> None:
    model_id = parse_challenge_request(EXCHANGE["challenge_request"].encode())
    for name in ("release_request", "release_request_to_renew"):
        request, challenge = parse_release_request(EXCHANGE[name].encode())
        assert len(challenge) == CHALLENGE_SIZE
        assert request.model_id == str(model_id)
        # The public key of a vector is no X-Wing key, and ``decode`` would say so.
        assert code_of(lambda: decode(request)) == "HPKE_KEY_MALFORMED"  # noqa: B023 - at once


@pytest.mark.parametrize("name", EXCHANGE["refused_challenge_requests"])
def test_challenge_requests_are_refused(name: str) -> None:
    body = EXCHANGE["refused_challenge_requests"][name].encode()
    assert code_of(lambda: parse_challenge_request(body)) == "MALFORMED"


def test_a_lease_is_given_back() -> None:
    lease_id, token = parse_lease_return(EXCHANGE["lease_return"].encode())
    assert json.loads(EXCHANGE["lease_returned"]) == {"lease_id": lease_id}
    assert len(token) == RETURN_TOKEN_SIZE


@pytest.mark.parametrize("name", EXCHANGE["refused_lease_returns"])
def test_lease_returns_are_refused(name: str) -> None:
    body = EXCHANGE["refused_lease_returns"][name].encode()
    assert code_of(lambda: parse_lease_return(body)) == "MALFORMED"


@pytest.fixture(scope="module")
def hpke_public_key() -> str:
    path = FOLDER.parent / "release" / "released-key.json"
    key: str = json.loads(path.read_text(encoding="utf-8"))["public_key"]
    return key


def test_a_request_with_a_key_is_read(hpke_public_key: str) -> None:
    text = EXCHANGE["release_request"]
    good = json.loads(text)["hpke_public_key"]
    request, _ = parse_release_request(text.replace(good, hpke_public_key).encode())
    assert decode(request).evidence == EVIDENCE["accepted"]["cpu_alone"]["envelope"].encode()


# -- evidence, devices, holders -------------------------------------------------------------------


@pytest.mark.parametrize("name", EVIDENCE["accepted"])
def test_evidence(name: str) -> None:
    case = EVIDENCE["accepted"][name]
    text = case["envelope"].encode()
    evidence = parse_evidence(text)
    assert evidence.encode() == text
    assert str(evidence.digest()) == case["digest"] == f"sha256:{sha256(text).hex()}"
    assert devices_digest(evidence.devices).raw.hex() == case["device_evidence"]


@pytest.mark.parametrize("name", EVIDENCE["refused"])
def test_evidence_is_refused(name: str) -> None:
    code, text = EVIDENCE["refused"][name]
    assert code_of(lambda: parse_evidence(text_of(text).encode())) == code


def test_the_largest_evidence() -> None:
    text = text_of(EVIDENCE["largest"]).encode()
    assert len(text) == 4 * MIB
    assert parse_evidence(text).encode() == text


CONFIGURATIONS = EVIDENCE["runtime_configurations"]


@pytest.mark.parametrize("name", CONFIGURATIONS["accepted"])
def test_runtime_configurations(name: str) -> None:
    data = text_of(CONFIGURATIONS["accepted"][name]).encode()
    assert parse_runtime_config(data).encode() == data


@pytest.mark.parametrize("name", CONFIGURATIONS["refused"])
def test_runtime_configurations_are_refused(name: str) -> None:
    code, text = CONFIGURATIONS["refused"][name]
    assert code_of(lambda: parse_runtime_config(text_of(text).encode())) == code


def test_runtime_configuration() -> None:
    data = EVIDENCE["runtime_config"].encode()
    assert parse_runtime_config(data).encode() == data
    by_hand = {
        "sev-snp": sha256(data),
        "tdx": hashlib.sha384(data).digest(),
        "sgx": hashlib.sha512(data).digest(),
        "aws-nitro": hashlib.sha384(bytes(48) + hashlib.sha384(data).digest()).digest(),
        "tpm": sha256(bytes(32), sha256(data)),
        "az-snp-vtpm": sha256(bytes(32), sha256(data)),
        "az-tdx-vtpm": sha256(bytes(32), sha256(data)),
    }
    assert set(EVIDENCE["recorded"]) == set(by_hand)
    for tee, recorded in EVIDENCE["recorded"].items():
        assert expected_slot(Tee(tee), data).hex() == recorded == by_hand[tee].hex()


def test_nonces_of_devices() -> None:
    for case in DEVICES["nonces"]:
        challenge, key = (bytes.fromhex(case[name]) for name in ("challenge", "hpke_public_key"))
        by_hand = sha256(b"regalia/device-nonce/v1", lp(case["role"].encode(), challenge, key))
        assert device_nonce(Role(case["role"]), challenge, key) == by_hand
        assert by_hand.hex() == case["nonce"]
    assert len({case["nonce"] for case in DEVICES["nonces"]}) == 2


def test_digests_of_devices() -> None:
    devices = []
    for case in DEVICES["devices"]:
        report = bytes.fromhex(case["report"])
        chain = tuple(bytes.fromhex(der) for der in case["endorsements"])
        devices.append(DeviceEvidence(DeviceKind(case["kind"]), report, chain))
        by_hand = sha256(lp(case["kind"].encode(), report, *chain))
        assert devices[-1].digest().raw == by_hand
        assert by_hand.hex() == case["digest"]
    for case in DEVICES["device_evidence"]:
        parts = [bytes.fromhex(DEVICES["devices"][n]["digest"]) for n in case["order"]]
        by_hand = sha256(b"regalia/device-evidence/v1", lp(*parts))
        if not parts:
            by_hand = sha256(b"regalia/no-devices/v1")
        assert devices_digest([devices[n] for n in case["order"]]).raw == by_hand
        assert by_hand.hex() == case["digest"]
    assert len({case["digest"] for case in DEVICES["device_evidence"]}) == 5


@dataclass(frozen=True)
class Told:
    """The claims that a holder is made of."""

    instance: bytes
    guest: bytes
    measurement: bytes
    config_binding: bytes


def test_holders_of_leases() -> None:
    cases = read("lease-holders.json")
    for case in cases:
        told = Told(*(bytes.fromhex(case[name]) for name in Told.__dataclass_fields__))
        key = bytes.fromhex(case["hpke_public_key"])
        parts = lp(told.instance, told.guest, told.measurement, told.config_binding)
        by_hand = sha256(b"regalia/lease-holder/v1", parts, b"" if told.guest else lp(key))
        assert holder_of(cast("Claims", told), key) == by_hand.hex() == case["holder"]
    with_guest = {case["holder"] for case in cases if case["guest"]}
    without = {case["holder"] for case in cases if not case["guest"]}
    assert (len(with_guest), len(without)) == (1, 2)


# -- serving evidence -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", SERVING["accepted"])
def test_serving_evidence(name: str) -> None:
    text = SERVING["accepted"][name].encode()
    assert parse_serving_evidence(text).encode() == text


def test_the_largest_serving_evidence() -> None:
    text = differing(SERVING["accepted"]["with_proof"], SERVING["largest"]).encode()
    assert len(text) == 8 * MIB
    assert parse_serving_evidence(text).encode() == text


@pytest.mark.parametrize("name", SERVING["refused"])
def test_serving_evidence_is_refused(name: str) -> None:
    code, differs = SERVING["refused"][name]
    text = differing(SERVING["accepted"]["with_proof"], differs)
    assert code_of(lambda: parse_serving_evidence(text.encode())) == code


def test_binding_of_serving_evidence() -> None:
    challenge = bytes.fromhex(SERVING["challenge"])
    binding = parse_serving_evidence(SERVING["accepted"]["without_proof"].encode()).binding(
        challenge
    )
    assert binding.audience == SERVING["audience"]
    assert binding.report_data().hex() == SERVING["report_data"]


def test_binding_of_serving_evidence_with_devices() -> None:
    served = parse_serving_evidence(SERVING["accepted"]["with_devices"].encode())
    assert len(served.evidence.devices) == 2
    digest = devices_digest(served.evidence.devices)
    binding = served.binding(bytes.fromhex(SERVING["challenge"]))
    assert binding.report_data_with(digest).hex() == SERVING["report_data_with_devices"]
    keys = served.hpke_public_key, served.wrap_public_key, served.model_id.raw
    parts = [
        b"serve",
        SERVING["audience"].encode(),
        binding.challenge,
        *keys,
        bytes(32),
        digest.raw,
    ]
    by_hand = hashlib.sha512(b"regalia/report-data/v1" + lp(*parts)).hexdigest()
    assert by_hand == SERVING["report_data_with_devices"] != SERVING["report_data"]


def test_the_challenge_of_a_client() -> None:
    challenge = bytes.fromhex(SERVING["challenge"])
    unpadded = base64.urlsafe_b64encode(challenge).decode().rstrip("=")
    assert encode_challenge(challenge) == SERVING["query"] == unpadded
    assert parse_challenge(SERVING["query"]) == challenge
    for text in SERVING["refused_queries"]:
        with pytest.raises(ParseError, match="MALFORMED"):
            parse_challenge(text)


# -- approvals ------------------------------------------------------------------------------------

APPROVERS = tuple(
    VerifyKey.from_der(base64.b64decode(each["public_key"])) for each in APPROVALS["approvers"]
)


def verified(texts: list[str]) -> tuple[VerifiedApproval, ...]:
    return verify_approvals(
        {f"vector {number}": text.encode() for number, text in enumerate(texts)},
        APPROVERS,
        policy_id=PolicyId.parse(APPROVALS["policy_id"]),
        model_id=ModelId.parse(APPROVALS["model_id"]),
    )


def approved(text: str) -> list[str]:
    return [each.approver for each in verified([text])]


@pytest.mark.parametrize("name", APPROVALS["accepted"])
def test_approvals(name: str) -> None:
    text, who = APPROVALS["accepted"][name]
    assert approved(text) == [APPROVALS["approvers"][n]["fingerprint"] for n in who]


@pytest.mark.parametrize("name", APPROVALS["refused"])
def test_approvals_are_refused(name: str) -> None:
    code, text = APPROVALS["refused"][name]
    assert code_of(lambda: approved(text)) == code


@pytest.mark.parametrize("name", APPROVALS["two_defects"])
def test_signatures_of_approvals_come_before_what_they_say(name: str) -> None:
    case = APPROVALS["two_defects"][name]
    assert code_of(lambda: approved(case["document"])) == case["code"] != case["also"]


@pytest.mark.parametrize("name", APPROVALS["counted"]["cases"])
def test_how_long_approvals_count(name: str) -> None:
    texts, who = APPROVALS["counted"]["cases"][name]
    model = ServedModel.__new__(ServedModel)
    object.__setattr__(model, "approvals", verified(texts))
    want = {APPROVALS["approvers"][n]["fingerprint"] for n in who}
    assert model.approvers(parse_rfc3339(APPROVALS["counted"]["now"])) == want


def test_every_member_of_a_message_has_a_value_in_the_vectors() -> None:
    for name, kind in MESSAGES.items():
        names = {field.encode_name for field in msgspec.structs.fields(kind)}
        assert set(json.loads(EXCHANGE[name])) == names
