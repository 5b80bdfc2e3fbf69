"""Real quotes and collateral get the verdict that shared/vectors/README.md states for them.

Verdicts that are the policy's (debug, SEPT_VE_DISABLE, statuses) show here as claims.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from regalia.appraisal.appraisal_context import AppraisalContext
from regalia.appraisal.claims import Hardware, Revocation
from regalia.appraisal.collateral_rule import CollateralRule, RevocationRule
from regalia.appraisal.pki import Cache, parse_certificate
from regalia.core.bits import bit
from regalia.core.errors import AttestationError
from regalia.tees.boot.evidence import require_rtmrs
from regalia.tees.boot.evidence.log import parse_event_log
from regalia.tees.intel.claims import SgxClaims, TdxClaims
from regalia.tees.intel.evidence import (
    IntelAnchors,
    parse,
    prepare,
    verify_platform,
    verify_sgx,
    verify_tdx,
)
from regalia.tees.intel.evidence.anchors import INTEL_ROOT_SPKI_SHA256
from regalia.tees.intel.evidence.bodies import TdReport
from regalia.tees.intel.evidence.vendor import collateral_of as intel_part
from regalia.tees.intel.evidence.wire import parse_quote
from regalia.tees.intel.names import TdAttributeBit
from regalia.verifier.collateral import CollateralSet, parse_collateral
from regalia.verifier.registry import plugin_for
from regalia.wire.collateral import CollateralKind
from regalia.wire.evidence import Evidence, Tee
from regalia_testing.anchors import simulated_pin
from regalia_testing.tees.intel.simulator import IntelSimulator
from regalia_testing.verify import verify_fresh

if TYPE_CHECKING:
    from pathlib import Path

    from regalia.appraisal.claims import Unbound

REQUIRED = CollateralRule(RevocationRule.REQUIRED, timedelta(0))
ANCHORS = IntelAnchors.production()


@dataclass(frozen=True)
class Vector:
    quote: str
    collateral: str
    now: int
    cut: int = 0  # bytes of text behind the quote

    @property
    def tee(self) -> Tee:
        return Tee.SGX if "sgx" in self.quote else Tee.TDX

    @property
    def moment(self) -> datetime:
        return datetime.fromtimestamp(self.now, UTC)


TDX = Vector("dcapqvl-tdx_quote.bin", "dcapqvl-tdx_quote_collateral.json", 1750415547)
SGX = Vector("dcapqvl-sgx_quote.bin", "dcapqvl-sgx_quote_collateral.json", 1750416971)
OUTDATED = Vector(
    "dcapqvl-tdx_quote_outdated.bin", "dcapqvl-tdx_quote_outdated_collateral.json", 1771498731
)
GOOGLE = Vector(
    "google-quote_v4_spr_e4.bin", "assembled-google-2023-50806f_collateral.json", 1688083200, 39
)
COCO_4 = Vector("coco-quote_4.bin", "assembled-2026-03-50806f_collateral.json", 1773703290)
COCO_5 = Vector("coco-quote_5.bin", "assembled-2026-03-90c06f_collateral.json", 1773702963)
ALL = [TDX, SGX, OUTDATED, GOOGLE, COCO_4, COCO_5]


def evidence_of(folder: Path, vector: Vector) -> Evidence:
    data = (folder / vector.quote).read_bytes()
    return Evidence(vector.tee, data[: len(data) - vector.cut], (), b"")


def collateral_of(folder: Path, vector: Vector) -> CollateralSet:
    return parse_collateral({vector.collateral: (folder / vector.collateral).read_bytes()})


def arguments(
    collateral: CollateralSet, vector: Vector, rule: CollateralRule = REQUIRED
) -> dict[str, Any]:
    cache = Cache()
    prepared = prepare(intel_part(collateral), anchors=ANCHORS, cache=cache)
    return {
        "anchors": ANCHORS,
        "collateral": prepared,
        "at": AppraisalContext(now=vector.moment, rule=rule, cache=cache),
    }


def genuine(folder: Path, vector: Vector) -> TdxClaims | SgxClaims:
    evidence = evidence_of(folder, vector)
    given = arguments(collateral_of(folder, vector), vector)
    found: Unbound[Any]
    if vector.tee is Tee.SGX:
        found = verify_sgx(parse(evidence), **given)
    else:
        found = verify_tdx(parse(evidence), **given)
    claims: TdxClaims | SgxClaims = found.dangerous_without_freshness()
    return claims


def test_the_pin_is_the_root_at_hand(vectors: Path) -> None:
    root = parse_certificate((vectors / "roots" / "intel-sgx-root-ca.der").read_bytes(), what="x")
    assert hashlib.sha256(root.spki).hexdigest() == INTEL_ROOT_SPKI_SHA256


def test_tdx_up_to_date(tdx_vectors: Path) -> None:
    claims = genuine(tdx_vectors, TDX)
    assert isinstance(claims, TdxClaims)
    assert claims.hardware is Hardware.GENUINE
    assert claims.revocation is Revocation.CHECKED
    assert (claims.tcb_status, claims.qe_status, claims.module_status) == ("UpToDate",) * 3
    assert claims.advisory_ids == ()
    assert claims.tcb_evaluation_data_number == 17
    assert claims.fmspc.hex() == "b0c06f000000"
    assert claims.mr_td.hex().startswith("91eb2b44")
    assert claims.rtmr3 == bytes(48)
    assert bit(claims.td_attributes, TdAttributeBit.SEPT_VE_DISABLE)
    assert (claims.dynamic_platform, claims.cached_keys, claims.smt) == (True, True, True)
    assert not claims.debug


def test_sgx_configuration_and_software_hardening_needed(tdx_vectors: Path) -> None:
    claims = genuine(tdx_vectors, SGX)
    assert isinstance(claims, SgxClaims)
    assert claims.tcb_status == "ConfigurationAndSWHardeningNeeded"
    assert claims.advisory_ids == ("INTEL-SA-00289", "INTEL-SA-00615")
    assert claims.platform_instance_id is None  # Processor CA


def test_debug_is_a_claim(tdx_vectors: Path) -> None:
    claims = genuine(tdx_vectors, COCO_4)
    assert claims.debug
    assert claims.tcb_status == "OutOfDate"
    assert claims.measurement.hex().startswith("705ee938")


@pytest.mark.parametrize("vector", [OUTDATED, GOOGLE, COCO_5], ids=lambda v: v.quote)
def test_below_every_level(tdx_vectors: Path, vector: Vector) -> None:
    with pytest.raises(AttestationError) as refusal:
        genuine(tdx_vectors, vector)
    assert refusal.value.code.name == "TCB_NO_MATCH"


def test_other_facts_of_the_quotes(tdx_vectors: Path) -> None:
    google = parse_quote(evidence_of(tdx_vectors, GOOGLE).report).body
    coco = parse_quote(evidence_of(tdx_vectors, COCO_5).report).body
    init_data = parse_quote((tdx_vectors / "coco-quote_6.bin").read_bytes()).body
    assert isinstance(google, TdReport)
    assert isinstance(coco, TdReport)
    assert isinstance(init_data, TdReport)
    assert not bit(google.td_attributes, TdAttributeBit.SEPT_VE_DISABLE)
    assert bit(google.td_attributes, TdAttributeBit.PKS)
    assert coco.later is not None
    assert coco.later.mr_service_td.hex().startswith("383c87d3")
    assert any(init_data.mr_config_id)


def test_report_data(tdx_vectors: Path) -> None:
    for vector in (TDX, SGX):
        plugin, evidence = plugin_for(vector.tee), evidence_of(tdx_vectors, vector)
        shared = arguments(collateral_of(tdx_vectors, vector), vector)
        expected = parse_quote(evidence.report).body.report_data
        if any(expected):
            claims = verify_fresh(plugin, evidence, report_data=expected, **shared)
            assert claims.report_data == expected
        other = bytes((expected[0] ^ 1,)) + expected[1:]
        with pytest.raises(AttestationError) as refusal:
            verify_fresh(plugin, evidence, report_data=other, **shared)
        assert refusal.value.code.name == "NONCE_MISMATCH"


@pytest.mark.parametrize("vector", [TDX, SGX], ids=lambda v: v.quote)
def test_every_date_that_counts(tdx_vectors: Path, vector: Vector) -> None:
    late = Vector(vector.quote, vector.collateral, vector.now + 40 * 86400)
    early = Vector(vector.quote, vector.collateral, vector.now - 40 * 86400)
    for other in (late, early):
        with pytest.raises(AttestationError) as refusal:
            genuine(tdx_vectors, other)
        assert refusal.value.code.name == "COLLATERAL_STALE"
    grace = CollateralRule(RevocationRule.REQUIRED, timedelta(days=30))
    shared = arguments(collateral_of(tdx_vectors, vector), late, grace)
    found = verify_platform(parse(evidence_of(tdx_vectors, vector)), **shared)
    assert found.revocation is Revocation.GRACE


def test_collateral_for_another_platform(tdx_vectors: Path) -> None:
    for quote in ("coco-quote_6.bin", "google-cos113-quote.bin"):
        vector = Vector(quote, COCO_4.collateral, COCO_4.now)
        with pytest.raises(AttestationError) as refusal:
            genuine(tdx_vectors, vector)
        assert refusal.value.code.name == "LEAF_BINDING_MISMATCH"
    with pytest.raises(AttestationError) as refusal:
        genuine(tdx_vectors, Vector(TDX.quote, SGX.collateral, TDX.now))
    assert refusal.value.code.name == "COLLATERAL_MISSING"


def test_simulated_anchors_do_not_accept_intels(tdx_vectors: Path) -> None:
    root = IntelSimulator.make().authority.root()
    with pytest.raises(AttestationError) as refusal:
        prepare(
            intel_part(collateral_of(tdx_vectors, TDX)),
            anchors=simulated_pin(IntelAnchors, root),
            cache=Cache(),
        )
    assert refusal.value.code.name == "ROOT_UNTRUSTED"


@pytest.mark.parametrize("fmspc", ["50806f", "90c06f"])
def test_loose_files(tdx_vectors: Path, fmspc: str) -> None:
    """Responses of the PCS, one file each, give the claims of the bundle made of them."""
    folder = tdx_vectors / "lunal-collateral"
    names = [
        f"tcb_info_{fmspc}000000.json",
        "td_qe_identity.json",
        "tcb_signing_chain.pem",
        "qe_identity_signing_chain.pem",
        "pck_crl_platform.der",
        "root_ca_crl.der",
    ]
    loose = parse_collateral({name: (folder / name).read_bytes() for name in names})
    vector = COCO_4 if fmspc == "50806f" else COCO_5
    whole = collateral_of(tdx_vectors, vector)
    assert loose.documents == whole.documents
    assert loose.documents.keys() == {CollateralKind.TCB_INFO, CollateralKind.QE_IDENTITY}
    assert set(loose.crls) == set(whole.crls)
    prepared = prepare(intel_part(loose), anchors=ANCHORS, cache=Cache())
    assert prepared.tcb_infos[0].document.evaluation_data_number == 18
    if vector is COCO_4:  # the PCK CA comes with the quote only
        shared = arguments(loose, vector)
        assert verify_platform(parse(evidence_of(tdx_vectors, vector)), **shared).revocation


def test_googles_loose_files(tdx_vectors: Path) -> None:
    names = [
        "google-tcb_info.json",
        "google-tcb_info_v5.json",
        "google-qe_identity.json",
        "google-pckcrl.der",
        "google-rootcrl.der",
    ]
    found = parse_collateral({name: (tdx_vectors / name).read_bytes() for name in names})
    bundle = collateral_of(tdx_vectors, GOOGLE)
    assert len(found.of(CollateralKind.TCB_INFO)) == 2
    assert set(bundle.crls) == set(found.crls)
    assert bundle.of(CollateralKind.TCB_INFO)[0] in found.of(CollateralKind.TCB_INFO)
    with_chains = CollateralSet(bundle.certificates, found.crls, found.documents)
    newer = collateral_of(tdx_vectors, COCO_5).certificates
    both = CollateralSet((*with_chains.certificates, *newer), found.crls, found.documents)
    prepare(intel_part(both), anchors=ANCHORS, cache=Cache())


def test_a_space_breaks_a_signature(tdx_vectors: Path) -> None:
    bundle = json.loads((tdx_vectors / TDX.collateral).read_bytes())
    for name in ("tcb_info", "qe_identity"):
        spoiled = {**bundle, name: bundle[name].replace(":", ": ", 1)}
        found = parse_collateral({"x.json": json.dumps(spoiled).encode()})
        with pytest.raises(AttestationError) as refusal:
            prepare(intel_part(found), anchors=ANCHORS, cache=Cache())
        assert refusal.value.code.name == "COLLATERAL_SIG_INVALID"


def test_recorded_event_log_reproduces_the_rtmrs(tdx_vectors: Path) -> None:
    body = parse_quote((tdx_vectors / "google-cos113-quote.bin").read_bytes()).body
    log = parse_event_log((tdx_vectors / "google-cos113-ccel_data.bin").read_bytes())
    assert isinstance(body, TdReport)
    require_rtmrs(log, dict(enumerate((body.rtmr0, body.rtmr1, body.rtmr2, body.rtmr3))))
