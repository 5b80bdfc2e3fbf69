"""A verifier that knows a machine verifies less, and refuses the same."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from regalia.appraisal.appraisal_context import AppraisalContext
from regalia.appraisal.check_log import NO_LOG, CheckLog
from regalia.appraisal.claims import MINT
from regalia.appraisal.pki import Cache
from regalia.core.errors import RegaliaError
from regalia.tees.intel.evidence import prepare
from regalia.tees.intel.evidence.plugin import TDX
from regalia.tees.intel.evidence.wire import VERSION_SGX, parse_quote, split_quote
from regalia.wire.evidence import Tee
from regalia_testing.tees.intel.simulator import IntelSimulator
from regalia_testing.testbed import REPORT_DATA, REQUIRED
from regalia_testing.verify import verify_fresh

if TYPE_CHECKING:
    from regalia.tees.intel.claims import TdxClaims
    from regalia.tees.intel.evidence import IntelAnchors
    from regalia.wire.evidence import Evidence
    from regalia_testing.tees.intel.testbed import IntelTestbed

LONG_AFTER = datetime(2100, 1, 1, tzinfo=UTC)


def appraise(
    testbed: IntelTestbed,
    evidence: Evidence,
    cache: Cache,
    *,
    anchors: IntelAnchors | None = None,
    now: datetime | None = None,
    check_log: CheckLog = NO_LOG,
) -> TdxClaims:
    chosen = anchors or testbed.platform.anchors()
    return verify_fresh(
        TDX,
        evidence,
        anchors=chosen,
        collateral=prepare(testbed.raw(), anchors=chosen, cache=cache),
        report_data=REPORT_DATA,
        at=AppraisalContext(
            now=now or testbed.now, rule=REQUIRED, cache=cache, check_log=check_log
        ),
    )


def code_of(testbed: IntelTestbed, evidence: Evidence, cache: Cache, **changed: object) -> str:
    with pytest.raises(RegaliaError) as refusal:
        appraise(testbed, evidence, cache, **changed)  # type: ignore[arg-type]
    return refusal.value.code.name


@pytest.fixture
def warm(testbed: IntelTestbed) -> Cache:
    """A cache that has seen the healthy machine."""
    cache = Cache()
    appraise(testbed, testbed.evidence(), cache)
    return cache


def test_the_quoting_enclave_is_verified_once(
    testbed: IntelTestbed, warm: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    evidence = testbed.evidence(wrong_measurement=True)  # another quote of the same machine
    cold = appraise(testbed, evidence, Cache())
    for name in ("verify_pck", "require_raw_signature", "require_attestation_key"):
        monkeypatch.setattr(
            f"regalia.tees.intel.evidence.attestation_key.{name}",
            lambda *_, **__: pytest.fail("done before"),
        )
    again = appraise(testbed, evidence, warm)
    assert replace(again, mint=MINT) == cold


def test_a_trail_sees_every_check_made(testbed: IntelTestbed, warm: Cache) -> None:
    cold, known = CheckLog(), CheckLog()
    appraise(testbed, testbed.evidence(), Cache(), check_log=cold)
    appraise(testbed, testbed.evidence(), warm, check_log=known)
    assert [step.check for step in known.steps()] == [step.check for step in cold.steps()]


def test_a_trail_sees_every_check_each_time(testbed: IntelTestbed) -> None:
    cache, first, second = Cache(), CheckLog(), CheckLog()
    appraise(testbed, testbed.evidence(), cache, check_log=first)
    appraise(testbed, testbed.evidence(), cache, check_log=second)
    assert [step.check for step in second.steps()] == [step.check for step in first.steps()]


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("module", "Revoked", "TCB_REVOKED"),
        ("module_version", 2, "TDX_MODULE_MISMATCH"),
        ("module_signer", False, "TDX_MODULE_MISMATCH"),
        ("module_attributes", 1, "TDX_MODULE_MISMATCH"),
    ],
)
def test_a_known_machine_is_judged_anew_with_another_module(
    testbed: IntelTestbed, warm: Cache, field: str, value: object, code: str
) -> None:
    defect = testbed.evidence(**{field: value})
    # The machine itself is known: only the signed body differs from the healthy quote.
    assert split_quote(defect.report).certification == (
        split_quote(testbed.evidence().report).certification
    )
    assert code_of(testbed, defect, warm) == code


def test_a_module_that_was_updated_since_the_launch_is_judged_anew(testbed: IntelTestbed) -> None:
    cache = Cache()
    old = appraise(testbed, testbed.evidence(module="OutOfDate"), cache)
    updated = testbed.evidence(module="OutOfDate", module_updated=True)
    anew = appraise(testbed, updated, cache)
    assert replace(anew, mint=MINT) == appraise(testbed, updated, Cache())
    assert anew.tcb_status != old.tcb_status


@pytest.mark.parametrize(
    ("field", "code"),
    [
        ("bad_qe_signature", "SIGNATURE_INVALID"),
        ("other_attestation_key", "QE_BINDING_MISMATCH"),
        ("qe_report_data_tail", "QE_BINDING_MISMATCH"),
        ("bad_signature", "SIGNATURE_INVALID"),
        ("qe_debug", "QE_IDENTITY_MISMATCH"),
    ],
)
def test_a_known_machine_is_refused_like_an_unknown_one(
    testbed: IntelTestbed, warm: Cache, field: str, code: str
) -> None:
    defect = testbed.evidence(**{field: True})
    for cache in (warm, Cache()):
        assert code_of(testbed, defect, cache) == code  # and a refusal is not remembered
        assert code_of(testbed, defect, cache) == code


def test_time_goes_on_for_a_known_machine(testbed: IntelTestbed, warm: Cache) -> None:
    assert code_of(testbed, testbed.evidence(), warm, now=LONG_AFTER) == "CERT_EXPIRED"
    long_before = datetime(2001, 1, 1, tzinfo=UTC)
    assert code_of(testbed, testbed.evidence(), warm, now=long_before) == "CERT_NOT_YET_VALID"


def test_a_known_machine_is_not_known_under_another_root(
    testbed: IntelTestbed, warm: Cache
) -> None:
    other = IntelSimulator.make(now=testbed.now)
    theirs = replace(testbed, platform=other, files=other.files())
    collateral = prepare(theirs.raw(), anchors=other.anchors(), cache=warm)
    with pytest.raises(RegaliaError) as refusal:
        verify_fresh(
            TDX,
            testbed.evidence(),
            anchors=other.anchors(),
            collateral=collateral,
            report_data=REPORT_DATA,
            at=AppraisalContext(now=testbed.now, rule=REQUIRED, cache=warm),
        )
    assert refusal.value.code.name == "ROOT_UNTRUSTED"


def test_layouts_are_known_apart(testbed: IntelTestbed, warm: Cache) -> None:
    """The bytes of a known certification, in a quote of a version that nests them otherwise."""
    evidence = testbed.evidence()
    known = split_quote(evidence.report)
    enclave = parse_quote(testbed.evidence(Tee.SGX).report)
    assert enclave.version == VERSION_SGX
    report = enclave.encode_signed()
    report += (len(known.signature) + len(known.certification)).to_bytes(4, "little")
    report += known.signature + known.certification
    mixed = replace(evidence, tee=Tee.SGX, report=report)
    assert code_of(testbed, mixed, warm) in {"MALFORMED", "RESERVED_BIT_SET"}
