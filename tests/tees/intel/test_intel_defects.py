"""One simulated defect for each check of docs/spec/tdx-appraisal.md, and the code it deserves.

Each quote is right but for its one defect; where the defect lies in signed bytes, it is signed.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

import pytest

from regalia.appraisal.appraisal_context import AppraisalContext
from regalia.appraisal.check_log import CheckLog
from regalia.appraisal.claims import Hardware, Revocation
from regalia.appraisal.config_binding import expected_slot
from regalia.appraisal.pki import Cache
from regalia.core.errors import AttestationError, ParseError, RegaliaError
from regalia.core.types import Digest
from regalia.tees.intel.claims import SgxClaims, TdxClaims
from regalia.tees.intel.evidence import (
    IntelAnchors,
    PreparedCollateral,
    parse,
    prepare,
    verify_tdx,
)
from regalia.tees.intel.evidence.attestation_key import CertifiedKey
from regalia.tees.intel.evidence.bodies import TdReport
from regalia.tees.intel.evidence.chain import PckPath
from regalia.tees.intel.evidence.plugin import TDX
from regalia.tees.intel.evidence.wire import parse_quote
from regalia.wire.evidence import Tee
from regalia_testing.tees.intel.documents import EVALUATION_DATA_NUMBER, FMSPC
from regalia_testing.tees.intel.quotes import Workload
from regalia_testing.testbed import MEASUREMENT, REPORT_DATA, REQUIRED, RUNTIME_CONFIG
from regalia_testing.verify import verify_fresh

if TYPE_CHECKING:
    from regalia_testing.tees.intel.testbed import IntelTestbed

BOTH = [Tee.TDX, Tee.SGX]


def code_of(testbed: IntelTestbed, tee: Tee, **defects: object) -> str:
    with pytest.raises(RegaliaError) as refusal:
        testbed.verify(testbed.evidence(tee, **defects))
    assert isinstance(refusal.value, ParseError | AttestationError)
    assert refusal.value.what
    return refusal.value.code.name


@pytest.mark.parametrize(("version", "body_type"), [(4, 2), (5, 2), (5, 3), (5, 4)])
def test_healthy_td(testbed: IntelTestbed, version: int, body_type: int) -> None:
    evidence = testbed.evidence(version=version, body_type=body_type)
    claims = testbed.verify(evidence)
    assert isinstance(claims, TdxClaims)
    assert claims.hardware is Hardware.SIMULATED
    assert claims.revocation is Revocation.CHECKED
    assert claims.tee is Tee.TDX
    assert claims.quote_version == version
    assert claims.report_data == REPORT_DATA
    assert claims.measurement == claims.mr_td == MEASUREMENT
    assert claims.config_binding == expected_slot(Tee.TDX, RUNTIME_CONFIG)
    assert claims.instance == claims.ppid == testbed.platform.ppid
    assert claims.platform_instance_id == testbed.platform.platform_instance_id
    assert claims.evidence_digest == evidence.digest()
    assert (claims.tcb_status, claims.qe_status, claims.module_status) == ("UpToDate",) * 3
    assert claims.advisory_ids == ()
    assert claims.tcb_evaluation_data_number == EVALUATION_DATA_NUMBER
    assert claims.fmspc == FMSPC
    assert claims.collateral_issued < testbed.now < claims.collateral_next_update
    assert (claims.dynamic_platform, claims.cached_keys, claims.smt) == (False, False, True)
    assert not claims.debug
    assert not claims.migratable
    assert bool(claims.guest) == (body_type == 4)
    assert (claims.mr_service_td is None) == (claims.tee_tcb_svn_2 is None) == (body_type == 2)
    assert claims.event_log is not None
    assert claims.event_log.events > 10
    assert claims.devices == ()


@pytest.mark.parametrize("kind", ["multi-package", "single-package"])
def test_healthy_enclave(testbed: IntelTestbed, kind: str) -> None:
    processor = kind == "single-package"
    claims = testbed.verify(testbed.evidence(Tee.SGX, processor_ca=processor))
    assert isinstance(claims, SgxClaims)
    assert claims.tee is Tee.SGX
    assert claims.measurement == MEASUREMENT[:32]
    assert claims.config_binding == hashlib.sha512(RUNTIME_CONFIG).digest()
    assert (claims.isv_prod_id, claims.isv_svn) == (7, 3)
    assert not claims.debug
    assert not claims.migratable
    assert claims.guest == b""
    assert (claims.platform_instance_id is None) == (claims.smt is None) == processor
    assert claims.tcb == {
        "status": "UpToDate",
        "cpu_svn": claims.cpu_svn.hex(),
        "pce_svn": 13,
        "evaluation_data_number": EVALUATION_DATA_NUMBER,
    }


COMMON = [
    ("trailing_byte", True, "TRAILING_DATA"),
    ("truncated", True, "MALFORMED"),
    ("key_type", 3, "UNSUPPORTED_VERSION"),
    ("vendor", False, "UNSUPPORTED_VERSION"),
    ("certification_type", 4, "UNSUPPORTED_VERSION"),
    ("attributes_reserved", True, "RESERVED_BIT_SET"),
    ("qe_attributes_reserved", True, "RESERVED_BIT_SET"),
    ("pck_expired", True, "CERT_EXPIRED"),
    ("other_fmspc", True, "LEAF_BINDING_MISMATCH"),
    ("other_pce_id", True, "LEAF_BINDING_MISMATCH"),
    ("bad_qe_signature", True, "SIGNATURE_INVALID"),
    ("other_attestation_key", True, "QE_BINDING_MISMATCH"),
    ("qe_report_data_tail", True, "QE_BINDING_MISMATCH"),
    ("qe_debug", True, "QE_IDENTITY_MISMATCH"),
    ("qe_signer", False, "QE_IDENTITY_MISMATCH"),
    ("qe_prod_id", 9, "QE_IDENTITY_MISMATCH"),
    ("qe_misc_select", 1, "QE_IDENTITY_MISMATCH"),
    ("qe", "below", "TCB_NO_MATCH"),
    ("qe", "Revoked", "TCB_REVOKED"),
    ("bad_signature", True, "SIGNATURE_INVALID"),
    ("level", "below", "TCB_NO_MATCH"),
    ("level", "Revoked", "TCB_REVOKED"),
    ("low_pce_svn", True, "TCB_NO_MATCH"),
    ("stale_nonce", True, "NONCE_MISMATCH"),
    ("zero_report_data", True, "NONCE_MISMATCH"),
]


@pytest.mark.parametrize("tee", BOTH)
@pytest.mark.parametrize(("field", "value", "code"), COMMON)
def test_what_tdx_and_sgx_share(
    testbed: IntelTestbed, tee: Tee, field: str, value: object, code: str
) -> None:
    assert code_of(testbed, tee, **{field: value}) == code


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("version", 3, "UNSUPPORTED_VERSION"),
        ("xfam_reserved", True, "RESERVED_BIT_SET"),
        ("module_version", 2, "TDX_MODULE_MISMATCH"),
        ("module_signer", False, "TDX_MODULE_MISMATCH"),
        ("module_attributes", 1, "TDX_MODULE_MISMATCH"),
        ("module_attributes", 1 << 63, "TDX_MODULE_MISMATCH"),
        ("module", "below", "TCB_NO_MATCH"),
        ("module", "Revoked", "TCB_REVOKED"),
        ("low_tdx_svn", True, "TCB_NO_MATCH"),
        ("wrong_event_log", True, "EVENTLOG_MISMATCH"),
    ],
)
def test_what_only_tdx_has(testbed: IntelTestbed, field: str, value: object, code: str) -> None:
    assert code_of(testbed, Tee.TDX, **{field: value}) == code


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("not_initialized", True, "RESERVED_BIT_SET"),
        ("version", 4, "UNSUPPORTED_VERSION"),
        ("version", 5, "UNSUPPORTED_VERSION"),
    ],
)
def test_what_only_sgx_has(testbed: IntelTestbed, field: str, value: object, code: str) -> None:
    assert code_of(testbed, Tee.SGX, **{field: value}) == code


def test_module_of_version_0_is_judged_by_the_platform_level(testbed: IntelTestbed) -> None:
    claims = testbed.verify(testbed.evidence(module_version=0))
    assert isinstance(claims, TdxClaims)
    assert claims.module_status is None
    assert code_of(testbed, Tee.TDX, module_version=0, module="below") == "TCB_NO_MATCH"
    assert code_of(testbed, Tee.TDX, module_version=0, module_signer=False) == "TDX_MODULE_MISMATCH"


def test_states_that_are_genuine_and_visible(testbed: IntelTestbed) -> None:
    assert testbed.verify(testbed.evidence(debug=True)).debug
    assert testbed.verify(testbed.evidence(profiling=True)).debug
    assert testbed.verify(testbed.evidence(migratable=True)).migratable
    assert testbed.verify(testbed.evidence(Tee.SGX, debug=True)).debug
    td = testbed.verify(
        testbed.evidence(service_td=True, wrong_measurement=True, wrong_config=True)
    )
    assert isinstance(td, TdxClaims)
    assert any(td.mr_service_td or b"")
    assert td.mr_td != MEASUREMENT
    assert td.mr_config_id != expected_slot(Tee.TDX, RUNTIME_CONFIG)


def test_the_kind_of_tee_is_the_quotes_own(testbed: IntelTestbed) -> None:
    for tee, other in ((Tee.TDX, Tee.SGX), (Tee.SGX, Tee.TDX)):
        with pytest.raises(ParseError) as refusal:
            testbed.verify(replace(testbed.evidence(tee), tee=other))
        assert refusal.value.code.name == "MALFORMED"


def test_an_event_log_that_came_along_counts_only_whole(testbed: IntelTestbed) -> None:
    evidence = testbed.evidence()
    without = testbed.verify(replace(evidence, event_log=b""))
    assert isinstance(without, TdxClaims)
    assert without.event_log is None
    for log in (b"\x00", evidence.event_log[:-100]):
        with pytest.raises(RegaliaError):
            testbed.verify(replace(evidence, event_log=log))
    with pytest.raises(ParseError):
        testbed.verify(replace(testbed.evidence(Tee.SGX), event_log=evidence.event_log))


def test_a_log_that_held_before_counts_for_its_own_registers_only(testbed: IntelTestbed) -> None:
    """The verifier remembers what followed from a log: for the registers that it led to."""
    evidence = testbed.evidence()
    claims = testbed.verify(evidence)
    assert testbed.verify(evidence) == claims
    td = parse_quote(evidence.report).body
    assert isinstance(td, TdReport)
    slot = expected_slot(Tee.TDX, RUNTIME_CONFIG)
    for changed in range(4):
        rtmrs = [td.rtmr0, td.rtmr1, td.rtmr2, td.rtmr3]
        rtmrs[changed] = b"\x01" * 48
        booted = Workload(REPORT_DATA, MEASUREMENT, slot, tuple(rtmrs))  # type: ignore[arg-type] # there are four
        quote = testbed.platform.td_quote(booted)
        with pytest.raises(AttestationError, match="EVENTLOG_MISMATCH"):
            testbed.verify(replace(evidence, report=quote))


@pytest.mark.parametrize("tee", BOTH)
def test_claims_name_the_evidence_and_the_quote_names_itself(
    testbed: IntelTestbed, tee: Tee
) -> None:
    evidence = testbed.evidence(tee)
    padded = replace(evidence, report=evidence.report + bytes(70))
    assert testbed.verify(padded).evidence_digest == padded.digest() != evidence.digest()
    quote, other = parse_quote(evidence.report), parse_quote(testbed.evidence(tee).report)
    assert quote.signed_digest == Digest.of(quote.signed)
    assert parse_quote(padded.report).signed_digest == quote.signed_digest
    altered = bytearray(evidence.report)
    altered[len(quote.signed) - 1] ^= 1  # of the report data
    assert parse_quote(bytes(altered)).signed_digest != quote.signed_digest
    assert other.signed_digest == quote.signed_digest  # of the same platform, over the same


@pytest.mark.parametrize("tee", BOTH)
def test_report_data(testbed: IntelTestbed, tee: Tee) -> None:
    for size in (0, 32, 63, 65):
        with pytest.raises(ValueError, match="64"):
            testbed.verify(testbed.evidence(tee), report_data=b"x" * size)
    with pytest.raises(AttestationError) as refusal:
        testbed.verify(testbed.evidence(tee, zero_report_data=True), report_data=bytes(64))
    assert refusal.value.code.name == "NONCE_WELL_KNOWN"
    for position in (0, 31, 63):
        other = bytearray(REPORT_DATA)
        other[position] ^= 1
        with pytest.raises(AttestationError) as refusal:
            testbed.verify(testbed.evidence(tee), report_data=bytes(other))
        assert refusal.value.code.name == "NONCE_MISMATCH"


def test_bugs_of_the_caller(testbed: IntelTestbed) -> None:
    evidence = testbed.evidence()
    with pytest.raises(ValueError, match="time zone"):
        testbed.verify(evidence, now=datetime(2026, 11, 22))  # noqa: DTZ001 - the defect
    cache = Cache()
    collateral = prepare(testbed.raw(), anchors=testbed.platform.anchors(), cache=cache)
    at = AppraisalContext(now=testbed.now, rule=REQUIRED, cache=cache)
    with pytest.raises(ValueError, match="other anchors"):
        verify_tdx(
            parse(evidence),
            anchors=IntelAnchors.production(),
            collateral=collateral,
            at=at,
        )
    with pytest.raises(TypeError, match="report_data"):
        verify_fresh(
            TDX,  # type: ignore[call-arg]  # the defect
            evidence,
            anchors=testbed.platform.anchors(),
            collateral=collateral,
            at=at,
        )


def test_trusted_types_come_from_the_verifier_only(testbed: IntelTestbed) -> None:
    for make in (
        lambda: IntelAnchors(Hardware.GENUINE, b"", object()),
        lambda: PckPath(*(object() for _ in range(8))),  # type: ignore[arg-type]
        lambda: CertifiedKey(*(object() for _ in range(4))),  # type: ignore[arg-type]
        lambda: PreparedCollateral(*(object() for _ in range(5))),  # type: ignore[arg-type]
    ):
        with pytest.raises(TypeError, match=r"comes from|production"):
            make()
    for value in (testbed.platform.anchors(), testbed.verify(testbed.evidence())):
        with pytest.raises(ValueError, match="mint"):
            replace(value, hardware=Hardware.GENUINE)


def test_simulated_evidence_never_passes_as_genuine(testbed: IntelTestbed) -> None:
    with pytest.raises(AttestationError) as refusal:
        testbed.verify(testbed.evidence(), anchors=IntelAnchors.production())
    assert refusal.value.code.name == "ROOT_UNTRUSTED"


def test_a_trail_names_the_check_that_failed(testbed: IntelTestbed) -> None:
    check_log = CheckLog()
    testbed.verify(testbed.evidence(), check_log=check_log)
    names = [step.check.name for step in check_log.steps()]
    assert len(names) == len(set(names)) == 14
    assert all(step.passed for step in check_log.steps())
    told = {step.check.name: (step.seen, step.wanted) for step in check_log.steps()}
    assert told["intel/dates"] == (
        "2026-11-22T12:00:00Z",
        "2026-11-22T11:00:00Z to 2033-11-20T11:00:00Z",
    )
    assert told["intel/tcb-info"] == ("FMSPC 00ffee000000, PCEID 0000", "in date")
    assert told["intel/qe-identity-document"] == ("TD_QE", "in date")
    assert told["intel/revocation"] == ("checked", "checked")
    assert told["intel/tcb-level"] == ("UpToDate", "a level not revoked")
    assert told["tdx/event-log"] == ("30 measured events", "RTMR0 to RTMR3")
    check_log = CheckLog()
    with pytest.raises(AttestationError) as refusal:
        testbed.verify(testbed.evidence(qe_signer=False), check_log=check_log)
    steps = check_log.failed(refusal.value)
    assert [step.check.name for step in steps] == names[:9]
    assert steps[-1].code == "QE_IDENTITY_MISMATCH"
    assert steps[-1].seen != steps[-1].wanted
