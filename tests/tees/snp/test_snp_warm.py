"""A verifier that keeps its cache verifies less and refuses the same."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from regalia.appraisal.appraisal_context import AppraisalContext
from regalia.appraisal.check_log import CheckLog
from regalia.appraisal.pki import Cache
from regalia.core.errors import RegaliaError
from regalia.tees.snp.evidence import SnpCollateral
from regalia.tees.snp.evidence.checks import CHECKS
from regalia.tees.snp.evidence.plugin import SNP
from regalia_testing.mutation import dropped, duplicated, every_flip, none_accepted, reordered
from regalia_testing.tees.snp.testbed import refused
from regalia_testing.testbed import REPORT_DATA, REQUIRED
from regalia_testing.verify import verify_fresh

if TYPE_CHECKING:
    from collections.abc import Callable

    from regalia.tees.snp.claims import SnpClaims
    from regalia.tees.snp.evidence import SnpAnchors
    from regalia.wire.evidence import Evidence
    from regalia_testing.tees.snp.authority import SnpKeys
    from regalia_testing.tees.snp.testbed import SnpTestbed

P384_ORDER = int(
    "ffffffffffffffffffffffffffffffffffffffffffffffff"
    "c7634d81f4372ddf581a0db248b0a77aecec196accc52973",
    16,
)


@pytest.fixture
def warm(testbed: SnpTestbed) -> Cache:
    """A cache that has seen the healthy platform."""
    cache = Cache()
    appraise(testbed, testbed.evidence(), cache)
    return cache


def appraise(
    testbed: SnpTestbed,
    evidence: Evidence,
    cache: Cache,
    *,
    check_log: CheckLog | None = None,
    anchors: SnpAnchors | None = None,
    collateral: SnpCollateral | None = None,
    later: timedelta = timedelta(0),
) -> SnpClaims:
    at = AppraisalContext(
        now=testbed.now + later, rule=REQUIRED, cache=cache, check_log=check_log or CheckLog()
    )
    return verify_fresh(
        SNP,
        evidence,
        anchors=anchors or testbed.platform.anchors(),
        collateral=collateral or testbed.platform.collateral(),
        report_data=REPORT_DATA,
        at=at,
    )


def test_only_the_report_is_verified_again(
    testbed: SnpTestbed, warm: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    known, again = testbed.evidence(), testbed.evidence()  # two leaves for one key
    appraise(testbed, known, warm)
    for name in ("require_issued_by", "require_signed_by", "parse_certificate", "parse_crl"):
        monkeypatch.setattr(
            f"regalia.appraisal.pki.cache.{name}", lambda *_, **__: pytest.fail("done before")
        )
    again = replace(again, endorsements=known.endorsements)
    assert appraise(testbed, again, warm).evidence_digest == again.digest()


def test_warm_and_cold_refuse_the_same(testbed: SnpTestbed, warm: Cache) -> None:
    defects = {
        "bad_signature": "SIGNATURE_INVALID",
        "leaf_hwid_mismatch": "LEAF_BINDING_MISMATCH",
        "leaf_expired": "CERT_EXPIRED",
        "leaf_kind_mismatch": "CHAIN_INVALID",
        "mask_chip_key": "LEAF_BINDING_MISMATCH",
        "stale_nonce": "NONCE_MISMATCH",
        "no_endorsements": "COLLATERAL_MISSING",
    }
    for field, code in defects.items():
        evidence = testbed.evidence(**{field: True})
        for _ in range(2):
            refused(code, appraise, testbed=testbed, evidence=evidence, cache=warm)


def test_time_and_revocation_are_not_remembered(
    testbed: SnpTestbed, warm: Cache, authority_keys: SnpKeys
) -> None:
    evidence, platform = testbed.evidence(), testbed.platform
    refused(
        "CRL_STALE",
        appraise,
        testbed=testbed,
        evidence=evidence,
        cache=warm,
        later=timedelta(days=800),
    )
    revoking = platform.authority.crl()
    listed = replace(revoking, serials=(platform.authority.ask().serial,))
    collateral = SnpCollateral(
        platform.collateral().intermediates, (listed.sign(authority_keys.ark),)
    )
    refused(
        "CERT_REVOKED",
        appraise,
        testbed=testbed,
        evidence=evidence,
        cache=warm,
        collateral=collateral,
    )
    none = replace(collateral, crls=())
    refused(
        "CRL_MISSING", appraise, testbed=testbed, evidence=evidence, cache=warm, collateral=none
    )


def test_a_cache_carries_no_trust_to_other_anchors(
    testbed: SnpTestbed, testbed_of: Callable[[str], SnpTestbed], warm: Cache
) -> None:
    turin = testbed_of("Turin").platform.anchors()
    refused(
        "ROOT_UNTRUSTED",
        appraise,
        testbed=testbed,
        evidence=testbed.evidence(),
        cache=warm,
        anchors=turin,
    )


def test_certificates_of_evidence_that_prove_nothing_leave_no_trace(
    testbed: SnpTestbed, warm: Cache
) -> None:
    evidence = testbed.evidence()
    before = set(warm._parsed)
    leaf = bytearray(evidence.endorsements[0])
    for bit in range(8):
        leaf[-1] ^= 1 << bit  # the signature's last byte
        altered = replace(evidence, endorsements=(bytes(leaf), *evidence.endorsements[1:]))
        refused("CHAIN_INVALID", appraise, testbed=testbed, evidence=altered, cache=warm)
    assert set(warm._parsed) == before


def test_every_byte_against_a_warm_cache(testbed: SnpTestbed, warm: Cache) -> None:
    evidence = testbed.evidence()
    codes = none_accepted(
        lambda report: appraise(testbed, replace(evidence, report=report), warm),
        every_flip(evidence.report, end=0x330),
    )
    assert {"SIGNATURE_INVALID", "RESERVED_BIT_SET"} <= codes
    leaf = evidence.endorsements[0]
    codes = none_accepted(
        lambda der: appraise(
            testbed, replace(evidence, endorsements=(der, *evidence.endorsements[1:])), warm
        ),
        every_flip(leaf),
    )
    assert {"CHAIN_INVALID", "MALFORMED"} <= codes


def test_every_certificate_counts(testbed: SnpTestbed, warm: Cache) -> None:
    """Without collateral a missing certificate is missed; order and repetition say nothing."""
    evidence = testbed.evidence()
    alone = SnpCollateral((), (testbed.platform.crl,))

    def verify(chain: tuple[bytes, ...]) -> SnpClaims:
        return appraise(testbed, replace(evidence, endorsements=chain), warm, collateral=alone)

    genuine = verify(evidence.endorsements)
    assert none_accepted(verify, dropped(evidence.endorsements)) == {"COLLATERAL_MISSING"}
    for _, chain in (*reordered(evidence.endorsements), *duplicated(evidence.endorsements)):
        claims = verify(chain)
        assert but_for_bytes(claims) == but_for_bytes(genuine)


def but_for_bytes(claims: SnpClaims) -> dict[str, object]:
    """Claims but for the name of the evidence's bytes."""
    names = {field.name for field in fields(claims)} - {"evidence_digest"}
    return {name: getattr(claims, name) for name in names}


TRAILS = [
    ("truncated", True, "snp/report"),
    ("signing_key", "none", "snp/signing-key"),
    ("leaf_kind_mismatch", True, "snp/signing-key"),
    ("leaf_expired", True, "snp/validity"),
    ("cpuid_mismatch", True, "snp/product"),
    ("mask_chip_key", True, "snp/chip-key"),
    ("leaf_tcb_mismatch", True, "snp/tcb"),
    ("leaf_hwid_mismatch", True, "snp/chip"),
    ("bad_signature", True, "snp/signature"),
    ("reserved_tcb_byte", True, "snp/tcb-layout"),
    ("stale_nonce", True, "snp/report-data"),
]


@pytest.mark.parametrize(("field", "value", "check"), TRAILS)
def test_the_trail_ends_at_the_check_that_refused(
    testbed: SnpTestbed, field: str, value: object, check: str
) -> None:
    check_log = CheckLog()
    with pytest.raises(RegaliaError) as refusal:
        appraise(testbed, testbed.evidence(**{field: value}), Cache(), check_log=check_log)
    *passed, last = check_log.failed(refusal.value)
    assert (last.check.name, last.code) == (check, refusal.value.code.name)
    assert all(step.passed for step in passed)
    names = [known.name for known in CHECKS]
    assert [step.check.name for step in passed] == names[: names.index(check)]


def test_a_full_trail_names_every_check_with_values(testbed: SnpTestbed) -> None:
    check_log = CheckLog()
    appraise(testbed, testbed.evidence(), Cache(), check_log=check_log)
    steps = check_log.steps()
    assert tuple(step.check for step in steps) == CHECKS
    assert all(step.passed and step.seen for step in steps)
    chip = next(step for step in steps if step.check.name == "snp/chip")
    assert chip.seen == chip.wanted == testbed.platform.hwid.hex()


def test_a_vlek_trail_names_the_cloud(testbed: SnpTestbed) -> None:
    check_log = CheckLog()
    appraise(testbed, testbed.evidence(signing_key="vlek"), Cache(), check_log=check_log)
    names = [step.check.name for step in check_log.steps()]
    assert "snp/chip" not in names
    assert "snp/leaf" in names


def test_a_twin_of_the_signature_is_the_same_report(testbed: SnpTestbed, warm: Cache) -> None:
    """(R, n - S) verifies as (R, S) does: it must not look like another guest or report.

    The digest of the envelope differs, as it names bytes; what identifies a report, a guest and
    a machine lies in the signed part.
    """
    evidence = testbed.evidence()
    raw = bytearray(evidence.report)
    s = int.from_bytes(raw[0x2E8 : 0x2E8 + 48], "little")
    raw[0x2E8 : 0x2E8 + 48] = (P384_ORDER - s).to_bytes(48, "little")
    twin = replace(evidence, report=bytes(raw))
    one, other = (appraise(testbed, each, warm) for each in (evidence, twin))
    assert evidence.digest() != twin.digest()
    assert but_for_bytes(one) == but_for_bytes(other)
