"""One defect of a device, one code. And the defects that only claims and policy speak of."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from regalia.appraisal.appraisal_context import AppraisalContext
from regalia.appraisal.check import UNKNOWN, Outcome
from regalia.appraisal.check_log import CheckLog
from regalia.appraisal.claims import MINT, Hardware, Revocation
from regalia.core.errors import RegaliaError
from regalia.core.types import KeyFingerprint
from regalia.tees.nvidia.evidence import NvidiaAnchors, prepare
from regalia.tees.nvidia.evidence.chain import TrustedChain
from regalia.tees.nvidia.evidence.key_denials import KeyDenials
from regalia.tees.nvidia.evidence.plugin import GPU
from regalia.tees.nvidia.evidence.rims import parse_rim
from regalia.tees.nvidia.evidence.verify import PUBLISHED_NONCE, parse, verify_genuine
from regalia.tees.nvidia.names import Feature, Status
from regalia.wire.evidence import DeviceKind
from regalia_testing.tees.nvidia.authority import spki
from regalia_testing.tees.nvidia.reports import DRIVER_INDICES
from regalia_testing.tees.nvidia.simulator import YEAR
from regalia_testing.tees.nvidia.testbed import NONCE
from regalia_testing.tees.snp.testbed import refused
from regalia_testing.testbed import ANY, REQUIRED
from regalia_testing.verify import verify_fresh

if TYPE_CHECKING:
    from regalia.tees.nvidia.evidence import NvidiaCollateral
    from regalia.tees.nvidia.evidence.rims import Rim
    from regalia_testing.tees.nvidia.testbed import NvidiaTestbed

DEFECTS: dict[str, tuple[str, dict[str, Any]]] = {
    "stale_nonce": ("NONCE_MISMATCH", {"stale_nonce": True}),
    "published_nonce": ("NONCE_MISMATCH", {"published_nonce": True}),
    "bad_signature": ("SIGNATURE_INVALID", {"bad_signature": True}),
    "trailing_byte": ("TRAILING_DATA", {"trailing_byte": True}),
    "truncated": ("MALFORMED", {"truncated": True}),
    "duplicate_block": ("MALFORMED", {"duplicate_block": True}),
    "opaque_header": ("UNSUPPORTED_VERSION", {"opaque_header": 3}),
    "two_zeros_behind": ("TRAILING_DATA", {"zeros_behind": 2}),
    "opaque_version": ("UNSUPPORTED_VERSION", {"opaque_version": 2}),
    "unknown_feature": ("UNSUPPORTED_VERSION", {"feature": 3}),
    "fwid_mismatch": ("LEAF_BINDING_MISMATCH", {"fwid_mismatch": True}),
    "device_key_mismatch": ("LEAF_BINDING_MISMATCH", {"device_key_mismatch": True}),
    "leaf_expired": ("CERT_EXPIRED", {"leaf_expired": True}),
    "wrong_vbios_measurement": ("RIM_MISMATCH", {"wrong_measurement": 9}),
    "wrong_driver_measurement": ("RIM_MISMATCH", {"wrong_measurement": 30}),
    "wrong_nvdec": ("RIM_MISMATCH", {"wrong_measurement": 35, "nvdec_enabled": True}),
}


def test_a_healthy_gpu_and_switch(device_testbed: NvidiaTestbed) -> None:
    gpu = device_testbed.verify(device_testbed.evidence())
    assert gpu.hardware is Hardware.SIMULATED
    assert gpu.revocation is Revocation.CHECKED
    assert gpu.identity == device_testbed.gpu.identity
    assert gpu.nonce == NONCE
    assert [rim.id for rim in gpu.rims] == [
        "NV_GPU_DRIVER_GH100_590.12",
        "NV_GPU_VBIOS_G520_0200_885_9600A50001",
    ]
    assert gpu.rims_missing == ()
    assert (gpu.feature, gpu.nvdec0) == (Feature.SPT, Status.DISABLED)
    assert len(gpu.switch_pdis) == 2
    (first, second) = device_testbed.machine.switches
    switch = device_testbed.verify(device_testbed.evidence(first))
    assert switch.kind is DeviceKind.NVIDIA_SWITCH
    assert gpu.switch_pdis == tuple(sorted((first.pdi, second.pdi)))
    assert switch.pdi == first.pdi
    assert switch.identity[1:] == first.pdi
    assert len(switch.gpu_pdis) == 2


@pytest.mark.parametrize("name", DEFECTS)
def test_one_defect_gives_its_code(device_testbed: NvidiaTestbed, name: str) -> None:
    code, defects = DEFECTS[name]
    refused(code, device_testbed.verify, evidence=device_testbed.evidence(**defects))


def test_a_report_of_a_newer_driver(device_testbed: NvidiaTestbed) -> None:
    """The opaque data's newer layout says the same things."""
    old = device_testbed.verify(device_testbed.evidence())
    new = device_testbed.verify(device_testbed.evidence(opaque_header=2, opaque_version=512))
    assert replace(new, evidence_digest=old.evidence_digest, mint=MINT) == replace(old, mint=MINT)


def test_an_unknown_field_is_kept_by_number(device_testbed: NvidiaTestbed) -> None:
    assert device_testbed.verify(device_testbed.evidence()).opaque_addition == ()
    claims = device_testbed.verify(device_testbed.evidence(unknown_opaque=True))
    assert claims.opaque_addition == (99,)


def test_a_zero_byte_behind_the_report_is_not_signed(device_testbed: NvidiaTestbed) -> None:
    """The tool that hands reports on as text of C sends the text's end along."""
    claims = device_testbed.verify(device_testbed.evidence(zeros_behind=1))
    assert claims.rims
    forged = device_testbed.evidence(zeros_behind=1, bad_signature=True)
    refused("SIGNATURE_INVALID", device_testbed.verify, evidence=forged)


def test_a_switch_by_another_name_is_refused(device_testbed: NvidiaTestbed) -> None:
    switch = device_testbed.machine.switches[0]
    evidence = device_testbed.evidence(switch, pdi_mismatch=True)
    refused("LEAF_BINDING_MISMATCH", device_testbed.verify, evidence=evidence)


def test_a_disabled_decoder_is_not_measured(device_testbed: NvidiaTestbed) -> None:
    assert device_testbed.verify(device_testbed.evidence(wrong_measurement=35)).rims


@pytest.mark.parametrize("nonce", [PUBLISHED_NONCE, bytes(32)])
def test_a_public_nonce_is_refused_even_if_expected(
    device_testbed: NvidiaTestbed, nonce: bytes
) -> None:
    evidence = device_testbed.machine.evidence_of(device_testbed.gpu, nonce)
    refused("NONCE_WELL_KNOWN", device_testbed.verify, evidence=evidence, nonce=nonce)


def test_kinds_are_not_mixed_up(device_testbed: NvidiaTestbed) -> None:
    gpu, switch = (
        device_testbed.evidence(),
        device_testbed.evidence(device_testbed.machine.switches[0]),
    )
    for evidence in (
        replace(gpu, kind=DeviceKind.NVIDIA_SWITCH),
        replace(switch, kind=DeviceKind.NVIDIA_GPU),
    ):
        refused("CHAIN_INVALID", device_testbed.verify, evidence=evidence)


def test_blackwell_states_debug_mode(blackwell_testbed: NvidiaTestbed) -> None:
    assert not blackwell_testbed.verify(blackwell_testbed.evidence()).debug
    claims = blackwell_testbed.verify(blackwell_testbed.evidence(debug=True))
    assert claims.debug
    assert claims.model == "GB100"
    assert claims.rims[0].id == "NV_GPU_CC_DRIVER_GB100_590.12"


def test_an_old_driver_states_less(device_testbed: NvidiaTestbed) -> None:
    claims = device_testbed.verify(device_testbed.evidence(old_opaque=True))
    assert not claims.fwid_reported
    assert claims.feature is Feature.UNSTATED
    assert claims.fwid == device_testbed.gpu.fwid


@pytest.mark.parametrize(("flag", "feature"), [(0, "MPT"), (1, "SPT"), (2, "PPCIE")])
def test_features(device_testbed: NvidiaTestbed, flag: int, feature: str) -> None:
    claims = device_testbed.verify(device_testbed.evidence(feature=flag))
    assert claims.feature == feature
    assert (claims.protected_pcie is Status.ENABLED) is (feature == "PPCIE")


# Reference values.


def rims_of(testbed: NvidiaTestbed) -> list[Rim]:
    return [parse_rim(data) for data in testbed.machine.collateral().rims]


def with_rims(testbed: NvidiaTestbed, *rims: Rim) -> NvidiaCollateral:
    return replace(testbed.machine.collateral(), rims=tuple(rim.encode() for rim in rims))


def test_missing_reference_values_are_named(device_testbed: NvidiaTestbed) -> None:
    driver, vbios, _switch = rims_of(device_testbed)
    none = device_testbed.verify(device_testbed.evidence(), collateral=with_rims(device_testbed))
    assert none.rims_missing == (driver.id, vbios.id)
    assert none.rims == ()
    one = device_testbed.verify(
        device_testbed.evidence(), collateral=with_rims(device_testbed, driver)
    )
    assert [rim.id for rim in one.rims] == [driver.id]
    assert one.rims_missing == (vbios.id,)


def test_an_update_without_its_reference_values(device_testbed: NvidiaTestbed) -> None:
    claims = device_testbed.verify(device_testbed.evidence(driver_version="595.1"))
    assert claims.rims_missing == ("NV_GPU_DRIVER_GH100_595.1",)


def test_reference_values_that_do_not_fit(device_testbed: NvidiaTestbed) -> None:
    driver, vbios, _switch = rims_of(device_testbed)
    overlap = (*vbios.measurements, (DRIVER_INDICES[-1], driver.measurements[-1][1]))
    for wrong in (
        replace(driver, version="590.13"),
        replace(driver, kind=vbios.kind),
        replace(driver, product="GB100"),
        replace(driver, measurements=((60, (b"\x01" * 48,)),)),
        replace(driver, measurements=((200, (bytes(48),)),)),
    ):
        collateral = with_rims(device_testbed, wrong, vbios)
        evidence = device_testbed.evidence()
        refused("RIM_MISMATCH", device_testbed.verify, evidence=evidence, collateral=collateral)
    collateral = with_rims(device_testbed, driver, replace(vbios, measurements=overlap))
    evidence = device_testbed.evidence()
    what = refused("RIM_MISMATCH", device_testbed.verify, evidence=evidence, collateral=collateral)
    assert "both claim indices [41]" in what


def test_one_of_several_alternatives_is_enough(device_testbed: NvidiaTestbed) -> None:
    driver, vbios, _switch = rims_of(device_testbed)
    more = tuple((index, (b"\x01" * 48, *values)) for index, values in driver.measurements)
    collateral = with_rims(device_testbed, replace(driver, measurements=more), vbios)
    assert len(device_testbed.verify(device_testbed.evidence(), collateral=collateral).rims) == 2


def test_genuine_reference_values_are_not_for_simulated_devices(
    device_testbed: NvidiaTestbed,
) -> None:
    """Nor the reverse: whose root signed them decides for whom they speak."""
    genuine = [replace(rim, hardware=Hardware.GENUINE) for rim in rims_of(device_testbed)]
    claims = device_testbed.verify(
        device_testbed.evidence(), collateral=with_rims(device_testbed, *genuine)
    )
    assert claims.rims == ()
    assert len(claims.rims_missing) == 2


def test_two_rims_of_one_name_are_refused(device_testbed: NvidiaTestbed) -> None:
    driver, _vbios, _switch = rims_of(device_testbed)
    prepare(with_rims(device_testbed, driver, driver))
    other = replace(driver, measurements=driver.measurements[:1])
    refused("MALFORMED", prepare, collateral=with_rims(device_testbed, driver, other))


# Revocation.


def denying(testbed: NvidiaTestbed, *keys: bytes, days: int = 0) -> NvidiaCollateral:
    since = testbed.now + timedelta(days=days)
    fingerprints = sorted((KeyFingerprint.of(key) for key in keys), key=str)
    denials = KeyDenials(since, since + YEAR, tuple(fingerprints))
    return replace(testbed.machine.collateral(), denials=(denials.encode(),))


def test_a_denied_key_is_refused_whatever_the_dates(device_testbed: NvidiaTestbed) -> None:
    keys = device_testbed.machine.authority.keys
    gpu = device_testbed.gpu
    for key in (gpu.leaf_key, gpu.key, keys.provisioner, keys.identity, keys.root):
        for days in (0, -1000, 1000):
            collateral = denying(device_testbed, spki(key.public_key()), days=days)
            for rule in (REQUIRED, ANY):
                refused(
                    "CERT_REVOKED",
                    device_testbed.verify,
                    evidence=device_testbed.evidence(),
                    collateral=collateral,
                    rule=rule,
                )
    other = spki(device_testbed.machine.gpus[1].key.public_key())
    spared = device_testbed.verify(
        device_testbed.evidence(), collateral=denying(device_testbed, other)
    )
    assert spared.revocation is Revocation.CHECKED


@pytest.mark.parametrize("days", [-366, 1])
def test_denials_out_of_date(device_testbed: NvidiaTestbed, days: int) -> None:
    collateral = denying(device_testbed, days=days)
    evidence = device_testbed.evidence()
    refused("CRL_STALE", device_testbed.verify, evidence=evidence, collateral=collateral)
    claims = device_testbed.verify(evidence, collateral=collateral, rule=ANY)
    assert claims.revocation is Revocation.UNKNOWN
    grace = replace(REQUIRED, grace=timedelta(days=2))
    if days < 0:
        claims = device_testbed.verify(evidence, collateral=collateral, rule=grace)
        assert claims.revocation is Revocation.GRACE
    else:  # a list from the future is no list
        refused(
            "CRL_STALE", device_testbed.verify, evidence=evidence, collateral=collateral, rule=grace
        )


# The caller's mistakes, and the check log.


def test_callers_mistakes(device_testbed: NvidiaTestbed) -> None:
    with pytest.raises(ValueError, match="nonce"):
        device_testbed.verify(device_testbed.evidence(), nonce=NONCE[:-1])
    with pytest.raises(ValueError, match="time zone"):
        device_testbed.verify(
            device_testbed.evidence(), now=device_testbed.now.replace(tzinfo=None)
        )
    for made in (TrustedChain, NvidiaAnchors):
        with pytest.raises(TypeError, match=r"comes from|production"):
            made(*[object()] * len(made.__match_args__))


def test_the_trail_names_every_check(device_testbed: NvidiaTestbed) -> None:
    check_log = CheckLog()
    arguments: dict[str, Any] = {
        "anchors": device_testbed.machine.anchors(),
        "collateral": prepare(device_testbed.machine.collateral()),
    }
    at = AppraisalContext(
        now=device_testbed.now, rule=REQUIRED, cache=device_testbed.cache, check_log=check_log
    )
    evidence = device_testbed.evidence()
    verify_fresh(GPU, evidence, report_data=NONCE, at=at, **arguments)
    names = [
        "report", "chain", "model", "revocation", "fwid", "signature", "rim", "nonce",
    ]  # fmt: skip
    steps = check_log.steps()
    assert [step.check.name for step in steps] == [f"nvidia/{name}" for name in names]
    assert all(step.passed for step in steps)
    told = {step.check.name: (step.seen, step.wanted) for step in steps}
    assert told["nvidia/revocation"] == ("checked", "required")
    assert told["nvidia/fwid"][0] == told["nvidia/fwid"][1] != ""
    driver, vbios = "NV_GPU_DRIVER_GH100_590.12", "NV_GPU_VBIOS_G520_0200_885_9600A50001"
    assert told["nvidia/rim"] == (f"{driver}, {vbios}", "a match")
    check_log = CheckLog()
    old = parse(device_testbed.evidence(old_opaque=True))
    verify_genuine(old, at=replace(at, check_log=check_log), **arguments)
    (fwid,) = (step for step in check_log.steps() if step.check.name == "nvidia/fwid")
    assert (fwid.seen, fwid.outcome) == ("the report repeats no FWID", Outcome.OPEN)
    rims = device_testbed.machine.collateral().rims
    for given, seen, wanted in (((), UNKNOWN, f"{driver}, {vbios}"), (rims[:1], driver, vbios)):
        check_log = CheckLog()
        partly = prepare(replace(device_testbed.machine.collateral(), rims=given))
        verify_genuine(
            parse(evidence),
            at=replace(at, check_log=check_log),
            **{**arguments, "collateral": partly},
        )
        step = check_log.steps()[-1]
        assert (step.seen, step.wanted, step.outcome) == (seen, wanted, Outcome.OPEN)
    check_log = CheckLog()
    at = replace(at, check_log=check_log)
    with pytest.raises(RegaliaError) as caught:
        verify_genuine(parse(device_testbed.evidence(bad_signature=True)), at=at, **arguments)
    last = check_log.failed(caught.value)[-1]
    assert (last.check.name, last.code) == ("nvidia/signature", "SIGNATURE_INVALID")
