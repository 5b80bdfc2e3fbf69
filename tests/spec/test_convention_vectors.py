"""The shared encodings: the product and a reader of standard parts agree on every vector."""

from __future__ import annotations

import base64
import json
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from vector_files import text_of

from regalia.core.clock import parse_rfc3339, rfc3339
from regalia.core.codec import b64, canonical_json, lp, parse_json, unb64, unhex
from regalia.core.errors import ParseError, RegaliaError
from regalia.core.types import Digest, KeyFingerprint, ModelId, PolicyId
from regalia.crypto.dsse import parse_envelope
from regalia.crypto.sign import VerifyKey
from regalia.seal.format.sealed import SealId

if TYPE_CHECKING:
    from regalia.core.types import FixedBytes

FOLDER = Path(__file__).parents[1] / "vectors" / "conventions"
FORMS: dict[str, type[FixedBytes]] = {
    kind.PREFIX: kind for kind in (Digest, ModelId, SealId, PolicyId, KeyFingerprint)
}


def read(name: str) -> Any:  # noqa: ANN401 - JSON
    return json.loads((FOLDER / name).read_text(encoding="utf-8"))


DOCUMENTS, TEXTS, SIGNED = (
    read("canonical-json.json"),
    read("texts.json"),
    read("signed-documents.json"),
)


class Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the vectors of canonical JSON hold."""

    i: int
    l: list[str]  # noqa: E741 - the vector's member
    t: str


def test_documents_are_encoded_like_this() -> None:
    for case in DOCUMENTS["accepted"]:
        data = bytes.fromhex(case["hex"])
        document = parse_json(data, Document, limit=len(data), what="vector")
        assert msgspec.to_builtins(document) == case["value"]
        assert canonical_json(document) == data
        # Python's own encoder has the same form.
        text = json.dumps(case["value"], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        assert text.encode() == data


@pytest.mark.parametrize("name", DOCUMENTS["refused"])
def test_other_spellings_are_refused(name: str) -> None:
    data = bytes.fromhex(DOCUMENTS["refused"][name])
    with pytest.raises(ParseError, match="MALFORMED"):
        parse_json(data, Document, limit=1000, what="vector")


def test_base64() -> None:
    for case in TEXTS["base64"]["accepted"]:
        data = bytes.fromhex(case["hex"])
        assert unb64(case["text"], what="vector") == data == base64.b64decode(case["text"])
        assert b64(data) == case["text"]
    for text in TEXTS["base64"]["refused"].values():
        with pytest.raises(ParseError, match="MALFORMED"):
            unb64(text, what="vector")


def test_hexadecimal() -> None:
    for text in TEXTS["hexadecimal"]["accepted"]:
        assert unhex(text, what="vector").hex() == text
    for text in TEXTS["hexadecimal"]["refused"].values():
        with pytest.raises(ParseError, match="MALFORMED"):
            unhex(text, what="vector")


def test_length_prefixes() -> None:
    for case in TEXTS["length_prefixes"]:
        parts = [bytes.fromhex(part) for part in case["parts"]]
        by_hand = b"".join(struct.pack(">I", len(part)) + part for part in parts)
        assert lp(*parts) == by_hand == bytes.fromhex(case["lp"])


def test_text_forms() -> None:
    forms = TEXTS["text_forms"]
    assert set(forms["accepted"]) == set(FORMS)
    for prefix, text in forms["accepted"].items():
        assert str(FORMS[prefix].parse(text)) == text
        for other in set(FORMS) - {prefix}:
            with pytest.raises(ParseError, match="MALFORMED"):
                FORMS[other].parse(text)
    for text in forms["refused"].values():
        with pytest.raises(ParseError, match="MALFORMED"):
            ModelId.parse(text)


def test_times() -> None:
    for text in TEXTS["times"]["accepted"]:
        assert rfc3339(parse_rfc3339(text)) == text
    for text in TEXTS["times"]["refused"].values():
        with pytest.raises(ValueError):  # noqa: PT011 - in the words of the standard library
            parse_rfc3339(text)


KEYS = tuple(VerifyKey.from_der(base64.b64decode(key["public_key"])) for key in SIGNED["keys"])
P384 = VerifyKey.from_der(base64.b64decode(SIGNED["p384"]["public_key"]))


def verified(text: str, *, threshold: int = 1) -> bytes:
    """The payload, which is one of the documents above."""
    envelope = parse_envelope(text.encode(), what="vector")
    payload = envelope.verify(SIGNED["payload_type"], (*KEYS, P384), threshold=threshold)
    parse_json(payload, Document, limit=1000, what="payload")
    return payload


def groups() -> list[dict[str, Any]]:
    """What one reader demands, with envelopes that are accepted and refused."""
    return [{"threshold": 1} | SIGNED, SIGNED["two_must_sign"], SIGNED["p384"]]


def test_signed_documents() -> None:
    for key, about in zip((*KEYS, P384), (*SIGNED["keys"], SIGNED["p384"]), strict=True):
        assert str(key.fingerprint) == about["fingerprint"]
    for group in groups():
        for text in group["accepted"].values():
            assert verified(text, threshold=group["threshold"]) == SIGNED["payload"].encode()
            assert parse_envelope(text.encode(), what="vector").encode() == text.encode()
    kind, payload = SIGNED["payload_type"].encode(), SIGNED["payload"].encode()
    signed = b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)
    assert signed.hex() == SIGNED["signed_bytes"]


def refused() -> list[Any]:
    cases = [
        pytest.param(case | {"threshold": group["threshold"]}, id=name)
        for group in groups()
        for name, case in group["refused"].items()
    ]
    return cases + [pytest.param(case, id=name) for name, case in SIGNED["two_defects"].items()]


@pytest.mark.parametrize("case", refused())
def test_signed_documents_are_refused(case: dict[str, Any]) -> None:
    with pytest.raises(RegaliaError) as caught:
        verified(text_of(case["envelope"]), threshold=case["threshold"])
    assert caught.value.code.name == case["code"]


def test_every_step_of_the_order_stands_before_another_in_some_vector() -> None:
    pairs = {(case["code"], case["also"]) for case in SIGNED["two_defects"].values()}
    assert pairs >= {
        ("MALFORMED", "WRONG_PAYLOAD_TYPE"),
        ("WRONG_PAYLOAD_TYPE", "UNSIGNED"),
        ("WRONG_PAYLOAD_TYPE", "SIGNATURE_INVALID"),
        ("UNSIGNED", "MALFORMED"),
        ("SIGNATURE_INVALID", "SIGNER_UNKNOWN"),
        ("SIGNATURE_INVALID", "MALFORMED"),
        ("SIGNER_UNKNOWN", "MALFORMED"),
    }
    assert all(code != also for code, also in pairs)
