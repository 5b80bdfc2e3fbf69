"""What the demo shows while it runs. With --json only the result goes to standard output."""

from __future__ import annotations

import re
import shlex
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regalia_demo.outcome import Outcome

SIMULATED = (
    "hardware: simulated. The TEE here is software with a throw-away root. It protects nothing"
    " from the host; everything else you see is what runs on real hardware."
)


_WIDTH_OF_A_PIPE = 200  # columns; wide enough that every row of the table is one line
_GAP = 2  # columns between those of the table
_HEADINGS = ("#", "attack", "unprotected", "Regalia", "code")
_ATTACK = 1  # the one column that may be broken into lines, between words
_LONG_HEX = re.compile(r"[0-9a-f]{33,}")


class Screen:
    """Narrates the demo on a terminal."""

    def __init__(self, *, quiet: bool) -> None:
        self._console = Console(quiet=quiet, highlight=False)
        self._status = Console(stderr=True, quiet=quiet)

    def title(self, text: str) -> None:
        """A new act."""
        self._console.print()
        self._console.rule(f"[bold]{escape(text)}", align="left")

    def banner(self) -> None:
        """Say what is simulated."""
        self._console.print(f"[bold yellow]{SIMULATED}")

    def say(self, text: str) -> None:
        """One line."""
        self._console.print(escape(text))

    def print(self, table: Table) -> None:
        """A table."""
        self._console.print(table)

    def fact(self, name: str, value: str) -> None:
        """One thing that was established."""
        self._console.print(f"  [dim]{escape(name):<18}[/] {escape(value)}", soft_wrap=True)

    def command(self, arguments: list[str]) -> None:
        """A command as a person would type it."""
        line = f"[cyan]$ regalia {escape(shlex.join(arguments))}"
        self._console.print(line, soft_wrap=True)

    def turn(self, who: str, text: str) -> None:
        """One message of a chat."""
        self._console.print(f"  [bold]{escape(who)}[/]  {escape(text)}")

    @contextmanager
    def working(self, text: str) -> Iterator[None]:
        """Show that something takes a while: a spinner, or a line where there is no terminal."""
        if not self._status.is_terminal:
            self._status.print(f"[dim]… {escape(text)}")
            yield
            return
        with self._status.status(escape(text)):
            yield

    def outcome(self, outcome: Outcome) -> None:
        """One attack, when it is over."""
        mark = "[green]as it should be" if outcome.as_expected else "[bold red]NOT AS IT SHOULD BE"
        self._console.print(f"[bold]{outcome.number:>2}. {escape(outcome.attack)}[/]  {mark}")
        for who, what in (("control", outcome.control_detail), ("Regalia", outcome.regalia_detail)):
            short = _LONG_HEX.sub(lambda match: f"{match[0][:16]}…", what)
            self._console.print(f"    [dim]{who}[/]  {escape(short)}", soft_wrap=True)

    def table(self, outcomes: list[Outcome]) -> None:
        """The whole story on one page."""
        console = self._console
        if not console.is_terminal:
            console = Console(quiet=console.quiet, highlight=False, width=_WIDTH_OF_A_PIPE)
        rows = [_cells(outcome) for outcome in outcomes]
        if console.width < _narrowest([_HEADINGS, *rows]):
            self._list(outcomes)
            return
        table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0))
        for name in _HEADINGS:
            table.add_column(
                name,
                no_wrap=name != _HEADINGS[_ATTACK],
                justify="right" if name == _HEADINGS[0] else "left",
            )
        for outcome, (number, attack, control, regalia, code) in zip(outcomes, rows, strict=True):
            color = "green" if outcome.regalia == "refused" else "yellow"
            if not outcome.as_expected:
                color = "bold red"
            table.add_row(
                number,
                escape(attack),
                f"[red]{escape(control)}",
                f"[{color}]{escape(regalia)}",
                escape(code),
            )
        console.print()
        console.print(table)

    def _list(self, outcomes: list[Outcome]) -> None:
        """The same on a narrow terminal, one line for each thing."""
        for outcome in outcomes:
            self._console.print()
            self._console.print(f"[bold]{outcome.number}. {escape(outcome.attack)}")
            self._console.print(f"unprotected  {escape(outcome.control)}", soft_wrap=True)
            self._console.print(f"Regalia      {escape(outcome.regalia)}", soft_wrap=True)
            if outcome.code:
                self._console.print(f"code         {escape(outcome.code)}", soft_wrap=True)


def _cells(outcome: Outcome) -> tuple[str, ...]:
    """One row of the table. Where nobody refused there is no code, and the reason stands there."""
    regalia, _, reason = outcome.regalia.partition(": ")
    return (
        str(outcome.number),
        outcome.attack,
        outcome.control,
        regalia,
        outcome.code or reason,
    )


def _narrowest(rows: list[tuple[str, ...]]) -> int:
    """Columns that the table needs if it breaks no word."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    widths[_ATTACK] = max(len(word) for row in rows for word in row[_ATTACK].split())
    return sum(widths) + _GAP * len(widths)
