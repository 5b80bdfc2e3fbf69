"""A check log tells what was checked, and which check refused."""

from __future__ import annotations

from regalia.appraisal.check import UNKNOWN, Check, Outcome, Source
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


def test_a_check_that_was_not_made_in_full_has_not_passed() -> None:
    check_log = CheckLog()
    check_log.leave_open("nothing was begun")
    check_log.begin(ONE)
    check_log.leave_open("half of it", "the other half")
    check_log.begin(TWO, UNKNOWN)
    first, second = check_log.steps()
    assert (first.seen, first.wanted, first.in_full) == ("half of it", "the other half", False)
    for step in (first, second):
        assert (step.outcome, step.passed) == (Outcome.OPEN, False)


def test_what_failed_is_never_shown_as_equal() -> None:
    """Then it is not the comparison that failed, and the refusal says what did."""
    check_log = CheckLog()
    check_log.begin(ONE, "7", "7")
    (step,) = check_log.failed(AttestationError(AttestCode.NONCE_MISMATCH, "it is too short"))
    assert (step.seen, step.wanted, step.outcome) == ("it is too short", "7", Outcome.FAIL)


def test_the_silent_trail_holds_nothing() -> None:
    NO_LOG.begin(ONE)
    NO_LOG.note("7")
    NO_LOG.leave_open("7")
    assert NO_LOG.steps() == ()
