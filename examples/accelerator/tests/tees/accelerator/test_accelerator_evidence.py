"""One simulated defect for each check of docs/spec/accelerator-appraisal.md, and its code."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from regalia.appraisal.check_log import CheckLog
from regalia.appraisal.claims import Hardware, Revocation
from regalia.core.errors import RegaliaError
from regalia.inspect.decoded_fields import decoded_fields
from regalia.inspect.recognize import recognize
from regalia.tees.accelerator.claims import AcceleratorClaims
from regalia.tees.accelerator.evidence import checks
from regalia.tees.accelerator.names import CONFIG_BINDING
from regalia.verifier.anchors import TrustAnchors
from regalia.verifier.collateral import parse_collateral
from regalia.verifier.verifier import Verifier
from regalia.wire.cbor import encode_cbor
from regalia.wire.evidence import Evidence, Tee
from regalia_testing.accepted_evidence import BINDING, MEASUREMENT, NO_LISTS, RUNTIME_CONFIG
from regalia_testing.mutation import every_flip, none_accepted, truncated
from regalia_testing.tees.accelerator.defects import AcceleratorDefects
from regalia_testing.tees.accelerator.simulator import AcceleratorSimulator
from regalia_testing.tees.snp.testbed import refused

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from regalia.wire.cbor import Cbor
    from regalia_testing.tees.accelerator.testbed import AcceleratorTestbed


def test_a_healthy_chip_gives_claims(chip: AcceleratorTestbed) -> None:
    evidence = chip.evidence()
    claims = chip.verify(evidence)
    assert claims.tee is Tee.EXAMPLE_ACCELERATOR
    assert claims.hardware is Hardware.SIMULATED
    assert claims.revocation is Revocation.CHECKED
    assert claims.product == "example-accelerator"
    assert claims.measurement == MEASUREMENT
    assert claims.report_data == BINDING.report_data()
    assert claims.config_binding == CONFIG_BINDING.expected(RUNTIME_CONFIG)
    assert claims.instance == chip.platform.chip_id
    assert claims.guest == b""
    assert claims.tcb == {"firmware": 7}
    assert claims.evidence_digest == evidence.digest()
    assert not claims.debug
    assert not claims.migratable
    assert claims.devices == ()


REFUSED = [
    ({"stale_nonce": True}, "NONCE_MISMATCH"),
    ({"short_nonce": True}, "MALFORMED"),
    ({"other_chip": True}, "LEAF_BINDING_MISMATCH"),
    ({"bad_signature": True}, "SIGNATURE_INVALID"),
    ({"other_signer": True}, "SIGNATURE_INVALID"),
    ({"short_signature": True}, "MALFORMED"),
    ({"algorithm": -7}, "SIGNATURE_INVALID"),
    ({"other_format": True}, "MALFORMED"),
    ({"unknown_field": True}, "MALFORMED"),
    ({"missing_field": True}, "MALFORMED"),
    ({"trailing_byte": True}, "TRAILING_DATA"),
    ({"tagged": True}, "MALFORMED"),
    ({"stranger_root": True}, "ROOT_UNTRUSTED"),
    ({"chain_of_one": True}, "MALFORMED"),
    ({"leaf_expired": True}, "CERT_EXPIRED"),
    ({"leaf_not_yet_valid": True}, "CERT_NOT_YET_VALID"),
    ({"leaf_is_ca": True}, "CHAIN_INVALID"),
    ({"leaf_may_not_sign": True}, "CHAIN_INVALID"),
    ({"leaf_of_p256": True}, "CHAIN_INVALID"),
    ({"authority_is_leaf": True}, "CHAIN_INVALID"),
]


@pytest.mark.parametrize(("defects", "code"), REFUSED, ids=str)
def test_refused(chip: AcceleratorTestbed, defects: dict[str, Any], code: str) -> None:
    chip.verify(chip.evidence())
    refused(code, chip.verify, evidence=chip.evidence(**defects))


CLAIMED: list[tuple[str, object, Callable[[AcceleratorClaims], object]]] = [
    ("debug", True, lambda claims: claims.debug),
    ("wrong_measurement", True, lambda claims: claims.measurement),
    ("wrong_config", True, lambda claims: claims.config_binding),
    ("firmware", 6, lambda claims: claims.firmware),
]


@pytest.mark.parametrize(("name", "value", "seen"), CLAIMED, ids=[row[0] for row in CLAIMED])
def test_what_is_for_the_policy_shows_in_the_claims(
    chip: AcceleratorTestbed, name: str, value: object, seen: Callable[[AcceleratorClaims], object]
) -> None:
    altered = chip.verify(chip.evidence(**{name: value}))
    assert seen(altered) != seen(chip.verify(chip.evidence()))


def test_every_defect_is_shown() -> None:
    named = {name for defects, _ in REFUSED for name in defects} | {row[0] for row in CLAIMED}
    assert named == {field.name for field in fields(AcceleratorDefects)}


def test_no_byte_can_be_changed(chip: AcceleratorTestbed) -> None:
    evidence = chip.evidence()
    chip.verify(evidence)
    for mutants in (every_flip(evidence.report), truncated(evidence.report)):
        codes = none_accepted(lambda report: chip.verify(replace(evidence, report=report)), mutants)
        assert "MALFORMED" in codes


def test_a_recording_is_refused(chip: AcceleratorTestbed) -> None:
    """Genuine evidence of an earlier exchange, without any defect."""
    evidence = chip.evidence()
    later = replace(chip.accepted, binding=replace(BINDING, challenge=bytes(range(32))))
    refused("NONCE_MISMATCH", later.verify, evidence=evidence)


def test_vendors_do_not_vouch_for_each_other(chip: AcceleratorTestbed, tmp_path: Path) -> None:
    other = AcceleratorSimulator.create(tmp_path / "other", clock=lambda: chip.accepted.now)
    theirs = other.evidence(
        BINDING.report_data(), measurement=MEASUREMENT, runtime_config=RUNTIME_CONFIG
    )
    refused("ROOT_UNTRUSTED", chip.verify, evidence=theirs)


def test_production_trusts_no_simulation(chip: AcceleratorTestbed) -> None:
    verifier = Verifier(TrustAnchors.production(), chip.accepted.verifier.collateral)
    real = replace(chip.accepted, verifier=verifier)
    refused("ROOT_UNTRUSTED", real.verify, evidence=chip.evidence())


def test_a_chip_expires(chip: AcceleratorTestbed) -> None:
    late = replace(chip.accepted, now=chip.accepted.now + timedelta(days=366))
    refused("CERT_EXPIRED", late.verify, evidence=chip.evidence())


@pytest.mark.parametrize("level", [1, 2])
def test_a_revoked_certificate(chip: AcceleratorTestbed, level: int) -> None:
    lists = chip.platform.authority.lists(chip.platform.chain[level])
    collateral = parse_collateral({"root.crl": lists[0], "issuer.crl": lists[1]})
    verifier = Verifier(chip.accepted.verifier.anchors, collateral)
    revoked = replace(chip.accepted, verifier=verifier)
    refused("CERT_REVOKED", revoked.verify, evidence=chip.evidence())


def test_lists_that_are_missing(chip: AcceleratorTestbed) -> None:
    lists = chip.platform.authority.lists()
    verifier = Verifier(chip.accepted.verifier.anchors, parse_collateral({"root.crl": lists[0]}))
    without = replace(chip.accepted, verifier=verifier)
    refused("CRL_MISSING", without.verify, evidence=chip.evidence())
    tolerant = replace(without, rule=NO_LISTS)
    assert tolerant.verify(chip.evidence()).revocation is Revocation.UNKNOWN


def test_what_comes_beside_the_document(chip: AcceleratorTestbed) -> None:
    evidence = chip.evidence()
    for altered in (
        replace(evidence, endorsements=(chip.platform.root,)),
        replace(evidence, event_log=b"log"),
    ):
        refused("MALFORMED", chip.verify, evidence=altered)


FIELDS: list[tuple[str, Cbor]] = [
    ("chip_id", bytes(31)),
    ("chip_id", "text"),
    ("firmware", -1),
    ("firmware", 2**32),
    ("firmware", True),
    ("firmware", None),
    ("debug", 0),
    ("debug", None),
    ("measurement", bytes(32)),
    ("config", bytes(64)),
    ("nonce", bytes(65)),
    ("nonce", None),
    ("chain", None),
    ("chain", []),
    ("chain", [b"x"] * 5),
    ("chain", [b"x", b""]),
    ("chain", [b"x", bytes(1025)]),
    ("chain", [b"x", "text"]),
    ("chain", [b"no", b"certificate"]),
]


@pytest.mark.parametrize(("name", "value"), FIELDS, ids=lambda value: str(value)[:24])
def test_fields_outside_their_types_and_limits(
    chip: AcceleratorTestbed, name: str, value: Cbor
) -> None:
    healthy = chip.platform.fields(BINDING.report_data(), MEASUREMENT, RUNTIME_CONFIG)

    def sent(payload: bytes) -> Evidence:
        message = chip.platform.signed(payload)
        return Evidence(Tee.EXAMPLE_ACCELERATOR, message, (), RUNTIME_CONFIG)

    chip.verify(sent(encode_cbor(healthy)))
    refused("MALFORMED", chip.verify, evidence=sent(encode_cbor({**healthy, name: value})))


def test_payloads_that_are_no_document(chip: AcceleratorTestbed) -> None:
    for payload, code in ((b"\x80", "MALFORMED"), (bytes(9000), "TOO_LARGE")):
        evidence = replace(chip.evidence(), report=chip.platform.signed(payload))
        refused(code, chip.verify, evidence=evidence)


@pytest.mark.parametrize(
    ("defects", "last"),
    [
        ({"missing_field": True}, checks.PARSE),
        ({"algorithm": -7}, checks.ALGORITHM),
        ({"stranger_root": True}, checks.CHAIN),
        ({"other_chip": True}, checks.CHIP),
        ({"bad_signature": True}, checks.SIGNATURE),
        ({"stale_nonce": True}, checks.NONCE),
    ],
    ids=str,
)
def test_the_log_ends_with_the_refusal(
    chip: AcceleratorTestbed, defects: dict[str, Any], last: checks.Check
) -> None:
    log = CheckLog()
    with pytest.raises(RegaliaError) as refusal:
        chip.accepted.verifier.verify_cpu(
            chip.evidence(**defects),
            report_data=BINDING.report_data(),
            rule=chip.accepted.rule,
            now=chip.accepted.now,
            check_log=log,
        )
    step = log.failed(refusal.value)[-1]
    assert step.check is last
    assert step.code == refusal.value.code.name


def test_claims_are_not_made_by_hand() -> None:
    with pytest.raises(TypeError):
        AcceleratorClaims(*[None] * 9, mint=object())  # type: ignore[arg-type] # refused before use


def test_it_can_be_looked_at_without_a_reader_of_its_own(chip: AcceleratorTestbed) -> None:
    evidence = chip.evidence()
    found = recognize(evidence.encode())
    assert found.evidence == evidence
    assert decoded_fields(found)["report"] == evidence.report.hex()
