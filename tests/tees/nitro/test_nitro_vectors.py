"""Real Nitro documents get the verdict that shared/vectors/README.md states for them.

Their nonces are not 64 bytes, so what is shown here is checks 1 to 6, and that the nonce is
refused. Debug mode is a claim; its refusal is the policy's.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from regalia.appraisal.appraisal_context import AppraisalContext
from regalia.appraisal.claims import Hardware, Revocation
from regalia.appraisal.collateral_rule import NO_GRACE, CollateralRule, RevocationRule
from regalia.appraisal.pki import Cache
from regalia.core.errors import AttestationError, RegaliaError
from regalia.policy.baseline import BaselineWords, baseline
from regalia.policy.platform import PlatformRules
from regalia.tees.nitro.evidence import NitroAnchors, NitroCollateral, parse, verify_genuine
from regalia.tees.nitro.evidence.anchors import AWS_ROOT_SPKI_SHA256
from regalia.tees.nitro.evidence.plugin import NITRO
from regalia.tees.nitro.evidence.wire import MESSAGE_MAX, parse_nitro
from regalia.wire.cbor import decode_cbor, encode_cbor
from regalia.wire.evidence import Evidence, Tee
from regalia_testing.mutation import dropped, duplicated, every_flip, none_accepted, reordered
from regalia_testing.verify import verify_fresh

if TYPE_CHECKING:
    from pathlib import Path

    from regalia.tees.nitro.claims import NitroClaims

ANY = CollateralRule(RevocationRule.ANY, NO_GRACE)


@dataclass(frozen=True)
class Vector:
    name: str
    now: datetime
    debug: bool
    pcr0: str
    nonce_size: int


VALID = Vector(
    name="evervault-valid.cbor",
    now=datetime(2022, 10, 13, 8, 58, 2, tzinfo=UTC),
    debug=False,
    pcr0="f4d48b81",
    nonce_size=256,
)
DEBUG = Vector(
    name="evervault-debug.cbor",
    now=datetime(2022, 10, 12, 13, 50, 6, tzinfo=UTC),
    debug=True,
    pcr0="00000000",
    nonce_size=0,
)
ETERNIS = Vector(
    name="eternis-example.b64",
    now=datetime(2024, 9, 9, 19, 49, 12, tzinfo=UTC),
    debug=True,
    pcr0="00000000",
    nonce_size=20,
)
VECTORS = [VALID, DEBUG, ETERNIS]


def read(folder: Path, vector: Vector) -> Evidence:
    data = (folder / "nitro" / vector.name).read_bytes()
    if vector.name.endswith(".b64"):
        data = base64.b64decode(data)
    return Evidence(Tee.NITRO, data, (), b"")


def genuine(
    evidence: Evidence, now: datetime, rule: CollateralRule = ANY, cache: Cache | None = None
) -> NitroClaims:
    found = verify_genuine(
        parse(evidence),
        anchors=NitroAnchors.production(),
        collateral=NitroCollateral(),
        at=AppraisalContext(now=now, rule=rule, cache=cache or Cache()),
    )
    return found.dangerous_without_freshness()


@pytest.fixture(params=VECTORS, ids=lambda vector: vector.name)
def vector(request: pytest.FixtureRequest) -> Vector:
    chosen = request.param
    assert isinstance(chosen, Vector)
    return chosen


def test_the_verdict(vectors: Path, vector: Vector) -> None:
    document = genuine(read(vectors, vector), vector.now)
    assert document.hardware is Hardware.GENUINE
    assert document.revocation is Revocation.UNKNOWN
    pcrs = document.pcrs
    assert pcrs[0].hex().startswith(vector.pcr0)
    assert (not any(pcrs[0] + pcrs[1] + pcrs[2])) == vector.debug
    assert len(document.report_data) == vector.nonce_size


def test_other_pcrs_of_the_signed_image(vectors: Path) -> None:
    pcrs = genuine(read(vectors, VALID), VALID.now).pcrs
    begins = {1: "bcdf05fe", 2: "d8f114da", 3: "4a9329d6", 4: "1f442c86", 8: "8790eb3c"}
    assert {index: pcrs[index][:4].hex() for index in begins} == begins
    assert sorted(pcrs) == list(range(16))


def test_user_data_and_key_of_the_debug_image(vectors: Path) -> None:
    document = genuine(read(vectors, DEBUG), DEBUG.now)
    assert document.user_data == b"hello, world!"
    assert document.public_key == b"my super secret key"
    assert document.report_data == b""


def test_a_nonce_of_another_size_is_none_of_ours(vectors: Path, vector: Vector) -> None:
    with pytest.raises(AttestationError) as refusal:
        verify_fresh(
            NITRO,
            read(vectors, vector),
            anchors=NitroAnchors.production(),
            collateral=NitroCollateral(),
            report_data=b"\x01" * 64,
            at=AppraisalContext(now=vector.now, rule=ANY, cache=Cache()),
        )
    assert refusal.value.code.name == "NONCE_MISMATCH"


def test_validity_is_judged_at_now(vectors: Path, vector: Vector) -> None:
    """Not at the document's time: a document ages with its certificate."""
    evidence = read(vectors, vector)
    aged = genuine(evidence, vector.now + timedelta(hours=2))
    assert aged.age_ms == pytest.approx(2 * 3600 * 1000, abs=1000)
    for shift, code in ((timedelta(hours=4), "CERT_EXPIRED"), (-timedelta(hours=4), "CERT_NOT_")):
        with pytest.raises(AttestationError) as refusal:
            genuine(evidence, vector.now + shift)
        assert refusal.value.code.name.startswith(code)


def test_a_second_before_the_document(vectors: Path, vector: Vector) -> None:
    with pytest.raises(AttestationError) as refusal:
        genuine(read(vectors, vector), vector.now - timedelta(seconds=1))
    assert refusal.value.code.name == "DOCUMENT_FROM_FUTURE"


def test_required_revocation_needs_lists(vectors: Path, vector: Vector) -> None:
    with pytest.raises(AttestationError) as refusal:
        genuine(
            read(vectors, vector), vector.now, CollateralRule(RevocationRule.REQUIRED, NO_GRACE)
        )
    assert refusal.value.code.name == "CRL_MISSING"


def test_the_pin_is_that_of_the_published_root(vectors: Path) -> None:
    pem = (vectors / "roots" / "aws-nitro-root-g1.pem").read_bytes()
    key = x509.load_pem_x509_certificate(pem).public_key()
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert hashlib.sha256(spki).hexdigest() == AWS_ROOT_SPKI_SHA256


def test_documents_have_one_spelling(vectors: Path, vector: Vector) -> None:
    raw = read(vectors, vector).report
    assert encode_cbor(decode_cbor(raw, limit=MESSAGE_MAX, what="message")) == raw
    payload = parse_nitro(raw).message.payload
    assert encode_cbor(decode_cbor(payload, limit=MESSAGE_MAX, what="payload")) == payload


def test_every_byte_of_a_real_document(vectors: Path) -> None:
    evidence, cache = read(vectors, VALID), Cache()

    def verify(raw: bytes) -> object:
        return genuine(replace(evidence, report=raw), VALID.now, cache=cache)

    verify(evidence.report)
    codes = none_accepted(verify, every_flip(evidence.report))
    assert {"SIGNATURE_INVALID", "MALFORMED", "CHAIN_INVALID"} <= codes


def test_entries_and_certificates_of_a_real_document(vectors: Path) -> None:
    """Dropping, doubling or swapping anything that is signed."""
    evidence = read(vectors, VALID)
    message = decode_cbor(evidence.report, limit=MESSAGE_MAX, what="message")
    assert isinstance(message, list)
    fields = decode_cbor(message[2], limit=MESSAGE_MAX, what="payload")  # type: ignore[arg-type] # a byte string, as asserted elsewhere
    assert isinstance(fields, dict)

    def verify(payload: bytes) -> object:
        raw = encode_cbor([message[0], message[1], payload, message[3]])
        return genuine(replace(evidence, report=raw), VALID.now)

    verify(encode_cbor(fields))
    for mutate in (dropped, duplicated, reordered):
        maps = [(what, encode_cbor_pairs(items)) for what, items in mutate(tuple(fields.items()))]
        none_accepted(verify, maps)
        cabundle = fields["cabundle"]
        assert isinstance(cabundle, list)
        bundles = [
            (what, encode_cbor({**fields, "cabundle": list(items)}))
            for what, items in mutate(tuple(cabundle))
        ]
        none_accepted(verify, bundles)


def encode_cbor_pairs(items: tuple[tuple[object, object], ...]) -> bytes:
    """A map from pairs, which may repeat a key."""
    body = b"".join(encode_cbor(key) + encode_cbor(value) for key, value in items)  # type: ignore[arg-type] # pairs of a parsed map
    return bytes((0xA0 | len(items),)) + body


def test_nothing_else_is_raised(vectors: Path) -> None:
    raw = read(vectors, VALID).report
    for size in range(0, len(raw), 97):
        with pytest.raises(RegaliaError):
            genuine(Evidence(Tee.NITRO, raw[:size], (), b""), VALID.now)


def test_the_policy_refuses_debug_mode(vectors: Path, vector: Vector) -> None:
    """Three of four public documents with a good signature are of enclaves in debug mode."""
    evidence = read(vectors, vector)
    claims = genuine(evidence, vector.now)
    words = BaselineWords(hardware="genuine", revocation="any", machines=(), grace_days=0)
    found = PlatformRules(baseline(words), built_in=True).judge(claims).findings
    assert [each.code.name for each in found] == (["DEBUG_ENABLED"] if vector.debug else [])


@pytest.mark.parametrize(("asked", "codes"), [(False, set()), (True, {"REVOCATION_UNKNOWN"})])
def test_the_baseline_asks_for_lists_if_a_person_does(
    *, asked: bool, codes: set[str], vectors: Path, vector: Vector
) -> None:
    claims = genuine(read(vectors, vector), vector.now)
    words = BaselineWords(
        hardware="genuine",
        revocation="required",
        machines=(),
        grace_days=0,
        revocation_asked=asked,
    )
    found = PlatformRules(baseline(words), built_in=True).judge(claims).findings
    assert {each.code.name for each in found} - {"DEBUG_ENABLED"} == codes
