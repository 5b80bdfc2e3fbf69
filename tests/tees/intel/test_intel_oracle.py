"""Held against dcap-qvl: same verdict, status and advisories, on real and on simulated evidence.

Where we differ, and why, stands in ``STRICTER`` and ``LEFT_TO_POLICY``; docs/adr/0010 explains.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, get_args

import dcap_qvl
import msgspec
import pytest

from regalia.appraisal.appraisal_context import AppraisalContext
from regalia.appraisal.pki import Cache
from regalia.core.errors import RegaliaError
from regalia.tees.intel.evidence import IntelAnchors, parse, prepare, verify_platform
from regalia.tees.intel.evidence.bodies import TdReport
from regalia.tees.intel.evidence.vendor import collateral_of
from regalia.verifier.collateral import parse_collateral
from regalia.wire.evidence import Evidence, Tee
from regalia_testing.tees.intel.defects import IsvLevel, Level
from regalia_testing.tees.intel.quotes import pem_chain
from regalia_testing.testbed import REQUIRED

if TYPE_CHECKING:
    from pathlib import Path

    from regalia_testing.tees.intel.testbed import IntelTestbed

BOTH = [Tee.TDX, Tee.SGX]
REFUSED = "refused"

# Refused by us alone: dcap-qvl does not look at it.
STRICTER = {
    "trailing_byte": True,
    "other_pce_id": True,
    "qe_report_data_tail": True,
}
STRICTER_TDX = {"xfam_reserved": True, "wrong_event_log": True}
STRICTER_SGX = {"not_initialized": True, "attributes_reserved": True}
# Refused by dcap-qvl; our verifier tells it in claims, and policies decide.
LEFT_TO_POLICY = {
    "debug": True,
    "profiling": True,
    "migratable": True,
    "sept_ve_disable": False,
    "service_td": True,
}


def bundle(testbed: IntelTestbed, tee: Tee, *, processor: bool = False) -> dict[str, str]:
    """The testbed's collateral in the form that dcap-qvl reads."""
    kind, enclave = ("tdx", "td-qe") if tee is Tee.TDX else ("sgx", "qe")
    info = msgspec.json.decode(testbed.files[f"tcb-info-{kind}.json"], type=dict[str, msgspec.Raw])
    identity = msgspec.json.decode(
        testbed.files[f"{enclave}-identity.json"], type=dict[str, msgspec.Raw]
    )
    authority = testbed.platform.authority
    signing = pem_chain(authority.tcb_signing(), authority.root()).decode()
    ca = pem_chain(authority.pck_ca(processor=processor), authority.root()).decode()
    crl = testbed.files["processor.crl" if processor else "platform.crl"]
    return {
        "pck_crl_issuer_chain": ca,
        "root_ca_crl": testbed.files["root.crl"].hex(),
        "pck_crl": crl.hex(),
        "tcb_info_issuer_chain": signing,
        "tcb_info": bytes(info["tcbInfo"]).decode(),
        "tcb_info_signature": json.loads(bytes(info["signature"])),
        "qe_identity_issuer_chain": signing,
        "qe_identity": bytes(identity["enclaveIdentity"]).decode(),
        "qe_identity_signature": json.loads(bytes(identity["signature"])),
    }


def theirs(testbed: IntelTestbed, tee: Tee, quote: bytes, *, processor: bool = False) -> object:
    collateral = dcap_qvl.QuoteCollateralV3.from_json(
        json.dumps(bundle(testbed, tee, processor=processor))
    )
    root = testbed.platform.authority.root()
    try:
        report = dcap_qvl.verify_with_root_ca(quote, collateral, root, int(testbed.now.timestamp()))
    except ValueError:
        return REFUSED
    return report.status, tuple(sorted(report.advisory_ids))


def both(testbed: IntelTestbed, tee: Tee, **defects: object) -> tuple[object, object]:
    evidence = testbed.evidence(tee, **defects)
    try:
        claims = testbed.verify(evidence)
    except RegaliaError:
        ours: object = REFUSED
    else:
        ours = claims.tcb_status.value, claims.advisory_ids
    return ours, theirs(
        testbed, tee, evidence.report, processor=bool(defects.get("processor_ca", False))
    )


@pytest.mark.parametrize("tee", BOTH)
@pytest.mark.parametrize("level", get_args(Level))
@pytest.mark.parametrize("qe", get_args(IsvLevel))
def test_every_pair_of_levels(testbed: IntelTestbed, tee: Tee, level: str, qe: str) -> None:
    ours, their = both(testbed, tee, level=level, qe=qe)
    assert ours == their


@pytest.mark.parametrize("module", get_args(IsvLevel))
@pytest.mark.parametrize("version", [0, 1, 2, 3])
@pytest.mark.parametrize("body_type", [2, 3, 4])
def test_every_module(testbed: IntelTestbed, module: str, version: int, body_type: int) -> None:
    ours, their = both(testbed, Tee.TDX, module=module, module_version=version, body_type=body_type)
    assert ours == their


@pytest.mark.parametrize("level", get_args(Level))
@pytest.mark.parametrize("qe", ["UpToDate", "OutOfDate"])
@pytest.mark.parametrize("version", [1, 3])
def test_a_module_updated_since_the_launch(
    testbed: IntelTestbed, level: str, qe: str, version: int
) -> None:
    ours, their = both(
        testbed,
        Tee.TDX,
        level=level,
        qe=qe,
        module="OutOfDate",
        module_updated=True,
        module_version=version,
    )
    assert ours == their


AGREED = [
    ("version", 4),
    ("version", 5),
    ("trailing_zeros", 70),
    ("processor_ca", True),
    ("perfmon", True),
    ("pks", True),
    ("kl", True),
    ("lass", True),
    ("low_pce_svn", True),
    ("low_tdx_svn", True),
    ("module_signer", False),
    ("module_attributes", 1),
    ("qe_debug", True),
    ("qe_signer", False),
    ("qe_prod_id", 9),
    ("qe_misc_select", 1),
    ("qe_attributes_reserved", True),
    ("other_attestation_key", True),
    ("bad_signature", True),
    ("bad_qe_signature", True),
    ("truncated", True),
    ("key_type", 3),
    ("vendor", False),
    ("certification_type", 4),
    ("pck_expired", True),
    ("other_fmspc", True),
]


@pytest.mark.parametrize("tee", BOTH)
@pytest.mark.parametrize(("field", "value"), AGREED)
def test_the_same_verdict(testbed: IntelTestbed, tee: Tee, field: str, value: object) -> None:
    ours, their = both(testbed, tee, **{field: value})
    assert ours == their


@pytest.mark.parametrize("tee", BOTH)
def test_where_we_are_stricter(testbed: IntelTestbed, tee: Tee) -> None:
    for field, value in {
        **STRICTER,
        **(STRICTER_TDX if tee is Tee.TDX else STRICTER_SGX),
    }.items():
        ours, their = both(testbed, tee, **{field: value})
        assert ours == REFUSED, field
        assert their != REFUSED, field


def test_what_is_left_to_the_policy(testbed: IntelTestbed) -> None:
    for field, value in LEFT_TO_POLICY.items():
        ours, their = both(testbed, Tee.TDX, **{field: value})
        assert ours != REFUSED, field
        assert their == REFUSED, field


def test_collateral_with_defects(testbed: IntelTestbed) -> None:
    """Lists that name a certificate, and documents of the other kind: both of us refuse."""
    authority, documents = testbed.platform.authority, testbed.platform.documents
    evidence = testbed.evidence()
    for name, data in (
        ("root.crl", authority.root_crl(["platform_ca"])),
        ("root.crl", authority.root_crl(["tcb_signing"])),
        ("platform.crl", authority.pck_crl(["pck"])),
        ("root.crl", authority.pck_crl()),
        ("tcb-info-tdx.json", documents.tcb_info("TDX", fmspc="00" * 6)),
        ("tcb-info-tdx.json", documents.tcb_info("TDX", nextUpdate="2026-11-22T11:00:00Z")),
        ("tcb-info-tdx.json", documents.tcb_info("SGX")),
        ("tcb-info-tdx.json", documents.tcb_info("TDX", tcbLevels=[])),
        ("td-qe-identity.json", documents.identity("QE")),
        ("td-qe-identity.json", documents.identity("TD_QE", mrsigner="66" * 32)),
        ("td-qe-identity.json", documents.identity("TD_QE", nextUpdate="2026-11-22T11:00:00Z")),
    ):
        changed = testbed.with_file(name, data)
        with pytest.raises(RegaliaError):
            changed.verify(evidence)
        assert theirs(changed, Tee.TDX, evidence.report) == REFUSED, name


REAL = [
    ("dcapqvl-tdx_quote.bin", "dcapqvl-tdx_quote_collateral.json", 1750415547),
    ("dcapqvl-sgx_quote.bin", "dcapqvl-sgx_quote_collateral.json", 1750416971),
    ("dcapqvl-tdx_quote_outdated.bin", "dcapqvl-tdx_quote_outdated_collateral.json", 1771498731),
    ("google-quote_v4_spr_e4.bin", "assembled-google-2023-50806f_collateral.json", 1688083200),
    ("coco-quote_4.bin", "assembled-2026-03-50806f_collateral.json", 1773703290),
    ("coco-quote_5.bin", "assembled-2026-03-90c06f_collateral.json", 1773702963),
]


@pytest.mark.parametrize(("quote", "collateral", "now"), REAL)
def test_real_evidence(tdx_vectors: Path, quote: str, collateral: str, now: int) -> None:
    raw, bundled = (tdx_vectors / quote).read_bytes(), (tdx_vectors / collateral).read_bytes()
    evidence = Evidence(Tee.SGX if "sgx" in quote else Tee.TDX, raw, (), b"")
    cache, anchors = Cache(), IntelAnchors.production()
    moment = datetime.fromtimestamp(now, UTC)
    prepared = prepare(
        collateral_of(parse_collateral({collateral: bundled})), anchors=anchors, cache=cache
    )
    at = AppraisalContext(now=moment, rule=REQUIRED, cache=cache)
    try:
        genuine = verify_platform(parse(evidence), anchors=anchors, collateral=prepared, at=at)
    except RegaliaError:
        ours: object = REFUSED
    else:
        ours = genuine.status.value, genuine.standing.advisories
        parsed, body = dcap_qvl.parse_quote(raw), parse(evidence).report.body
        assert genuine.certified.pck.facts.fmspc.hex().upper() == parsed.fmspc()
        assert genuine.certified.pck.facts.ppid == parsed.pck_extension().ppid
        if isinstance(body, TdReport) and body.td_attributes & 1:
            ours = REFUSED  # dcap-qvl refuses debug itself
    try:
        report = dcap_qvl.verify(raw, dcap_qvl.QuoteCollateralV3.from_json(bundled.decode()), now)
    except ValueError:
        their: object = REFUSED
    else:
        their = report.status, tuple(sorted(report.advisory_ids))
    assert ours == their
