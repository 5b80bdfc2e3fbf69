"""Loose files of every vendor: what is found in them, what it needs, and what is left out."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from regalia.appraisal.claims import Revocation
from regalia.appraisal.collateral_rule import NO_GRACE, CollateralRule, RevocationRule
from regalia.appraisal.pki import Cache, parse_certificate
from regalia.core.types import KeyFingerprint
from regalia.tees.intel.evidence import IntelAnchors
from regalia.tees.intel.evidence.pcs import parse_intel
from regalia.tees.intel.evidence.vendor import collateral_of
from regalia.tees.intel.evidence.verified_collateral import prepare
from regalia.tees.nvidia.evidence.needs import device_rims
from regalia.tees.snp.evidence.vendor import collateral_of as snp_collateral
from regalia.tees.snp.evidence.wire import parse_report
from regalia.verifier.collateral import (
    COLLATERAL_ENDINGS,
    COLLATERAL_FILES_MAX,
    CollateralSet,
    Dates,
    Validity,
    collect,
    dates_of,
    mark_grace,
    needs_of,
    parse_collateral,
    require_certificates_not_denied,
    sort_files,
)
from regalia.wire.collateral import CollateralKind
from regalia.wire.deny_list import FORMAT as DENY_LIST_FORMAT
from regalia.wire.deny_list import DeniedKey, DeniedSerial, DenyList
from regalia.wire.evidence import DeviceEvidence, DeviceKind, Evidence, Tee
from regalia_testing.collateral import DENY_LIST, tcb_info_body
from regalia_testing.tees.intel.simulator import IntelSimulator
from regalia_testing.tees.snp.testbed import refused

if TYPE_CHECKING:
    from regalia.wire.deny_list import Denied
    from regalia_testing.tees.nvidia.testbed import NvidiaTestbed
    from regalia_testing.tees.snp.testbed import SnpTestbed

RULE = CollateralRule(RevocationRule.REQUIRED, NO_GRACE)
NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)


def kinds(files: dict[str, bytes]) -> list[str]:
    return [item.kind.value for item in sort_files(files)]


# -- Intel -----------------------------------------------------------------------------------


def test_intels_real_files(vectors: Path) -> None:
    """Loose answers of Intel's service verify, and so does the one file of another library."""
    folder = vectors / "tdx" / "lunal-collateral"
    loose = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    items = sort_files(loose)
    names = {item.name for item in items if item.kind is CollateralKind.TCB_INFO}
    assert names == {"TDX 50806f000000", "TDX 90c06f000000"}
    one = vectors / "tdx" / "assembled-2026-03-50806f_collateral.json"
    for files in (loose, {one.name: one.read_bytes()}):
        found = parse_collateral(files)
        prepared = prepare(collateral_of(found), anchors=IntelAnchors.production(), cache=Cache())
        assert prepared.tcb_infos
        assert prepared.identities


def test_an_intel_document_is_kept_byte_for_byte(vectors: Path) -> None:
    for path in sorted(vectors.glob("tdx/**/*tcb_info*.json")):
        data = path.read_bytes()
        (item,) = sort_files({path.name: data + b"\n"})
        assert item.content == data.strip()
        assert parse_intel(item.kind, item.content, what="x").signed.body in data


def test_bodies_that_are_not_intels() -> None:
    body = tcb_info_body(number=18)
    for bad in (
        body[:-1],
        body + b" ",
        b" " + body,
        body.replace(b'"signature":"00', b'"signature":"0G'),
        body.replace(b',"signature"', b' ,"signature"'),
        body.replace(b'{"tcbInfo":', b'{"tcbInfo": '),
    ):
        refused("MALFORMED", parse_intel, kind=CollateralKind.TCB_INFO, body=bad, what="x")
    refused("MALFORMED", parse_intel, kind=CollateralKind.QE_IDENTITY, body=body, what="x")


def test_a_list_in_hex(testbed: SnpTestbed) -> None:
    hexed = testbed.platform.crl.hex().encode()
    assert parse_collateral({"x.crl": hexed}).crls == (testbed.platform.crl,)


# -- TPMs: what a root is trusted for is said by name ----------------------------------------


def test_roots_of_tpms_are_named(testbed: SnpTestbed) -> None:
    ark = testbed.platform.ark
    found = parse_collateral({"dir/tpm-ek-root-x.der": ark, "tpm-ak-root.pem": ark, "x.der": ark})
    ek_roots, ak_roots = found.of(CollateralKind.EK_ROOT), found.of(CollateralKind.AK_ROOT)
    assert ek_roots == ak_roots == found.certificates == (ark,)
    assert parse_collateral({"ek.der": ark}).of(CollateralKind.EK_ROOT) == ()


# -- VCEKs of a fleet ------------------------------------------------------------------------


def test_each_report_gets_its_own_vcek(testbed: SnpTestbed) -> None:
    evidence = testbed.evidence()
    leaf, ask, ark = evidence.endorsements
    other = replace(testbed.platform, hwid=b"\x07" * len(testbed.platform.hwid))
    stranger = replace(testbed, platform=other).evidence().endorsements[0]
    found = parse_collateral({"a": leaf, "b": stranger, "c": ask, "d": ark})
    assert set(found.leaves) == {leaf, stranger}
    known, report = snp_collateral(found), parse_report(evidence.report)
    assert known.intermediates == (ask, ark)
    assert known.for_report(report).intermediates == (ask, ark, leaf)
    elsewhere = msgspec.structs.replace(report, chip_id=b"\x08" * 64)
    assert known.for_report(elsewhere).intermediates == (ask, ark)


# -- needs -----------------------------------------------------------------------------------


def missing(evidence: Evidence, collateral: CollateralSet) -> list[str]:
    return [need.what for need in needs_of(evidence, collateral) if not need.where]


def test_what_a_report_needs(testbed: SnpTestbed) -> None:
    evidence = testbed.evidence()
    bare = replace(evidence, endorsements=())
    leaf, ask, ark = evidence.endorsements
    everything = {"a": leaf, "b": ask, "c": ark, "d": testbed.platform.crl}
    assert missing(bare, parse_collateral(everything)) == []
    assert missing(evidence, parse_collateral({})) == ["list of ARK-Genoa"]
    (vcek, *rest) = missing(bare, parse_collateral({}))
    assert vcek.startswith("VCEK for chip ")
    assert rest == ["SEV-Genoa", "ARK-Genoa", "list of ARK-Genoa"]
    for name in everything:
        less = {key: value for key, value in everything.items() if key != name}
        assert len(missing(bare, parse_collateral(less))) == 1
    refused(
        "MALFORMED", needs_of, evidence=replace(bare, report=b"x"), collateral=CollateralSet((), ())
    )


def test_what_a_quote_needs() -> None:
    intel = IntelSimulator.make(now=NOW)
    evidence = intel.tdx_evidence(b"r" * 64, measurement=b"m" * 48, runtime_config=b"c")
    files = intel.files()
    assert missing(evidence, parse_collateral(files)) == []
    everything = missing(evidence, CollateralSet((), ()))
    assert everything == [
        "TDX 00ffee000000",
        "TD_QE",
        "Intel SGX TCB Signing",
        "Intel SGX Root CA",
        "list of Intel SGX PCK Platform CA",
        "list of Intel SGX Root CA",
    ]
    del files["platform.crl"], files["tcb-info-tdx.json"]
    assert missing(evidence, parse_collateral(files)) == [everything[0], everything[4]]


def test_what_a_real_device_needs(vectors: Path, testbed: SnpTestbed) -> None:
    folder = vectors / "nvidia" / "sdk"
    chain = parse_collateral({"x.pem": (folder / "hopperCertChain.txt").read_bytes()})
    report = bytes.fromhex((folder / "hopperAttestationReport.txt").read_text())
    gpu = DeviceEvidence(DeviceKind.NVIDIA_GPU, report, chain.certificates)
    names = ("NV_GPU_DRIVER_GH100_535.86.09", "NV_GPU_VBIOS_1010_0200_882_96005E0001")
    assert device_rims(gpu) == names
    evidence = replace(testbed.evidence(), devices=(gpu,))
    assert missing(evidence, CollateralSet((), (testbed.platform.crl,))) == list(names)
    refused("MALFORMED", device_rims, device=replace(gpu, endorsements=()))
    refused("MALFORMED", device_rims, device=replace(gpu, report=report[:-1]))


def test_needs_that_are_not_known_are_not_called_met() -> None:
    for tee in Tee:
        unreadable = Evidence(tee, b"x", (), b"")
        refused("MALFORMED", needs_of, evidence=unreadable, collateral=CollateralSet((), ()))


# -- deny-lists ------------------------------------------------------------------------------


def listing(entry: Denied) -> bytes:
    return DenyList(entries=[entry], format=DENY_LIST_FORMAT, name="list").encode()


def fingerprint(der: bytes) -> str:
    return str(KeyFingerprint.of(parse_certificate(der, what="x").spki))


def test_a_denied_certificate_is_left_out(testbed: SnpTestbed) -> None:
    platform = testbed.platform
    serial = f"{parse_certificate(platform.ask, what='x').serial:x}"
    files = {"ark": platform.ark, "ask": platform.ask, "asvk": platform.asvk}
    for entry in (
        DeniedKey(key=fingerprint(platform.ask), reason="x"),
        DeniedSerial(issuer=fingerprint(platform.ark), serial=serial, reason="x"),
    ):
        found = parse_collateral({**files, "deny.json": listing(entry)})
        assert found.certificates == (platform.ark, platform.asvk)
    elsewhere = DeniedSerial(issuer=fingerprint(platform.asvk), serial=serial, reason="x")
    assert len(parse_collateral({**files, "deny.json": listing(elsewhere)}).certificates) == 3


def test_a_denied_certificate_beside_evidence(testbed: SnpTestbed) -> None:
    evidence = testbed.evidence()
    for der in evidence.endorsements:
        denied = collect(
            sort_files({"x.json": listing(DeniedKey(key=fingerprint(der), reason="x"))})
        )
        refused(
            "DEVICE_DENIED",
            require_certificates_not_denied,
            evidence=evidence,
            denied=denied.denied,
            authorities=(),
        )
    other = collect(sort_files({"x.json": DENY_LIST.encode()}))
    require_certificates_not_denied(evidence, other.denied, ())


# -- dates and grace -------------------------------------------------------------------------


def test_dates(testbed: SnpTestbed) -> None:
    (crl,) = sort_files({"x": testbed.platform.crl})
    assert crl.valid_from is not None
    assert crl.valid_until is not None
    for now, want in (
        (crl.valid_from - DAY, Dates.NOT_YET),
        (crl.valid_from, Dates.IN_DATE),
        (crl.valid_until - 8 * DAY, Dates.IN_DATE),
        (crl.valid_until - 7 * DAY, Dates.SOON),
        (crl.valid_until, Dates.SOON),
        (crl.valid_until + timedelta(seconds=1), Dates.EXPIRED),
    ):
        assert dates_of(crl, now) is want
        assert want.is_stale is (want in {Dates.NOT_YET, Dates.EXPIRED})
    (listed,) = sort_files({"x.json": DENY_LIST.encode()})
    assert dates_of(listed, NOW) is Dates.UNDATED


def test_grace_lowers_what_is_known_and_raises_nothing(testbed: SnpTestbed) -> None:
    claims = testbed.verify(testbed.evidence())
    assert claims.revocation is Revocation.CHECKED
    late = mark_grace(claims)
    assert late.revocation is Revocation.GRACE
    assert (late.chip_id, late.report_data) == (claims.chip_id, claims.report_data)
    assert mark_grace(late) == late
    lenient = replace(testbed, rule=CollateralRule(RevocationRule.ANY, NO_GRACE))
    without = replace(testbed.platform.collateral(), crls=())
    unknown = lenient.verify(testbed.evidence(), collateral=without)
    assert mark_grace(unknown).revocation is Revocation.UNKNOWN


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("format", b'{"format":"regalia/approval/v1"}'),
        ("no format", b'{"x":1}'),
        ("nested", b'{"a":' * 5000),
        ("two documents", DENY_LIST.encode() * 2),
        ("no UTF-8", b'{"format":"\xff"}'),
        ("large", b"{" + b" " * (1 << 20)),
        ("as large as can be", b"{" + b" " * ((1 << 20) - 2) + b"]"),
    ],
)
def test_json_that_is_no_collateral(name: str, data: bytes) -> None:
    code = "TOO_LARGE" if name == "large" else "MALFORMED"
    said = refused(code, sort_files, files={"x.json": data})
    assert ("format 'regalia/approval/v1' is no collateral" in said) is (name == "format")


def test_an_item_says_where_it_came_from() -> None:
    (item,) = sort_files({"/a b/!c d\u00e4~.json": DENY_LIST.encode()})
    assert item.source == "!c_d_~.json"
    assert hashlib.sha256(item.content).digest() == hashlib.sha256(DENY_LIST.encode()).digest()


def test_what_comes_twice_is_kept_from_where_it_came_first(testbed: SnpTestbed) -> None:
    ark, crl = testbed.platform.ark, testbed.platform.crl
    items = sort_files({"a": ark, "tpm-ek-root-a": ark, "b": ark, "c": crl, "d": crl})
    assert [(item.kind.value, item.source) for item in items] == [
        ("certificate", "a"),
        ("tpm-ek-root", "tpm-ek-root-a"),
        ("crl", "c"),
    ]


def test_loose_files_come_beside_a_bundle(testbed: SnpTestbed) -> None:
    """They add to every kind; dates and deny-lists stay those of the bundle."""
    platform = testbed.platform
    leaf = testbed.evidence().endorsements[0]
    validity = Validity("a bundle", NOW - DAY, NOW + DAY)
    files = {"ark": platform.ark, "tpm-ek-root": platform.asvk, "deny": DENY_LIST.encode()}
    info = tcb_info_body(number=18)
    ours = collect(sort_files({**files, "info": info}), validity=validity)
    loose = parse_collateral(
        {"ask": platform.ask, "crl": platform.crl, "leaf": leaf}
        | {"tpm-ek-root": platform.ark, "tpm-ak-root": platform.ask}
        | {"deny": listing(DeniedKey(key=fingerprint(platform.asvk), reason="x"))}
    )
    both = ours.with_loose(loose)
    assert both.certificates == (platform.ark, platform.ask)
    assert both.crls == (platform.crl,)
    assert both.leaves == (leaf,)
    assert both.of(CollateralKind.EK_ROOT) == (platform.asvk, platform.ark)
    assert both.of(CollateralKind.AK_ROOT) == (platform.ask,)
    assert both.of(CollateralKind.TCB_INFO) == (info,)
    assert (both.validity, both.denied) == (validity, ours.denied)


@pytest.mark.parametrize("names", [(), ("first",), ("first", "second")])
def test_a_list_is_named_after_its_issuer(names: tuple[str, ...]) -> None:
    """Without a common name, after the digest of the whole name."""
    issuer = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "nobody"),
            *(x509.NameAttribute(NameOID.COMMON_NAME, name) for name in names),
        ]
    )
    builder = x509.CertificateRevocationListBuilder().issuer_name(issuer)
    dated = builder.last_update(NOW).next_update(NOW + DAY)
    crl = dated.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    (item,) = sort_files({"x": crl.public_bytes(Encoding.DER)})
    digest = hashlib.sha256(issuer.public_bytes()).hexdigest()
    assert item.name == (names[0] if names else digest[:16])


def test_a_document_of_ours_is_known_by_its_format(device_testbed: NvidiaTestbed) -> None:
    given = device_testbed.machine.collateral()
    rim, denials = CollateralKind.RIM, CollateralKind.KEY_DENIALS
    for documents, kind in ((given.rims, rim), (given.denials, denials)):
        assert documents
        for number, document in enumerate(documents):
            (item,) = sort_files({f"{number}.json": document + b"\n"})
            assert (item.kind, item.content) == (kind, document)


def test_limits_of_a_folder_are_those_of_the_page() -> None:
    page = Path(__file__).parents[2] / "docs" / "reference" / "configuration-broker.md"
    limits = f"`{' '.join(COLLATERAL_ENDINGS)}`, at most {COLLATERAL_FILES_MAX} files"
    assert limits in page.read_text(encoding="utf-8")
