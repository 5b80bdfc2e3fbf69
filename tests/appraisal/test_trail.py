"""A trail tells what was checked, and which check refused."""

from __future__ import annotations

from regalia.appraisal.check import Check, Source
from regalia.appraisal.check_log import SILENT, Trail
from regalia.appraisal.codes import AttestCode
from regalia.core.errors import AttestationError

ONE = Check("tee/one", "The first holds", "It protects.", Source.HARDWARE_PROVEN)
TWO = Check("tee/two", "The second holds", "It protects too.", Source.VERIFIER_DERIVED)


def test_all_entered_checks_passed_when_the_verifier_returned() -> None:
    trail = Trail()
    trail.enter(ONE, "7", "7")
    trail.enter(TWO)
    trail.note("8")
    assert [(step.check, step.seen, step.passed) for step in trail.steps()] == [
        (ONE, "7", True),
        (TWO, "8", True),
    ]
    assert trail.steps() == trail.steps()


def test_the_last_entered_check_is_the_refusal() -> None:
    trail = Trail()
    trail.enter(ONE)
    trail.enter(TWO, "8", "9")
    first, second = trail.failed(AttestationError(AttestCode.NONCE_MISMATCH, "no"))
    assert (first.passed, second.passed, second.code) == (True, False, "NONCE_MISMATCH")


def test_the_silent_trail_holds_nothing() -> None:
    SILENT.enter(ONE)
    SILENT.note("7")
    assert SILENT.steps() == ()
