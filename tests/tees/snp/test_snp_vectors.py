"""Real SEV-SNP evidence gets the verdict that shared/vectors/README.md states for it.

Verdicts that are the policy's (debug, provisional firmware) show here as claims; their refusal
is in test_vectors_policy.py. No CRL came with the evidence, so accepting takes the word ANY.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from regalia.appraisal.appraisal_context import AppraisalContext
from regalia.appraisal.claims import Hardware, Revocation
from regalia.appraisal.collateral_rule import NO_GRACE, CollateralRule, RevocationRule
from regalia.appraisal.pki import Cache
from regalia.appraisal.pki.certificates import (
    parse_certificate,
    require_authority,
    require_issued_by,
)
from regalia.core.bits import bit
from regalia.core.errors import AttestationError
from regalia.tees.snp.claims import Tcb
from regalia.tees.snp.evidence import SnpAnchors, SnpCollateral, parse, verify_genuine
from regalia.tees.snp.evidence.anchors import AMD_ROOT_SPKI_SHA256
from regalia.tees.snp.evidence.chain import SCHEMES
from regalia.tees.snp.evidence.leaf import leaf_of, read_leaf
from regalia.tees.snp.evidence.plugin import SNP
from regalia.tees.snp.evidence.wire import EndorsementKeyKind, Product, encode_tcb
from regalia.tees.snp.names import GuestPolicyBit, PlatformInfoBit
from regalia.wire.evidence import Evidence, Tee
from regalia_testing.anchors import simulated_snp_anchors
from regalia_testing.verify import verify_fresh

if TYPE_CHECKING:
    from regalia.tees.snp.claims import SnpClaims

Certificates = Callable[[Path], tuple[bytes, ...]]
REPORT_DATA_AT = slice(0x50, 0x90)


def at(moment: datetime, revocation: RevocationRule = RevocationRule.ANY) -> AppraisalContext:
    rule = CollateralRule(revocation, NO_GRACE)
    return AppraisalContext(now=moment, rule=rule, cache=Cache())


@dataclass(frozen=True)
class Vector:
    report: str
    leaf: str
    chain: str
    now: str

    @property
    def moment(self) -> datetime:
        return datetime.fromisoformat(self.now).replace(tzinfo=UTC)


MS_MILAN = Vector("milan/ms-report.bin", "milan/ms-vcek.pem", "milan/ask_ark.pem", "2026-03-01")
MS_GENOA = Vector("genoa/ms-report.bin", "genoa/ms-vcek.pem", "genoa/ask_ark.pem", "2026-03-01")
MS_TURIN = Vector("turin/ms-report.bin", "turin/ms-vcek.pem", "turin/ask_ark.pem", "2026-03-01")
GOOGLE = Vector(
    "milan/google-report.bin", "milan/google-vcek.der", "milan/ask_ark.pem", "2022-10-01"
)
COCO = Vector("milan/coco-report.bin", "milan/coco-vcek.der", "milan/ask_ark.pem", "2023-02-01")
COCO_VLEK = Vector(
    "milan/coco-vlek-report.bin", "milan/coco-vlek.der", "milan/asvk_ark.pem", "2025-06-01"
)
GENUINE = [MS_MILAN, MS_GENOA, MS_TURIN, GOOGLE, COCO, COCO_VLEK]
WITH_NONCE = [GOOGLE, COCO, COCO_VLEK]
NAMES = [vector.report for vector in GENUINE]


@dataclass(frozen=True)
class Appraiser:
    folder: Path
    read: Certificates

    def evidence(self, vector: Vector) -> Evidence:
        report = (self.folder / vector.report).read_bytes()
        return Evidence(Tee.SEV_SNP, report, self.read(self.folder / vector.leaf), b"")

    def collateral(self, vector: Vector) -> SnpCollateral:
        return SnpCollateral(self.read(self.folder / vector.chain), ())

    def genuine(self, vector: Vector, rule: RevocationRule = RevocationRule.ANY) -> SnpClaims:
        found = verify_genuine(
            parse(self.evidence(vector)),
            anchors=SnpAnchors.production(),
            collateral=self.collateral(vector),
            at=at(vector.moment, rule),
        )
        return found.dangerous_without_freshness()


@pytest.fixture
def appraiser(vectors: Path, certificates: Certificates) -> Appraiser:
    return Appraiser(vectors / "snp", certificates)


@pytest.mark.parametrize("vector", GENUINE, ids=NAMES)
def test_genuine_reports(appraiser: Appraiser, vector: Vector) -> None:
    genuine = appraiser.genuine(vector)
    assert genuine.hardware is Hardware.GENUINE
    assert genuine.product.lower() == vector.report.partition("/")[0]


@pytest.mark.parametrize("vector", GENUINE, ids=NAMES)
def test_without_a_crl_the_word_any_is_needed(appraiser: Appraiser, vector: Vector) -> None:
    with pytest.raises(AttestationError) as refusal:
        appraiser.genuine(vector, RevocationRule.REQUIRED)
    assert refusal.value.code.name == "CRL_MISSING"


@pytest.mark.parametrize("vector", WITH_NONCE, ids=lambda v: v.report)
def test_claims_of_reports_with_a_nonce(appraiser: Appraiser, vector: Vector) -> None:
    evidence = appraiser.evidence(vector)
    claims = verify_fresh(
        SNP,
        evidence,
        anchors=SnpAnchors.production(),
        collateral=appraiser.collateral(vector),
        report_data=evidence.report[REPORT_DATA_AT],
        at=at(vector.moment),
    )
    assert claims.hardware is Hardware.GENUINE
    assert claims.revocation is Revocation.UNKNOWN
    debug = vector is GOOGLE
    assert bit(claims.policy, GuestPolicyBit.DEBUG) == debug
    assert claims.policy == (0xB0000 if debug else 0x30000 if vector is COCO_VLEK else 0x3001F)
    if vector is COCO:
        assert claims.guest_svn == 4
        assert claims.measurement.hex().startswith("a1f39304")
        assert claims.current_tcb.microcode == 0xCE
        assert claims.reported_tcb == claims.committed_tcb == Tcb(0, 3, 0, 8, 0x73)
        assert claims.current_tcb != claims.committed_tcb  # provisional
    if vector is COCO_VLEK:
        assert claims.signing_key == "vlek"
        assert claims.csp_id == "CN=cc-us-east-2.amazonaws.com"
        assert claims.vmpl == 1
        assert claims.chip_id == bytes(64)
        microcodes = (claims.current_tcb, claims.reported_tcb, claims.committed_tcb)
        assert [tcb.microcode for tcb in microcodes] == [0xDC, 0xD9, 0xDB]


@pytest.mark.parametrize("vector", [MS_MILAN, MS_GENOA, MS_TURIN], ids=lambda v: v.report)
@pytest.mark.parametrize(
    ("expected", "code"), [(bytes(64), "NONCE_WELL_KNOWN"), (b"\x01" * 64, "NONCE_MISMATCH")]
)
def test_reports_without_a_nonce_are_never_fresh(
    appraiser: Appraiser, vector: Vector, expected: bytes, code: str
) -> None:
    with pytest.raises(AttestationError) as refusal:
        verify_fresh(
            SNP,
            appraiser.evidence(vector),
            anchors=SnpAnchors.production(),
            collateral=appraiser.collateral(vector),
            report_data=expected,
            at=at(vector.moment),
        )
    assert refusal.value.code.name == code


def test_turin_facts(appraiser: Appraiser) -> None:
    genuine = appraiser.genuine(MS_TURIN)
    (leaf,) = appraiser.evidence(MS_TURIN).endorsements
    found = leaf_of(parse_certificate(leaf, what="VCEK"))
    assert found is not None
    _, product, facts = found
    assert product is Product.TURIN
    assert facts.tcb == encode_tcb(genuine.reported_tcb, product)
    assert facts.hwid == genuine.chip_id[:8]
    assert genuine.chip_id[8:] == bytes(56)
    assert bit(genuine.platform_info, PlatformInfoBit.ALIAS_CHECK_COMPLETE)


def test_a_certificate_for_a_turin_chip_alone(vectors: Path, certificates: Certificates) -> None:
    """virtee-vcek.der comes without a report: all its TCB is zero but the microcode."""
    (der,) = certificates(vectors / "snp/turin/virtee-vcek.der")
    leaf = parse_certificate(der, what="vcek")
    facts = read_leaf(leaf, Product.TURIN, EndorsementKeyKind.VCEK)
    assert facts.hwid == bytes.fromhex("1e550a8ee5cf9f4d")
    assert facts.tcb == bytes.fromhex("0000000000000009")
    appraiser = Appraiser(vectors / "snp", certificates)
    other = replace(MS_TURIN, leaf="turin/virtee-vcek.der")
    with pytest.raises(AttestationError) as refusal:
        appraiser.genuine(other)
    assert refusal.value.code.name == "LEAF_BINDING_MISMATCH"  # chained, and not for that report


@pytest.mark.parametrize(
    ("leaf", "now"),
    [
        ("milan/coco-vcek-invalid-legacy.der", "2023-02-01"),
        ("milan/coco-vcek-invalid-legacy.der", "2023-03-01"),
        ("milan/coco-vcek-invalid-new.der", "2023-02-01"),
        ("milan/coco-vcek-invalid-new.der", "2023-09-01"),
    ],
)
def test_leaves_that_the_ask_did_not_issue(appraiser: Appraiser, leaf: str, now: str) -> None:
    with pytest.raises(AttestationError) as refusal:
        appraiser.genuine(replace(COCO, leaf=leaf, now=now))
    assert refusal.value.code.name == "CHAIN_INVALID"


@pytest.mark.parametrize("now", ["2025-12-11", "2026-11-22"])
def test_the_vlek_has_expired(appraiser: Appraiser, now: str) -> None:
    with pytest.raises(AttestationError) as refusal:
        appraiser.genuine(replace(COCO_VLEK, now=now))
    assert refusal.value.code.name == "CERT_EXPIRED"


@pytest.mark.parametrize("vector", GENUINE, ids=NAMES)
def test_not_yet_valid(appraiser: Appraiser, vector: Vector) -> None:
    with pytest.raises(AttestationError) as refusal:
        appraiser.genuine(replace(vector, now="2019-01-01"))
    assert refusal.value.code.name == "CERT_NOT_YET_VALID"


MIXES = [
    (replace(COCO, leaf="milan/google-vcek.der"), "LEAF_BINDING_MISMATCH"),  # another chip
    (replace(COCO, leaf="genoa/ms-vcek.pem", now="2026-03-01"), "COLLATERAL_MISSING"),
    (
        replace(COCO, leaf="genoa/ms-vcek.pem", chain="genoa/ask_ark.pem", now="2026-03-01"),
        "LEAF_BINDING_MISMATCH",
    ),
    (
        replace(MS_MILAN, leaf="turin/ms-vcek.pem", chain="turin/ask_ark.pem"),
        "LEAF_BINDING_MISMATCH",
    ),
    (replace(MS_MILAN, chain="milan/asvk_ark.pem"), "COLLATERAL_MISSING"),
    (replace(MS_MILAN, chain="genoa/ask_ark.pem"), "COLLATERAL_MISSING"),
    (replace(MS_MILAN, chain="milan/ms-ask.pem"), "COLLATERAL_MISSING"),  # no root
    (replace(COCO_VLEK, chain="milan/ask_ark.pem"), "COLLATERAL_MISSING"),
    (replace(COCO, leaf="milan/coco-vlek.der", chain="milan/asvk_ark.pem"), "CHAIN_INVALID"),
    (replace(COCO_VLEK, leaf="milan/coco-vcek.der", chain="milan/ask_ark.pem"), "CHAIN_INVALID"),
]


@pytest.mark.parametrize(("vector", "code"), MIXES, ids=str)
def test_mixed_chains(appraiser: Appraiser, vector: Vector, code: str) -> None:
    with pytest.raises(AttestationError) as refusal:
        appraiser.genuine(vector)
    assert refusal.value.code.name == code


@pytest.mark.parametrize("product", Product)
def test_pins_are_the_published_roots(
    vectors: Path, certificates: Certificates, product: Product
) -> None:
    anchors = simulated_snp_anchors(*certificates(vectors / f"roots/amd-ark-{product.lower()}.pem"))
    assert anchors.pins_for(product) == (bytes.fromhex(AMD_ROOT_SPKI_SHA256[product]),)
    assert SnpAnchors.production().pins_for(product) == anchors.pins_for(product)


def test_a_report_inside_an_azure_bundle(vectors: Path, certificates: Certificates) -> None:
    """az/snp/hcl-report.bin carries a genuine Milan report; only its hardware part is appraised."""
    evidence = Evidence(
        Tee.SEV_SNP,
        (vectors / "az/snp/hcl-report.bin").read_bytes()[0x20 : 0x20 + 1184],
        certificates(vectors / "az/snp/vcek.pem"),
        b"",
    )
    collateral = SnpCollateral(certificates(vectors / "snp/milan/ask_ark.pem"), ())
    genuine = verify_genuine(
        parse(evidence),
        anchors=SnpAnchors.production(),
        collateral=collateral,
        at=at(datetime(2024, 1, 1, tzinfo=UTC)),
    )
    assert genuine.dangerous_without_freshness().product == Product.MILAN


@pytest.mark.parametrize("product", Product)
@pytest.mark.parametrize("name", ["ask_ark.pem", "asvk_ark.pem"])
def test_intermediates_of_every_product(appraiser: Appraiser, product: Product, name: str) -> None:
    """Also for the products of which no VLEK report is at hand."""
    folder = appraiser.folder / product.lower()
    intermediate, root = (parse_certificate(c, what=name) for c in appraiser.read(folder / name))
    (alone,) = (parse_certificate(c, what="ark.pem") for c in appraiser.read(folder / "ark.pem"))
    assert alone.spki == root.spki
    require_authority(root, path_length=None)
    require_issued_by(root, root, SCHEMES)
    require_authority(intermediate, path_length=0)
    require_issued_by(intermediate, root, SCHEMES)


@pytest.mark.parametrize("vector", [MS_MILAN, MS_GENOA, MS_TURIN], ids=lambda v: v.report)
def test_the_chain_in_separate_files(appraiser: Appraiser, vector: Vector) -> None:
    folder = appraiser.folder / vector.report.partition("/")[0]
    collateral = SnpCollateral(
        appraiser.read(folder / "ms-ask.pem") + appraiser.read(folder / "ark.pem"),
        (),
    )
    verify_genuine(
        parse(appraiser.evidence(vector)),
        anchors=SnpAnchors.production(),
        collateral=collateral,
        at=at(vector.moment),
    )
