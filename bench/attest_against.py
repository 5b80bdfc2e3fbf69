"""``attest_cost --against FOLDER``: two checkouts of the project, compared in one run.

Each checkout is measured by a process of its own, which imports that checkout's code
(``attest_worker``). The two take turns, a round at a time, so that a machine that becomes slower
or faster meanwhile does so for both.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from harness import note, show_table

if TYPE_CHECKING:
    from collections.abc import Sequence

WORKER = Path(__file__).with_name("attest_worker.py")
SLOWER_MAX = 10.0  # percent


class Worker:
    """A process that measures one checkout. Use it in a ``with`` statement."""

    def __init__(self, checkout: Path) -> None:
        self.checkout = checkout
        # -P keeps this folder off its path; -B keeps its files out of the checkout.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-B", str(WORKER), str(checkout)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONHASHSEED": "0"},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()  # closes its input, which ends it

    def cases(self) -> list[str]:
        """Names of its rows. Ask first, and once."""
        names: list[str] = self._answer("start")["cases"]
        return names

    def make(self, name: str) -> bool:
        """Prepare a row; False if its real evidence is absent."""
        return bool(self._ask({"make": name}, name)["made"])

    def round(self, name: str, count: int) -> float:
        """Median CPU time of ``count`` verifications of the row that was made, in us."""
        times: list[float] = self._ask({"count": count}, name)["us"]
        return statistics.median(times)

    def _ask(self, request: dict[str, Any], what: str) -> dict[str, Any]:
        if self._process.stdin is None or self._process.poll() is not None:
            raise SystemExit(f"{self.checkout}: its worker ended before {what}")
        print(json.dumps(request), file=self._process.stdin, flush=True)
        return self._answer(what)

    def _answer(self, what: str) -> dict[str, Any]:
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line:
            raise SystemExit(f"{self.checkout}: its worker ended in {what}")
        answer: dict[str, Any] = json.loads(line)
        return answer


@dataclass(frozen=True)
class Change:
    """One row of both checkouts: the median of each round, in us, the rounds in their order."""

    name: str
    before: list[float]
    after: list[float]

    @property
    def percent(self) -> float:
        """Median of the changes of each round. A round's two turns met about the same machine."""
        pairs = zip(self.before, self.after, strict=True)
        return (statistics.median(after / before for before, after in pairs) - 1) * 100

    @property
    def too_slow(self) -> bool:
        """Whether the newer checkout is slower by more than is allowed."""
        return self.percent > SLOWER_MAX

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "name": self.name,
            "before_us": round(statistics.median(self.before), 1),
            "after_us": round(statistics.median(self.after), 1),
            "change_percent": round(self.percent, 1),
            "slower": self.too_slow,
        }


@dataclass(frozen=True)
class Comparison:
    """All rows.

    Attributes:
        changes: of the rows that both checkouts have.
        gone: rows that only the older checkout has. They were not compared, so they count as
            slower.
        new: rows that only the newer one has.
        absent: rows whose real evidence one of them lacks.
    """

    changes: list[Change]
    gone: list[str]
    new: list[str]
    absent: list[str]

    @property
    def passed(self) -> bool:
        """Whether every row of the older checkout was compared, and none is too slow."""
        slower = any(change.too_slow for change in self.changes)
        return bool(self.changes) and not self.gone and not slower

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "rows": [change.as_dict() for change in self.changes],
            "gone": self.gone,
            "new": self.new,
            "absent": self.absent,
            "slower_max_percent": SLOWER_MAX,
            "passed": self.passed,
        }


def compare(folders: tuple[Path, Path], only: str, *, rounds: int, count: int) -> Comparison:
    """Measure both checkouts in turns.

    Args:
        folders: the older checkout, and the newer one.
        only: rows whose name contains this, in lower case.
        rounds: how often the two take turns in each row.
        count: verifications in each turn.
    """
    with ExitStack() as stack:
        before, after = (stack.enter_context(Worker(folder)) for folder in folders)
        older, newer = (
            [name for name in worker.cases() if only in name.lower()] for worker in (before, after)
        )
        comparison = Comparison(
            changes=[],
            gone=[name for name in older if name not in newer],
            new=[name for name in newer if name not in older],
            absent=[],
        )
        for name in older:
            if name not in newer:
                continue
            note(name)
            if all([before.make(name), after.make(name)]):
                turns = _in_turns(name, before, after, rounds=rounds, count=count)
                comparison.changes.append(turns)
            else:
                comparison.absent.append(name)
    return comparison


def _in_turns(name: str, before: Worker, after: Worker, *, rounds: int, count: int) -> Change:
    """Whoever goes first finds the other's leavings in the processor's caches, so both do."""
    medians: dict[Worker, list[float]] = {before: [], after: []}
    for number in range(rounds):
        for worker in (before, after) if number % 2 else (after, before):
            medians[worker].append(worker.round(name, count))
    return Change(name, medians[before], medians[after])


def show(comparison: Comparison, title: str) -> None:
    """A table, and what it does not hold."""
    show_table(title, ("evidence", "before", "after", "change", "slower"), _rows(comparison))
    for names, why in (
        (comparison.gone, "only the older checkout has this row, so it was not compared"),
        (comparison.new, "only the newer checkout has this row"),
        (comparison.absent, "real evidence is absent"),
    ):
        for name in names:
            print(f"  {name}: {why}")
    if not comparison.passed:
        print(f"FAILED: rows are slower by more than {SLOWER_MAX:.0f} %, or were not compared.")


def _rows(comparison: Comparison) -> Sequence[tuple[str, ...]]:
    return [
        (
            row["name"],
            f"{row['before_us']:.0f}",
            f"{row['after_us']:.0f}",
            f"{row['change_percent']:+.1f} %",
            "YES" if row["slower"] else "no",
        )
        for row in (change.as_dict() for change in comparison.changes)
    ]
