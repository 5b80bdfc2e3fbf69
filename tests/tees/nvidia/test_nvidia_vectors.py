"""Real NVIDIA evidence gets the verdict that shared/vectors/README.md states for it.

No revocation information came with the evidence, so accepting takes the word ANY.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from regalia.appraisal.appraisal_context import AppraisalContext
from regalia.appraisal.claims import Hardware, Revocation
from regalia.appraisal.pki import Cache, parse_certificate
from regalia.core.errors import AttestationError
from regalia.core.types import KeyFingerprint
from regalia.inspect.recognize import recognize
from regalia.tees.nvidia.evidence import (
    NvidiaAnchors,
    NvidiaCollateral,
    RimAnchors,
    parse,
    prepare,
    verify_genuine,
)
from regalia.tees.nvidia.evidence.anchors import (
    NVIDIA_DEVICE_ROOT_SPKI_SHA256,
    NVIDIA_RIM_ROOT_SPKI_SHA256,
)
from regalia.tees.nvidia.evidence.dice import read_dice
from regalia.tees.nvidia.evidence.key_denials import KeyDenials
from regalia.tees.nvidia.evidence.nvtrust import parse_nvidia_evidence, parse_pem_chain
from regalia.tees.nvidia.evidence.plugin import GPU as GPU_PLUGIN
from regalia.tees.nvidia.evidence.spdm import parse_report
from regalia.tees.nvidia.evidence.topology import check_topology
from regalia.tees.nvidia.evidence.verify import PUBLISHED_NONCE
from regalia.tees.nvidia.evidence.wire import decode_opaque
from regalia.tees.nvidia.names import Feature, Status
from regalia.wire.evidence import DeviceEvidence, DeviceKind
from regalia_testing.tees.nvidia.testbed import NONCE
from regalia_testing.tees.snp.testbed import refused
from regalia_testing.testbed import ANY, REQUIRED
from regalia_testing.verify import verify_fresh

if TYPE_CHECKING:
    from pathlib import Path

    from regalia.appraisal.collateral_rule import CollateralRule
    from regalia.tees.nvidia.claims import NvidiaClaims

NOW = datetime(2026, 1, 1, tzinfo=UTC)
GPU, SWITCH = DeviceKind.NVIDIA_GPU, DeviceKind.NVIDIA_SWITCH
HOPPER_535 = ("sdk/hopperAttestationReport.txt", "sdk/hopperCertChain.txt")
HOPPER_550 = ("nvtrust/hopperAttestationReport.txt", "nvtrust/hopperCertChain.txt")
HOPPER_570 = ("sdk/hopperAttestationReportExpired.txt", "sdk/hopperCertChainExpired.txt")
BAD_SIGNATURE = ("sdk/hopperAttestationReportInvalidSignature.txt", "sdk/hopperCertChain.txt")
BLACKWELL = ("sdk/blackwellAttestationReport.txt", "sdk/blackwellCertChain.txt")
LS10 = ("sdk/switchAttestationReport.txt", "sdk/switchCertChain.txt")
LISTS = {
    "sdk/hopper_evidence.json": 1,
    "sdk/evidence_hopper_590_12.json": 1,
    "sdk/hopper_evidence_cert_hold.json": 1,
    "sdk/switch_evidence_ls10.json": 1,
    "sdk/multi_switch_ls10.json": 4,
    "nvtrust/ppcie_gpu_evidence.json": 8,
}
VBIOS_ID = "NV_GPU_VBIOS_1010_0200_882_96005E0001"


@pytest.fixture(scope="module")
def folder(vectors: Path) -> Path:
    return vectors / "nvidia"


def evidence_of(folder: Path, names: tuple[str, str], kind: DeviceKind = GPU) -> DeviceEvidence:
    report, chain = (folder / name for name in names)
    text = chain.read_text()
    return DeviceEvidence(
        kind, bytes.fromhex(report.read_text().strip()), parse_pem_chain(text, what=chain.name)
    )


def genuine(
    evidence: DeviceEvidence,
    collateral: NvidiaCollateral | None = None,
    *,
    rule: CollateralRule = ANY,
) -> NvidiaClaims:
    found = verify_genuine(
        parse(evidence),
        anchors=NvidiaAnchors.production(),
        collateral=prepare(collateral or NvidiaCollateral()),
        at=AppraisalContext(now=NOW, rule=rule, cache=Cache()),
    )
    return found.dangerous_without_freshness()


def fresh(evidence: DeviceEvidence, collateral: NvidiaCollateral | None = None) -> NvidiaClaims:
    """As if we had asked with the nonce that is in the report."""
    return verify_fresh(
        GPU_PLUGIN,
        evidence,
        anchors=NvidiaAnchors.production(),
        collateral=prepare(collateral or NvidiaCollateral()),
        report_data=parse_report(evidence.report).nonce,
        at=AppraisalContext(now=NOW, rule=ANY, cache=Cache()),
    )


def ingested(folder: Path, name: str, rim_id: str, now: str) -> bytes:
    ingest = pytest.importorskip("regalia.tees.nvidia.evidence.rim_xml")
    return ingest.ingest_rim(
        (folder / "rim" / name).read_bytes(),
        rim_id=rim_id,
        anchors=RimAnchors.production(),
        now=datetime.fromisoformat(now).replace(tzinfo=UTC),
    ).encode()


def test_the_pins_are_those_of_the_published_roots(vectors: Path) -> None:
    for name, pin in (
        ("nvidia-device-identity-root.pem", NVIDIA_DEVICE_ROOT_SPKI_SHA256),
        ("nvidia-rim-root.pem", NVIDIA_RIM_ROOT_SPKI_SHA256),
    ):
        (der,) = parse_pem_chain((vectors / "roots" / name).read_text(), what=name)
        assert hashlib.sha256(parse_certificate(der, what=name).spki).hexdigest() == pin


def test_hopper_535(folder: Path) -> None:
    claims = fresh(evidence_of(folder, HOPPER_535))
    assert claims.hardware is Hardware.GENUINE
    assert claims.revocation is Revocation.UNKNOWN
    assert (claims.model, claims.hwmodel) == ("GH100", "GH100 A01 GSP BROM")
    assert (claims.driver_version, claims.vbios_version) == ("535.86.09", "96.00.5E.00.01")
    assert claims.nonce.hex().startswith("27a32824")
    assert claims.identity.hex() == "416a5fafcbd9fa5ca3"
    assert claims.feature is Feature.UNSTATED
    assert not claims.fwid_reported
    assert claims.nvdec0 is Status.DISABLED
    assert claims.rims_missing == ("NV_GPU_DRIVER_GH100_535.86.09", VBIOS_ID)
    assert not claims.debug


@pytest.mark.parametrize(
    ("names", "kind", "model", "driver", "vbios"),
    [
        (HOPPER_550, GPU, "GH100", "550.90.07", "96.00.9F.00.01"),
        (HOPPER_570, GPU, "GH100", "570.124.03", "96.00.5E.00.04"),
        (BLACKWELL, GPU, "GB100", "575.32", "97.00.88.00.0F"),
        (LS10, SWITCH, "LS_10", "", "96.10.55.00.01"),
    ],
)
def test_genuine_reports_over_the_published_nonce(  # noqa: PLR0917 - one row of the table
    folder: Path, names: tuple[str, str], kind: DeviceKind, model: str, driver: str, vbios: str
) -> None:
    evidence = evidence_of(folder, names, kind)
    found = genuine(evidence)
    assert found.nonce == PUBLISHED_NONCE
    assert found.model == model
    assert (found.driver_version, found.vbios_version) == (driver, vbios)
    opaque = decode_opaque(parse_report(evidence.report), switch=kind is SWITCH)
    assert opaque.fwid in (b"", found.fwid)
    refused("NONCE_WELL_KNOWN", fresh, evidence=evidence)
    assert found.rims_missing


def test_blackwell_names_its_own_reference_values(folder: Path) -> None:
    evidence = evidence_of(folder, BLACKWELL)
    found = genuine(evidence)
    assert found.rims_missing == (
        "NV_GPU_CC_DRIVER_GB100_575.32",
        "NV_GPU_VBIOS_G525_0220_886_970088000F",
    )
    assert not found.debug
    assert read_dice(parse_certificate(evidence.endorsements[0], what="leaf")).device_key == b""


def test_the_switch_names_itself_as_its_certificate_does(folder: Path) -> None:
    found = genuine(evidence_of(folder, LS10, SWITCH))
    assert found.pdi.hex() == "203eb31ad9ed0008"
    assert found.identity.hex() == "50203eb31ad9ed0008"
    assert found.rims_missing == ("NV_SWITCH_BIOS_5612_0002_890_9610550001",)
    assert len(found.gpu_pdis) == 7


def test_a_gpu_names_its_switches_as_they_name_themselves(folder: Path) -> None:
    """From one laboratory: byte order on the two sides of a link, seen in real evidence."""
    report = parse_report(evidence_of(folder, BAD_SIGNATURE).report)
    switch = genuine(evidence_of(folder, LS10, SWITCH)).pdi
    assert switch in decode_opaque(report, switch=False).switch_pdis


def test_must_reject_fwid_and_signature(folder: Path) -> None:
    evidence = evidence_of(folder, BAD_SIGNATURE)
    refused("LEAF_BINDING_MISMATCH", genuine, evidence=evidence)


def test_a_report_of_another_device_is_refused_by_its_signature(folder: Path) -> None:
    report = evidence_of(folder, HOPPER_535).report  # without a FWID in the report
    chain = evidence_of(folder, HOPPER_550).endorsements
    refused("SIGNATURE_INVALID", genuine, evidence=DeviceEvidence(GPU, report, chain))


@pytest.mark.parametrize("name", LISTS)
def test_evidence_lists(folder: Path, name: str) -> None:
    recognized = recognize((folder / name).read_bytes())
    assert recognized.evidence is None
    assert len(recognized.devices) == LISTS[name]
    for evidence in recognized.devices:
        found = genuine(evidence)
        assert parse_report(evidence.report).encode() == evidence.report
        assert found.kind is evidence.kind


def test_eight_gpus_in_protected_pcie(folder: Path) -> None:
    devices = parse_nvidia_evidence((folder / "nvtrust/ppcie_gpu_evidence.json").read_bytes())
    claims = [fresh(evidence) for evidence in devices]
    assert len({each.identity for each in claims}) == 8
    assert {each.feature for each in claims} == {Feature.PPCIE}
    assert {each.protected_pcie for each in claims} == {Status.ENABLED}
    (switches,) = {each.switch_pdis for each in claims}
    assert len(switches) == 4
    # Their four switches sent no evidence, so the machine as a whole must not pass.
    said = refused("COMPOSITE_MISMATCH", check_topology, devices=claims)
    assert said.endswith("evidence came from none")
    assert "[" not in said


def test_one_switch_four_times_is_one_switch(folder: Path) -> None:
    devices = parse_nvidia_evidence((folder / "sdk/multi_switch_ls10.json").read_bytes())
    assert len({genuine(evidence).identity for evidence in devices}) == 1


def test_a_certificate_on_hold(folder: Path) -> None:
    """OCSP said certificateHold. Offline: strict revocation refuses, a list of denials names it."""
    (evidence,) = parse_nvidia_evidence(
        (folder / "sdk/hopper_evidence_cert_hold.json").read_bytes()
    )
    assert genuine(evidence).revocation is Revocation.UNKNOWN
    refused("CRL_MISSING", genuine, evidence=evidence, rule=REQUIRED)
    for der in evidence.endorsements:
        key = KeyFingerprint.of(parse_certificate(der, what="certificate").spki)
        denials = KeyDenials(NOW - timedelta(days=9), NOW - timedelta(days=8), (key,))
        held = NvidiaCollateral(denials=(denials.encode(),))
        refused("CERT_REVOKED", genuine, evidence=evidence, collateral=held)
    clean = KeyDenials(NOW, NOW + timedelta(days=1), ()).encode()
    listed = genuine(evidence, NvidiaCollateral(denials=(clean,)), rule=REQUIRED)
    assert listed.revocation is Revocation.CHECKED


def test_vbios_matches_nvidias_reference_values(folder: Path) -> None:
    rim = ingested(folder, f"{VBIOS_ID}.swidtag", VBIOS_ID, "2024-06-01")
    claims = fresh(evidence_of(folder, HOPPER_535), NvidiaCollateral(rims=(rim,)))
    assert [each.id for each in claims.rims] == [VBIOS_ID]
    assert claims.rims_missing == ("NV_GPU_DRIVER_GH100_535.86.09",)


def test_must_reject_vbios_that_differs_at_one_index(folder: Path) -> None:
    name = f"{VBIOS_ID}_measurement_mismatch.xml"
    rim = ingested(folder, name, VBIOS_ID, "2024-06-01")
    what = refused(
        "RIM_MISMATCH",
        fresh,
        evidence=evidence_of(folder, HOPPER_535),
        collateral=NvidiaCollateral(rims=(rim,)),
    )
    assert "[9]" in what


@pytest.mark.parametrize(
    ("name", "rim_id", "now", "code"),
    [
        (
            "NV_GPU_DRIVER_GH100_535.86.09_measurement_mismatch.xml",
            "NV_GPU_DRIVER_GH100_535.86.09",
            "2026-01-01",
            "SIGNATURE_INVALID",
        ),
        (
            "NV_GPU_DRIVER_GH100_570.124.03_expired.xml",
            "NV_GPU_DRIVER_GH100_570.124.03",
            "2026-01-01",
            "CERT_EXPIRED",
        ),
        (
            "incorrect_cert_chain_driver_rim.xml",
            "NV_GPU_DRIVER_GB100_570.00",
            "2026-01-01",
            "ROOT_UNTRUSTED",
        ),
        (f"{VBIOS_ID}.swidtag", VBIOS_ID, "2025-06-23", "CERT_EXPIRED"),
        (f"{VBIOS_ID}.swidtag", VBIOS_ID, "2023-06-01", "CERT_NOT_YET_VALID"),
    ],
)
def test_reference_values_that_must_be_rejected(
    folder: Path, name: str, rim_id: str, now: str, code: str
) -> None:
    refused(code, ingested, folder=folder, name=name, rim_id=rim_id, now=now)


def test_genuine_reference_values(folder: Path) -> None:
    driver = "NV_GPU_DRIVER_GH100_550.144.03"
    assert b'"550.144.03"' in ingested(folder, f"{driver}.xml", driver, "2026-01-01")
    # The driver of this report is another one, so the document is not even asked for.
    rim = ingested(folder, f"{driver}.xml", driver, "2026-01-01")
    found = genuine(evidence_of(folder, HOPPER_550), NvidiaCollateral(rims=(rim,)))
    assert found.rims == ()


def _decoded(token: str) -> dict[str, object]:
    body = token.split(".")[1]
    claims: dict[str, object] = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    return claims


@pytest.mark.parametrize(
    ("names", "kind", "decoded", "token", "prefix"),
    [
        (HOPPER_550, GPU, "hopperClaimsv3_decoded", "hopperClaimsv3_detached_eat", "gpu"),
        (LS10, SWITCH, "switch_decoded", "switch_detached_eat", "switch"),
    ],
)
def test_our_claims_are_those_of_nvidias_own_service(  # noqa: PLR0917 - one row of the table
    folder: Path, names: tuple[str, str], kind: DeviceKind, decoded: str, token: str, prefix: str
) -> None:
    """Differential: NVIDIA's attestation service appraised the same evidence. No trust source."""
    ((name, theirs),) = json.loads((folder / f"sdk/{decoded}.json").read_bytes()).items()
    found = genuine(evidence_of(folder, names, kind))
    assert theirs["ueid"] == found.ueid
    assert theirs["hwmodel"] == found.hwmodel
    assert theirs["eat_nonce"] == found.nonce.hex()
    assert theirs["dbgstat"] == ("enabled" if found.debug else "disabled")
    if kind is GPU:
        assert theirs["x-nvidia-gpu-driver-version"] == found.driver_version
        assert theirs["x-nvidia-gpu-vbios-version"] == found.vbios_version
    else:
        assert theirs["x-nvidia-switch-bios-version"] == found.vbios_version
    assert theirs[f"x-nvidia-{prefix}-attestation-report-cert-chain-fwid-match"] is True
    overall, inner = json.loads((folder / f"sdk/{token}.json").read_bytes())
    kind_word, digest = _decoded(overall[1])["submods"][name]  # type: ignore[index] # JSON
    assert kind_word == "DIGEST"
    assert digest[1].lower() == hashlib.sha256(inner[name].encode()).hexdigest()
    assert _decoded(inner[name])["ueid"] == theirs["ueid"]


def test_another_kind_or_nonce_is_refused(folder: Path) -> None:
    evidence = evidence_of(folder, HOPPER_535)
    refused("CHAIN_INVALID", genuine, evidence=replace(evidence, kind=SWITCH))
    refused(
        "NONCE_MISMATCH",
        verify_fresh,
        plugin=GPU_PLUGIN,
        evidence=evidence,
        anchors=NvidiaAnchors.production(),
        collateral=prepare(NvidiaCollateral()),
        report_data=NONCE,
        at=AppraisalContext(now=NOW, rule=ANY, cache=Cache()),
    )
    with pytest.raises(AttestationError, match="ROOT_UNTRUSTED"):
        genuine(replace(evidence, endorsements=evidence.endorsements[:-1]))
