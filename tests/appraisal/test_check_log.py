"""A check log tells what was checked, and which check refused."""

from __future__ import annotations

from regalia.appraisal.check import Check, Source
from regalia.appraisal.check_log import NO_LOG, CheckLog
from regalia.appraisal.codes import AttestCode
from regalia.core.errors import AttestationError

ONE = Check("tee/one", "The first holds", "It protects.", Source.HARDWARE_PROVEN)
TWO = Check("tee/two", "The second holds", "It protects too.", Source.VERIFIER_DERIVED)


def test_all_entered_checks_passed_when_the_verifier_returned() -> None:
    check_log = CheckLog()
    check_log.begin(ONE, "7", "7")
    check_log.begin(TWO)
    check_log.note("8")
    assert [(step.check, step.seen, step.passed) for step in check_log.steps()] == [
        (ONE, "7", True),
        (TWO, "8", True),
    ]
    assert check_log.steps() == check_log.steps()


def test_the_last_entered_check_is_the_refusal() -> None:
    check_log = CheckLog()
    check_log.begin(ONE)
    check_log.begin(TWO, "8", "9")
    first, second = check_log.failed(AttestationError(AttestCode.NONCE_MISMATCH, "no"))
    assert (first.passed, second.passed, second.code) == (True, False, "NONCE_MISMATCH")


def test_the_silent_trail_holds_nothing() -> None:
    NO_LOG.begin(ONE)
    NO_LOG.note("7")
    assert NO_LOG.steps() == ()
