"""A row of the demo's table is green only if both sides went as they must."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest

from regalia.core.errors import CoreCode, UnavailableError
from regalia_demo.attacks import Attack
from regalia_demo.outcome import FAILED, NOT_PROTECTED, REFUSED, STOLEN, Outcome, Side
from regalia_demo.screen import Screen

if TYPE_CHECKING:
    from regalia_demo.attacker import Attacker

LAB = cast("Attacker", None)


def breaks_off(_: Attacker) -> Side:
    raise UnavailableError(CoreCode.PEER_UNREACHABLE, "gone")


@pytest.mark.parametrize(
    ("control", "regalia", "good"),
    [
        (STOLEN, REFUSED, True),
        (STOLEN, NOT_PROTECTED, True),
        (STOLEN, FAILED, False),
        (FAILED, REFUSED, False),
        (REFUSED, REFUSED, False),
    ],
)
def test_what_counts_as_expected(control: str, regalia: str, good: bool) -> None:  # noqa: FBT001
    attack = Attack("x", "x", lambda _: Side(control, ""), lambda _: Side(regalia, ""))
    assert attack.run(1, LAB).as_expected is good


def test_an_attempt_that_breaks_off_is_no_refusal() -> None:
    outcome = Attack("x", "x", lambda _: Side(STOLEN, ""), breaks_off).run(1, LAB)
    assert outcome.regalia == FAILED
    assert "PEER_UNREACHABLE" in outcome.regalia_detail
    assert not outcome.as_expected
    assert not Attack("x", "x", breaks_off, lambda _: Side(REFUSED, "")).run(1, LAB).as_expected


def test_a_narrow_terminal_breaks_no_word(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = Outcome(
        number=3,
        id="replay",
        attack="a-replayed-answer-of-another-runtime",
        control=STOLEN,
        control_detail="",
        regalia=REFUSED,
        regalia_detail="",
        code="A_CODE_OF_MANY_LETTERS_THAT_IS_NOT_BROKEN_ANYWHERE",
        seconds=0.5,
    )
    monkeypatch.setenv("COLUMNS", "60")
    Screen(quiet=False).table([outcome])
    words = capsys.readouterr().out.split()
    assert {outcome.attack, outcome.code, STOLEN, REFUSED} <= set(words)
