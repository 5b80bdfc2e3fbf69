"""The serving document: round trip, exact binding, one defect at a time."""

from __future__ import annotations

import hashlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regalia.core.codec import b64, canonical_json, lp
from regalia.core.errors import CoreCode, ParseError
from regalia.core.types import KeyFingerprint, ModelId
from regalia.wire import serving
from regalia.wire.evidence import BINDING_DOMAIN, NO_DEVICES, Evidence, Tee
from regalia.wire.release import LogProof
from regalia.wire.serving import ServingEvidence, parse_serving_evidence

EVIDENCE = Evidence(Tee.SEV_SNP, b"report", (b"cert",), b"{}")
PROOF = LogProof(record=b64(b"record"), index=3, path=[b64(bytes(32))], checkpoint="note")
RECIPIENT = KeyFingerprint(bytes(range(32)))
DOCUMENT = ServingEvidence(EVIDENCE, bytes(1216), b"spki", ModelId(bytes(32)), 7, PROOF, RECIPIENT)


DOCUMENTS = st.builds(
    ServingEvidence,
    st.builds(Evidence, st.just(Tee.SEV_SNP), st.binary(max_size=50), st.just(()), st.just(b"{}")),
    st.binary(min_size=1216, max_size=1216),
    st.binary(min_size=1, max_size=50),
    st.binary(min_size=32, max_size=32).map(ModelId),
    st.integers(0, 1 << 40),
    st.sampled_from([None, PROOF]),
    st.binary(min_size=32, max_size=32).map(KeyFingerprint),
)


@given(DOCUMENTS)
def test_round_trip(document: ServingEvidence) -> None:
    data = document.encode()
    assert parse_serving_evidence(data) == document
    assert parse_serving_evidence(data).encode() == data


def test_binding_covers_keys_model_version_and_recipient() -> None:
    challenge = bytes(range(32))
    want = hashlib.sha512(
        BINDING_DOMAIN
        + lp(
            b"serve",
            b"client;model-version=7;recipient=key:" + bytes(range(32)).hex().encode(),
            challenge,
            DOCUMENT.hpke_public_key,
            b"spki",
            bytes(32),
            bytes(32),
            NO_DEVICES,
        )
    ).digest()
    assert DOCUMENT.binding(challenge).report_data() == want


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("format", "regalia/serving-evidence/v1"),
        ("recipient", "model:" + "00" * 32),
        ("recipient", "key:" + "AA" * 32),
        ("evidence", b64(b"{}")),
        ("evidence", "not base64"),
        ("hpke_public_key", b64(bytes(1215))),
        ("hpke_public_key", b64(bytes(1217))),
        ("wrap_public_key", "AA"),
        ("wrap_public_key", ""),
        ("model_id", "model:00"),
        ("model_id", "policy:" + "00" * 32),
        ("model_version", -1),
        ("model_version", 1 << 53),
        ("model_version", "7"),
        ("release", {}),
        ("extra", 1),
    ],
)
def test_defect_is_refused(field: str, value: object) -> None:
    wire = msgspec.json.decode(DOCUMENT.encode())
    wire[field] = value
    with pytest.raises(ParseError) as caught:
        parse_serving_evidence(canonical_json(wire))
    assert caught.value.code is CoreCode.MALFORMED


def test_the_wrapping_key_has_the_limit_of_the_release_exchange() -> None:
    wire = msgspec.json.decode(DOCUMENT.encode())
    wire["wrap_public_key"] = b64(bytes(1024))
    assert len(parse_serving_evidence(canonical_json(wire)).wrap_public_key) == 1024
    wire["wrap_public_key"] = b64(bytes(1025))
    with pytest.raises(ParseError, match="TOO_LARGE"):
        parse_serving_evidence(canonical_json(wire))


@pytest.mark.parametrize("field", serving._Wire.__struct_fields__)
def test_every_field_is_required(field: str) -> None:
    wire = msgspec.json.decode(DOCUMENT.encode())
    del wire[field]
    with pytest.raises(ParseError):
        parse_serving_evidence(canonical_json(wire))


def test_one_spelling_and_one_size() -> None:
    with pytest.raises(ParseError):
        parse_serving_evidence(b" " + DOCUMENT.encode())
    with pytest.raises(ParseError) as caught:
        parse_serving_evidence(bytes(serving.LIMIT + 1))
    assert caught.value.code is CoreCode.TOO_LARGE


@given(st.binary(min_size=32, max_size=32))
def test_challenge_round_trips(challenge: bytes) -> None:
    text = serving.encode_challenge(challenge)
    assert len(text) == 43
    assert serving.parse_challenge(text) == challenge


@pytest.mark.parametrize(
    "text",
    [
        "",
        "A" * 42,
        "A" * 44,
        "A" * 43 + "=",
        "A" * 42 + "B",
        "+" * 42 + "A",
        "A" * 42 + "\n",
        "é" * 43,
    ],
)
def test_challenge_defects(text: str) -> None:
    with pytest.raises(ParseError) as caught:
        serving.parse_challenge(text)
    assert caught.value.code is CoreCode.MALFORMED


def test_challenge_of_another_size_is_the_callers_mistake() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        serving.encode_challenge(bytes(31))
