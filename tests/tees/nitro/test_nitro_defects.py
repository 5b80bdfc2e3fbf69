"""One simulated defect for each check of docs/spec/nitro-appraisal.md, and the code it deserves."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from regalia.appraisal.appraisal_context import AppraisalContext
from regalia.appraisal.check_log import CheckLog
from regalia.appraisal.claims import Hardware, Revocation
from regalia.appraisal.config_binding import expected_slot
from regalia.appraisal.pki import parse_certificate
from regalia.core.errors import AttestationError, RegaliaError
from regalia.tees.nitro.claims import NitroClaims
from regalia.tees.nitro.evidence import NitroAnchors, NitroCollateral, checks, parse, verify_genuine
from regalia.tees.nitro.evidence.chain import TrustedSigner
from regalia.wire.evidence import Tee
from regalia_testing.tees.nitro.defects import HEALTHY, NitroDefects
from regalia_testing.tees.snp.testbed import refused
from regalia_testing.testbed import ANY, MEASUREMENT, REPORT_DATA, RUNTIME_CONFIG

if TYPE_CHECKING:
    from collections.abc import Callable

    from regalia.wire.cbor import Cbor
    from regalia.wire.evidence import Evidence
    from regalia_testing.tees.nitro.testbed import NitroTestbed


def test_a_healthy_enclave_gives_claims(nitro: NitroTestbed) -> None:
    evidence = nitro.evidence()
    claims = nitro.verify(evidence)
    assert claims.tee is Tee.NITRO
    assert claims.hardware is Hardware.SIMULATED
    assert claims.revocation is Revocation.UNKNOWN
    assert claims.product == "nitro-enclaves"
    assert claims.measurement == MEASUREMENT
    assert claims.report_data == REPORT_DATA
    assert claims.config_binding == expected_slot(Tee.NITRO, RUNTIME_CONFIG)
    assert claims.instance == nitro.platform.authority.instance_id.encode()
    assert claims.guest == nitro.platform.module_id.encode()
    assert claims.age_ms == 0
    assert claims.evidence_digest == evidence.digest()
    assert not claims.debug
    assert not claims.migratable
    assert claims.devices == ()


REFUSED = [
    ({"stale_nonce": True}, "NONCE_MISMATCH"),
    ({"zero_nonce": True}, "NONCE_MISMATCH"),
    ({"no_nonce": True}, "NONCE_MISMATCH"),
    ({"short_nonce": True}, "NONCE_MISMATCH"),
    ({"age_s": -1}, "DOCUMENT_FROM_FUTURE"),
    ({"age_s": 60, "leaf_after_document": True}, "CERT_NOT_YET_VALID"),
    ({"bad_signature": True}, "SIGNATURE_INVALID"),
    ({"other_signer": True}, "SIGNATURE_INVALID"),
    ({"algorithm": -7}, "SIGNATURE_INVALID"),
    ({"algorithm": -36}, "SIGNATURE_INVALID"),
    ({"algorithm": 5}, "SIGNATURE_INVALID"),
    ({"unprotected_header": True}, "MALFORMED"),
    ({"trailing_byte": True}, "TRAILING_DATA"),
    ({"truncated": True}, "MALFORMED"),
    ({"duplicate_field": True}, "MALFORMED"),
    ({"duplicate_field": True, "indefinite": True}, "MALFORMED"),
    ({"unknown_field": True, "indefinite": True}, "MALFORMED"),
    ({"trailing_byte": True, "tagged": True}, "TRAILING_DATA"),
    ({"unprotected_header": True, "tagged": True}, "MALFORMED"),
    ({"unknown_field": True}, "MALFORMED"),
    ({"other_digest": True}, "MALFORMED"),
    ({"stranger_root": True}, "ROOT_UNTRUSTED"),
    ({"leaf_expired": True}, "CERT_EXPIRED"),
    ({"leaf_is_ca": True}, "CHAIN_INVALID"),
]


@pytest.mark.parametrize(("defects", "code"), REFUSED, ids=str)
def test_refused(nitro: NitroTestbed, defects: dict[str, Any], code: str) -> None:
    refused(code, nitro.verify, evidence=nitro.evidence(**defects))


CARRIED = [{"tagged": True}, {"indefinite": True}, {"tagged": True, "indefinite": True}]


@pytest.mark.parametrize("carried", CARRIED, ids=str)
def test_forms_that_are_accepted(nitro: NitroTestbed, carried: dict[str, Any]) -> None:
    """Enclaves of today write a map of indefinite length; some tools put tag 18 before it."""
    assert nitro.verify(nitro.evidence(**carried)).measurement == MEASUREMENT


def test_a_tag_stands_there_once(nitro: NitroTestbed) -> None:
    evidence = nitro.evidence(tagged=True)
    twice = replace(evidence, report=evidence.report[:1] + evidence.report)
    refused("MALFORMED", nitro.verify, evidence=twice)


CLAIMED = [
    ("debug", lambda claims: claims.debug),
    ("wrong_measurement", lambda claims: claims.measurement != MEASUREMENT),
    ("other_kernel", lambda claims: claims.pcrs[1]),
    ("other_application", lambda claims: claims.pcrs[2]),
    ("other_role", lambda claims: claims.pcrs[3]),
    ("other_instance", lambda claims: claims.pcrs[4]),
    ("unsigned_image", lambda claims: claims.pcrs[8]),
    ("wrong_config", lambda claims: claims.config_binding),
    ("config_not_locked", lambda claims: claims.config_binding),
    ("age_s", lambda claims: claims.age_ms),
]


@pytest.mark.parametrize(("field", "seen"), CLAIMED, ids=[name for name, _ in CLAIMED])
def test_what_is_for_the_policy_shows_in_the_claims(
    nitro: NitroTestbed, field: str, seen: Callable[[NitroClaims], object]
) -> None:
    value = 90 if field == "age_s" else True
    altered = nitro.verify(nitro.evidence(**{field: value}))
    assert seen(altered) != seen(nitro.verify(nitro.evidence()))


def test_every_knob_is_shown() -> None:
    shown = [*(defects for defects, _ in REFUSED), *CARRIED]
    named = {name for defects in shown for name in defects} | {name for name, _ in CLAIMED}
    assert named == {field.name for field in fields(NitroDefects)}


def test_one_zero_register_is_debug_enough(nitro: NitroTestbed) -> None:
    for index in (0, 1, 2):
        payload = nitro.fields()
        pcrs = payload["pcrs"]
        assert isinstance(pcrs, dict)
        pcrs[index] = bytes(48)
        assert nitro.verify(nitro.signed(payload)).debug


def test_age_is_of_the_document(nitro: NitroTestbed) -> None:
    claims = nitro.verify(nitro.evidence(age_s=90))
    assert claims.age_ms == 90_000
    later = nitro.verify(nitro.evidence(), now=nitro.now + timedelta(milliseconds=1500))
    assert later.age_ms == 1500


def test_dates_count_in_whole_seconds(nitro: NitroTestbed) -> None:
    """A clock that gives seconds is not behind, and a document is as old as its certificate."""
    leaf = parse_certificate(nitro.platform.fixed_leaf(), what="leaf")
    begin, now = (int(when.timestamp() * 1000) for when in (leaf.not_before, nitro.now))

    def dated(timestamp: int) -> Evidence:
        return nitro.signed({**nitro.fields(), "timestamp": timestamp})

    for timestamp, age in ((now, 0), (now + 1, 0), (now + 999, 0), (begin, now - begin)):
        assert nitro.verify(dated(timestamp)).age_ms == age
    refused("DOCUMENT_FROM_FUTURE", nitro.verify, evidence=dated(now + 1000))
    refused("CERT_NOT_YET_VALID", nitro.verify, evidence=dated(begin - 1))


def test_nothing_is_expected_of_zeros(nitro: NitroTestbed) -> None:
    evidence = nitro.evidence(zero_nonce=True)
    refused("NONCE_WELL_KNOWN", nitro.verify, evidence=evidence, report_data=bytes(64))


def test_misuse_is_the_callers_bug(nitro: NitroTestbed) -> None:
    with pytest.raises(ValueError, match="64"):
        nitro.verify(nitro.evidence(), report_data=b"short")
    with pytest.raises(ValueError, match="time zone"):
        nitro.verify(nitro.evidence(), now=datetime(2026, 11, 22, 12, 0))  # noqa: DTZ001 - the defect
    with pytest.raises(TypeError, match="claims come from"):
        NitroClaims(*[None] * 10, mint=object())  # type: ignore[arg-type] # refused before use
    with pytest.raises(TypeError, match="comes from"):
        TrustedSigner(None, None, (), None, object())  # type: ignore[arg-type] # likewise
    with pytest.raises(TypeError, match="production"):
        NitroAnchors(Hardware.GENUINE, bytes(32), object())


def test_what_comes_beside_the_document(nitro: NitroTestbed) -> None:
    evidence = nitro.evidence()
    for altered in (
        replace(evidence, endorsements=(nitro.platform.root,)),
        replace(evidence, event_log=b"log"),
        replace(evidence, tee=Tee.SEV_SNP),
    ):
        refused("MALFORMED", nitro.verify, evidence=altered)


def test_production_trusts_no_simulation(nitro: NitroTestbed) -> None:
    refused(
        "ROOT_UNTRUSTED", nitro.verify, evidence=nitro.evidence(), anchors=NitroAnchors.production()
    )


FIELDS = [
    ("module_id", ""),
    ("module_id", "i" * 257),
    ("module_id", b"i-0"),
    ("module_id", "i-0\n"),
    ("module_id", "i-\u00e9"),
    ("digest", "SHA256"),
    ("digest", None),
    ("timestamp", 0),
    ("timestamp", -1),
    ("timestamp", True),
    ("timestamp", "1665651482136"),
    ("timestamp", (1 << 64) - 1),
    ("pcrs", {}),
    ("pcrs", []),
    ("pcrs", None),
    ("pcrs", {0: bytes(48), 1: bytes(48)}),
    ("pcrs", {**dict.fromkeys(range(3), bytes(48)), 32: bytes(48)}),
    ("pcrs", {**dict.fromkeys(range(3), bytes(48)), -1: bytes(48)}),
    ("pcrs", {**dict.fromkeys(range(3), bytes(48)), "4": bytes(48)}),
    ("pcrs", {**dict.fromkeys(range(3), bytes(48)), 4: bytes(47)}),
    ("pcrs", {**dict.fromkeys(range(3), bytes(48)), 4: "x" * 48}),
    ("certificate", b""),
    ("certificate", bytes(1025)),
    ("certificate", None),
    ("certificate", b"not a certificate"),
    ("cabundle", []),
    ("cabundle", None),
    ("cabundle", [b""]),
    ("cabundle", [bytes(1025)]),
    ("cabundle", [None]),
    ("cabundle", [b"x"] * 9),
    ("public_key", b""),
    ("public_key", bytes(1025)),
    ("user_data", bytes(1025)),
    ("user_data", "text"),
    ("nonce", bytes(1025)),
    ("nonce", 5),
]


@pytest.mark.parametrize(("name", "value"), FIELDS, ids=lambda v: str(v)[:24])
def test_fields_outside_their_types_and_limits(nitro: NitroTestbed, name: str, value: Cbor) -> None:
    refused("MALFORMED", nitro.verify, evidence=nitro.signed({**nitro.fields(), name: value}))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("user_data", b""),
        ("user_data", bytes(1024)),
        ("public_key", bytes(1024)),
        ("public_key", b"k"),
        ("module_id", "i" * 256),
    ],
)
def test_fields_at_their_limits(nitro: NitroTestbed, name: str, value: Cbor) -> None:
    claims = nitro.verify(nitro.signed({**nitro.fields(), name: value}))
    assert getattr(claims, name) == value


@pytest.mark.parametrize("size", [32, 48, 64])
def test_sizes_of_registers(nitro: NitroTestbed, size: int) -> None:
    payload = nitro.fields()
    pcrs = payload["pcrs"]
    assert isinstance(pcrs, dict)
    pcrs[31] = bytes(size)
    assert nitro.verify(nitro.signed(payload)).pcrs[31] == bytes(size)


@pytest.mark.parametrize("name", ["public_key", "user_data"])
def test_optional_fields_may_be_absent(nitro: NitroTestbed, name: str) -> None:
    payload = nitro.fields()
    del payload[name]
    assert getattr(nitro.verify(nitro.signed(payload)), name) is None


@pytest.mark.parametrize(
    "name", ["module_id", "digest", "timestamp", "pcrs", "certificate", "cabundle"]
)
def test_mandatory_fields_must_be_there(nitro: NitroTestbed, name: str) -> None:
    payload = nitro.fields()
    del payload[name]
    refused("MALFORMED", nitro.verify, evidence=nitro.signed(payload))


def test_documents_that_are_too_large(nitro: NitroTestbed) -> None:
    refused("TOO_LARGE", nitro.verify, evidence=nitro.signed(bytes(20_000)))
    refused("MALFORMED", nitro.verify, evidence=nitro.signed(b"\x80"))
    refused("TRAILING_DATA", nitro.verify, evidence=nitro.signed(b"\xa0\x00"))


def test_the_trail_names_every_check(nitro: NitroTestbed) -> None:
    check_log = CheckLog()
    nitro.verify(nitro.evidence(), check_log=check_log)
    steps = check_log.steps()
    assert [step.check for step in steps] == [
        checks.PARSE,
        checks.ALGORITHM,
        checks.CHAIN,
        checks.REVOCATION,
        checks.SIGNATURE,
        checks.TIMESTAMP,
        checks.NONCE,
    ]
    assert [step.check for step in steps if not step.passed] == [checks.REVOCATION]
    revocation = steps[3]
    assert (revocation.seen, revocation.wanted) == ("unknown", "any")
    assert all(step.code == "" for step in steps)  # open, as AWS gives no list; not failed
    assert steps[-1].seen == steps[-1].wanted == REPORT_DATA.hex()


@pytest.mark.parametrize(
    ("defects", "last"),
    [
        ({"truncated": True}, "nitro/parse"),
        ({"algorithm": -7}, "nitro/algorithm"),
        ({"stranger_root": True}, "nitro/chain"),
        ({"bad_signature": True}, "nitro/signature"),
        ({"age_s": -5}, "nitro/timestamp"),
        ({"stale_nonce": True}, "nitro/nonce"),
    ],
    ids=str,
)
def test_the_trail_ends_with_the_refusal(
    nitro: NitroTestbed, defects: dict[str, Any], last: str
) -> None:
    check_log = CheckLog()
    with pytest.raises(RegaliaError) as refusal:
        nitro.verify(nitro.evidence(**defects), check_log=check_log)
    step = check_log.failed(refusal.value)[-1]
    assert step.check.name == last
    assert step.code == refusal.value.code.name


def test_genuine_says_nothing_of_the_nonce(nitro: NitroTestbed) -> None:
    evidence = nitro.evidence(stale_nonce=True)
    genuine = verify_genuine(
        parse(evidence),
        anchors=nitro.platform.anchors(),
        collateral=NitroCollateral(),
        at=AppraisalContext(now=nitro.now, rule=ANY, cache=nitro.cache),
    )
    assert genuine.bound_to != REPORT_DATA
    with pytest.raises(AttestationError):
        nitro.verify(evidence)


def test_healthy_is_the_default() -> None:
    assert NitroDefects() == HEALTHY
