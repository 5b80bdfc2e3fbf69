"""One simulated defect for each check of docs/spec/snp-appraisal.md, and the code it deserves.

Each report is right but for its one defect; where the defect lies in signed bytes, it is signed.
"""

from __future__ import annotations

import ast
import socket
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import regalia
from regalia.appraisal.appraisal_context import AppraisalContext
from regalia.appraisal.claims import Hardware, Revocation, Unbound
from regalia.appraisal.pki import Cache
from regalia.core.bits import bit
from regalia.core.errors import AttestationError, ParseError
from regalia.tees.snp.claims import Tcb
from regalia.tees.snp.evidence import SnpAnchors, parse, verify_genuine
from regalia.tees.snp.evidence.plugin import SNP
from regalia.tees.snp.evidence.verify import NONCE
from regalia.tees.snp.evidence.wire import VERSIONS
from regalia.tees.snp.names import GuestPolicyBit, PlatformInfoBit
from regalia_testing.tees.snp.testbed import refused
from regalia_testing.testbed import MEASUREMENT, REPORT_DATA, REQUIRED
from regalia_testing.verify import verify_fresh

if TYPE_CHECKING:
    from collections.abc import Callable

    from regalia_testing.tees.snp.testbed import SnpTestbed

PRODUCTS = ["Milan", "Genoa", "Turin"]


@pytest.mark.parametrize("product", PRODUCTS)
@pytest.mark.parametrize("signing_key", ["vcek", "vlek"])
def test_healthy_platform_gives_claims(
    testbed_of: Callable[[str], SnpTestbed], product: str, signing_key: str
) -> None:
    testbed = testbed_of(product)
    evidence = testbed.evidence(signing_key=signing_key)
    claims = testbed.verify(evidence)
    assert claims.hardware is Hardware.SIMULATED
    assert claims.revocation is Revocation.CHECKED
    assert claims.product == product
    assert claims.signing_key == signing_key
    assert (claims.csp_id is None) == (signing_key == "vcek")
    assert any(claims.chip_id) == (signing_key == "vcek")
    assert claims.measurement == MEASUREMENT
    assert claims.report_data == REPORT_DATA
    assert claims.evidence_digest == evidence.digest()
    assert claims.current_tcb == claims.reported_tcb == claims.committed_tcb == claims.launch_tcb
    assert (claims.reported_tcb.fmc > 0) == (product == "Turin")
    assert bit(claims.platform_info, PlatformInfoBit.ALIAS_CHECK_COMPLETE)
    assert not bit(claims.policy, GuestPolicyBit.DEBUG)


@pytest.mark.parametrize("product", PRODUCTS)
@pytest.mark.parametrize("version", VERSIONS)
def test_every_known_version_on_every_product(
    testbed_of: Callable[[str], SnpTestbed], product: str, version: int
) -> None:
    testbed = testbed_of(product)
    claims = testbed.verify(testbed.evidence(report_version=version))
    assert claims.report_version == version
    assert claims.current_mit_vector == (0x3F if version == 5 else 0)


MALFORMED = [
    ("truncated", True, "MALFORMED"),
    ("trailing_byte", True, "TRAILING_DATA"),
    ("report_version", 1, "UNSUPPORTED_VERSION"),
    ("report_version", 6, "UNSUPPORTED_VERSION"),
    ("signature_algo", 0, "MALFORMED"),
    ("signature_algo", 2, "MALFORMED"),
    ("policy_reserved_bit", True, "RESERVED_BIT_SET"),
    ("policy_bit_17_clear", True, "RESERVED_BIT_SET"),
    ("key_info_reserved_bit", True, "RESERVED_BIT_SET"),
    ("reserved_byte", 0x04C, "RESERVED_BIT_SET"),
    ("reserved_byte", 0x04F, "RESERVED_BIT_SET"),
    ("reserved_byte", 0x18B, "RESERVED_BIT_SET"),
    ("reserved_byte", 0x19F, "RESERVED_BIT_SET"),
    ("reserved_byte", 0x1EB, "RESERVED_BIT_SET"),
    ("reserved_byte", 0x1EF, "RESERVED_BIT_SET"),
    ("reserved_byte", 0x1F8, "RESERVED_BIT_SET"),  # LAUNCH_MIT_VECTOR comes with version 5
    ("reserved_byte", 0x207, "RESERVED_BIT_SET"),
    ("reserved_byte", 0x208, "RESERVED_BIT_SET"),
    ("reserved_byte", 0x29F, "RESERVED_BIT_SET"),
    ("reserved_byte", 0x330, "RESERVED_BIT_SET"),  # unsigned: behind the signature
    ("reserved_byte", 0x49F, "RESERVED_BIT_SET"),
    ("reserved_tcb_byte", True, "RESERVED_BIT_SET"),
    ("wide_signature", True, "MALFORMED"),
]


@pytest.mark.parametrize("version", [2, 3, 4])
@pytest.mark.parametrize("offset", [0x1F8, 0x207])
def test_1_mitigation_vectors_are_reserved_before_version_5(
    testbed: SnpTestbed, version: int, offset: int
) -> None:
    evidence = testbed.evidence(report_version=version, reserved_byte=offset)
    refused("RESERVED_BIT_SET", testbed.verify, evidence=evidence)


def test_1_the_version_is_asked_before_the_size(testbed: SnpTestbed) -> None:
    """A later version may be longer, and is not called this one with bytes behind it."""
    evidence = testbed.evidence(report_version=6)
    longer = replace(evidence, report=evidence.report + bytes(64))
    said = refused("UNSUPPORTED_VERSION", testbed.verify, evidence=longer)
    assert said == "SNP report: VERSION 6; the newest known here is 5 (known: 2, 3, 4, 5)"


@pytest.mark.parametrize(("field", "value", "code"), MALFORMED)
def test_1_malformed_reports(testbed: SnpTestbed, field: str, value: object, code: str) -> None:
    with pytest.raises(ParseError) as refusal:
        testbed.verify(testbed.evidence(**{field: value}))
    assert refusal.value.code.name == code


def test_1_cpuid_before_version_3_is_reserved(testbed: SnpTestbed) -> None:
    with pytest.raises(ParseError) as refusal:
        testbed.verify(testbed.evidence(report_version=2, reserved_byte=0x188))
    assert refusal.value.code.name == "RESERVED_BIT_SET"


NOT_GENUINE = [
    ("signing_key", "none", "ROOT_UNTRUSTED"),
    ("leaf_kind_mismatch", True, "CHAIN_INVALID"),
    ("no_endorsements", True, "COLLATERAL_MISSING"),
    ("leaf_expired", True, "CERT_EXPIRED"),
    ("cpuid_mismatch", True, "LEAF_BINDING_MISMATCH"),
    ("mask_chip_key", True, "LEAF_BINDING_MISMATCH"),
    ("mask_chip_id", True, "LEAF_BINDING_MISMATCH"),
    ("leaf_tcb_mismatch", True, "LEAF_BINDING_MISMATCH"),
    ("leaf_hwid_mismatch", True, "LEAF_BINDING_MISMATCH"),
    ("bad_signature", True, "SIGNATURE_INVALID"),
    ("stale_nonce", True, "NONCE_MISMATCH"),
    ("zero_report_data", True, "NONCE_MISMATCH"),
]


@pytest.mark.parametrize("product", PRODUCTS)
@pytest.mark.parametrize(("field", "value", "code"), NOT_GENUINE)
def test_2_to_7_evidence_that_is_not_genuine_or_not_fresh(
    testbed_of: Callable[[str], SnpTestbed], product: str, field: str, value: object, code: str
) -> None:
    testbed = testbed_of(product)
    with pytest.raises(AttestationError) as refusal:
        testbed.verify(testbed.evidence(**{field: value}))
    assert refusal.value.code.name == code
    assert refusal.value.what


@pytest.mark.parametrize("value", range(2, 8))
def test_2_reserved_signing_keys(testbed: SnpTestbed, value: int) -> None:
    evidence = testbed.evidence()
    raw = bytearray(evidence.report)
    raw[0x048] = value << 2
    with pytest.raises(AttestationError) as refusal:
        testbed.verify(replace(evidence, report=bytes(raw)))
    assert refusal.value.code.name == "ROOT_UNTRUSTED"


@pytest.mark.parametrize(("kind", "other"), [("vcek", "vlek"), ("vlek", "vcek")])
def test_2_a_chain_of_the_other_kind_vouches_for_nothing(
    testbed: SnpTestbed, kind: str, other: str
) -> None:
    evidence = testbed.evidence(signing_key=kind)
    chain = testbed.evidence(signing_key=other).endorsements
    with pytest.raises(AttestationError) as refusal:
        testbed.verify(replace(evidence, endorsements=chain))
    assert refusal.value.code.name == "CHAIN_INVALID"


@pytest.mark.parametrize(
    ("field", "index"), [("debug", GuestPolicyBit.DEBUG), ("migrate", GuestPolicyBit.MIGRATE_MA)]
)
def test_debug_and_migration_are_genuine_and_visible(
    testbed: SnpTestbed, field: str, index: GuestPolicyBit
) -> None:
    assert bit(testbed.verify(testbed.evidence(**{field: True})).policy, index)


def test_provisional_firmware_is_genuine_and_visible(testbed: SnpTestbed) -> None:
    claims = testbed.verify(testbed.evidence(provisional_firmware=True))
    assert claims.current_tcb.microcode == claims.committed_tcb.microcode + 1
    assert claims.current_firmware.build == claims.committed_firmware.build + 1


def test_other_states_are_genuine_and_visible(testbed: SnpTestbed) -> None:
    healthy = testbed.verify(testbed.evidence())
    old = testbed.verify(testbed.evidence(old_tcb=True))
    assert old.reported_tcb == Tcb(fmc=0, bootloader=7, tee=0, snp=0x0E, microcode=0x48)
    assert testbed.verify(testbed.evidence(old_launch_tcb=True)).launch_tcb == old.launch_tcb
    assert testbed.verify(testbed.evidence(vmpl=2)).vmpl == 2
    assert testbed.verify(testbed.evidence(guest_svn=7)).guest_svn == 7
    assert testbed.verify(testbed.evidence(wrong_measurement=True)).measurement != MEASUREMENT
    assert testbed.verify(testbed.evidence(wrong_host_data=True)).host_data != healthy.host_data
    flags = testbed.verify(testbed.evidence(missing_alias_check=True)).platform_info
    assert not bit(flags, PlatformInfoBit.ALIAS_CHECK_COMPLETE)
    assert bit(flags, PlatformInfoBit.ECC_EN)
    flags = testbed.verify(testbed.evidence(missing_ecc=True)).platform_info
    assert not bit(flags, PlatformInfoBit.ECC_EN)


def test_7_expected_report_data_is_exactly_64_bytes(testbed: SnpTestbed) -> None:
    for size in (0, 32, 63, 65):
        with pytest.raises(ValueError, match="64"):
            testbed.verify(testbed.evidence(), report_data=b"x" * size)


def test_7_zero_is_never_expected(testbed: SnpTestbed) -> None:
    with pytest.raises(AttestationError) as refusal:
        testbed.verify(testbed.evidence(zero_report_data=True), report_data=bytes(64))
    assert refusal.value.code.name == "NONCE_WELL_KNOWN"


@pytest.mark.parametrize("position", [0, 31, 63])
def test_7_all_64_bytes_are_compared(testbed: SnpTestbed, position: int) -> None:
    other = bytearray(REPORT_DATA)
    other[position] ^= 1
    with pytest.raises(AttestationError) as refusal:
        testbed.verify(testbed.evidence(), report_data=bytes(other))
    assert refusal.value.code.name == "NONCE_MISMATCH"


def test_a_naive_clock_is_a_bug_of_the_caller(testbed: SnpTestbed) -> None:
    with pytest.raises(ValueError, match="time zone"):
        testbed.verify(testbed.evidence(), now=datetime(2026, 11, 22))  # noqa: DTZ001 - the defect


def test_report_data_is_a_required_argument(testbed: SnpTestbed) -> None:
    with pytest.raises(TypeError, match="report_data"):
        verify_fresh(
            SNP,
            testbed.evidence(),
            anchors=testbed.platform.anchors(),
            collateral=testbed.platform.collateral(),
            at=AppraisalContext(now=testbed.now, rule=REQUIRED, cache=Cache()),
        )


@pytest.mark.parametrize(
    ("field", "seen"), [("mask_chip_id", "masked (zero)"), ("leaf_hwid_mismatch", "...")]
)
def test_5_a_masked_chip_is_called_so(testbed: SnpTestbed, field: str, seen: str) -> None:
    with pytest.raises(AttestationError) as refusal:
        testbed.verify(testbed.evidence(**{field: True}))
    said = refusal.value.what.partition(", the leaf")[0]
    assert said.startswith("CHIP_ID is ")
    assert said.endswith(seen)


def test_trusted_types_come_from_the_verifier_only(testbed: SnpTestbed) -> None:
    genuine = verify_genuine(
        parse(testbed.evidence()),
        anchors=testbed.platform.anchors(),
        collateral=testbed.platform.collateral(),
        at=AppraisalContext(now=testbed.now, rule=REQUIRED, cache=Cache()),
    )
    claims = testbed.verify(testbed.evidence())
    for make in (
        lambda: Unbound(claims, b"", NONCE, object()),
        lambda: SnpAnchors(Hardware.GENUINE, (), object()),
    ):
        with pytest.raises(TypeError, match=r"comes? from|production"):
            make()
    for value, change in (
        (genuine, {"bound_to": b""}),
        (testbed.platform.anchors(), {"hardware": Hardware.GENUINE}),
        (claims, {"hardware": Hardware.GENUINE}),
    ):
        with pytest.raises(ValueError, match="mint"):
            replace(value, **change)


def test_simulated_evidence_never_passes_as_genuine(testbed: SnpTestbed) -> None:
    with pytest.raises(AttestationError) as refusal:
        testbed.verify(testbed.evidence(), anchors=SnpAnchors.production())
    assert refusal.value.code.name == "ROOT_UNTRUSTED"


def test_appraisal_needs_no_network(testbed: SnpTestbed, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        pytest.fail("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert testbed.verify(testbed.evidence()).report_data == REPORT_DATA


def test_attest_reads_no_clock() -> None:
    """The only time that appraisal knows is its argument."""
    source = Path(regalia.__file__).parent
    halves = [source / "appraisal", source / "verifier", *(source / "tees").glob("*/evidence")]
    for path in (path for half in halves for path in half.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                assert node.func.attr not in {"now", "utcnow", "today", "time", "monotonic"}, path
            if isinstance(node, ast.ImportFrom | ast.Import):
                names = {alias.name for alias in node.names}
                assert not names & {"time", "system_clock", "socket", "ssl"}, path
