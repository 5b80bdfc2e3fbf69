"""A row of the demo's table is green only if both sides went as they must."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from regalia.core.errors import CoreCode, UnavailableError
from regalia_demo.attacks import ATTACKS, Attack
from regalia_demo.outcome import FAILED, NOT_PROTECTED, REFUSED, STOLEN, Outcome, Side
from regalia_demo.screen import Screen

if TYPE_CHECKING:
    from regalia_demo.attacker import Attacker

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
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


def outcome_of(number: int, attack: str, regalia: str, code: str) -> Outcome:
    return Outcome(
        number=number,
        id="an-id",
        attack=attack,
        control=STOLEN,
        control_detail="",
        regalia=regalia,
        regalia_detail="",
        code=code,
        seconds=0.5,
    )


LONG = outcome_of(
    3,
    "a-replayed-answer-of-another-runtime",
    REFUSED,
    "A_CODE_OF_MANY_LETTERS_THAT_IS_NOT_BROKEN_ANYWHERE",
)


@pytest.mark.parametrize("width", [40, 60, 80, 100, 119, 120, 200])
def test_a_terminal_of_any_width_breaks_no_word(
    width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("FORCE_COLOR", "1")
    shown = [LONG, outcome_of(4, "flip, swap and truncate chunks", REFUSED, "FORGED+SIZE_CHANGED")]
    Screen(quiet=False).table(shown)
    words = re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out).split()
    for each in shown:
        assert {*each.attack.split(), each.code, STOLEN, REFUSED} <= set(words)


def test_the_readme_shows_the_table_that_the_demo_prints(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")  # it is a pipe, so that does not matter
    table = README[README.index(" #  attack") : README.index("Everything was as it should be")]
    codes = [line.split("  ")[-1].strip() for line in table.splitlines()[1:]]
    outcomes = [
        outcome_of(number, attack.title, REFUSED, code)
        for number, (attack, code) in enumerate(zip(ATTACKS, codes, strict=True), 1)
    ]
    last = replace(outcomes[-1], regalia=NOT_PROTECTED, code="")
    Screen(quiet=False).table([*outcomes[:-1], last])
    printed = [line.rstrip() for line in capsys.readouterr().out.splitlines() if line]
    assert printed == table.splitlines()
