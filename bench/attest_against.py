"""``attest_cost --against FOLDER``: two checkouts of the project, compared in one run.

Each checkout is measured by a process of its own, which imports that checkout's code
(``attest_worker``). The two take turns, a round at a time, so that a machine that becomes slower
or faster meanwhile does so for both.

Compared are tenth percentiles. Other work on the machine makes some verifications longer and none
shorter, so the fast ones say most about the code: between two processes of the same code, on a
machine whose speed changed by half, tenth percentiles differed by 2 % and medians by 10 %.

Two processes of the same code also differ for good, by where their memory happens to lie. So both
are started anew several times, and the means of these sittings are compared.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from harness import note, percentile, show_table

if TYPE_CHECKING:
    from collections.abc import Sequence

WORKER = Path(__file__).with_name("attest_worker.py")
SLOWER_MAX = 10.0  # percent
FAST = 0.1  # the percentile that is compared


class Worker:
    """A process that measures one checkout. Use it in a ``with`` statement."""

    def __init__(self, checkout: Path) -> None:
        self.checkout = checkout
        # -P keeps this folder off its path; -B keeps its files out of the checkout. Compiled files
        # of earlier runs are not read, since one of the two checkouts may have none.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-B", str(WORKER), str(checkout)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONHASHSEED": "0", "PYTHONPYCACHEPREFIX": os.devnull},
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

    def times(self, name: str, count: int) -> list[float]:
        """CPU times of ``count`` verifications of the row that was made, in us."""
        times: list[float] = self._ask({"count": count}, name)["us"]
        return times

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
    """One row of both checkouts: for each sitting, CPU time of each verification, in us."""

    name: str
    before: list[list[float]] = field(default_factory=list)
    after: list[list[float]] = field(default_factory=list)

    def percent(self, share: float = FAST) -> float:
        """How much longer the newer checkout takes, by this percentile of both."""
        return (mean_percentile(self.after, share) / mean_percentile(self.before, share) - 1) * 100

    @property
    def too_slow(self) -> bool:
        """Whether the newer checkout is slower by more than is allowed."""
        return self.percent() > SLOWER_MAX

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "name": self.name,
            "before_p10_us": round(mean_percentile(self.before, FAST), 1),
            "after_p10_us": round(mean_percentile(self.after, FAST), 1),
            "change_percent": round(self.percent(), 1),
            "change_p50_percent": round(self.percent(0.5), 1),
            "slower": self.too_slow,
        }


def mean_percentile(sittings: list[list[float]], share: float) -> float:
    """Mean of the percentiles of the sittings."""
    return statistics.fmean(percentile(times, share) for times in sittings)


@dataclass
class Comparison:
    """All rows.

    Attributes:
        changes: of the rows that both checkouts have, by name.
        gone: rows that only the older checkout has. They were not compared, so they count as
            slower.
        new: rows that only the newer one has.
        absent: rows whose real evidence one of them lacks.
    """

    changes: dict[str, Change] = field(default_factory=dict)
    gone: list[str] = field(default_factory=list)
    new: list[str] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether every row of the older checkout was compared, and none is too slow."""
        slower = any(change.too_slow for change in self.changes.values())
        return bool(self.changes) and not self.gone and not slower

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "rows": [change.as_dict() for change in self.changes.values()],
            "gone": self.gone,
            "new": self.new,
            "absent": self.absent,
            "slower_max_percent": SLOWER_MAX,
            "passed": self.passed,
        }


@dataclass(frozen=True)
class Plan:
    """How much is measured.

    Attributes:
        only: rows whose name contains this, in lower case.
        sittings: how often both processes are started anew.
        rounds: how often the two take turns in each row of a sitting.
        count: verifications in each turn.
    """

    only: str
    sittings: int
    rounds: int
    count: int


def compare(before: Path, after: Path, plan: Plan) -> Comparison:
    """Measure the older and the newer checkout, in turns."""
    comparison = Comparison()
    for sitting in range(plan.sittings):
        note(f"sitting {sitting + 1} of {plan.sittings}")
        with Worker(before) as older, Worker(after) as newer:
            _sit(older, newer, comparison, plan)
    return comparison


def _sit(older: Worker, newer: Worker, comparison: Comparison, plan: Plan) -> None:
    """One sitting, which adds to the comparison."""
    before, after = (
        [name for name in worker.cases() if plan.only in name.lower()] for worker in (older, newer)
    )
    comparison.gone = [name for name in before if name not in after]
    comparison.new = [name for name in after if name not in before]
    comparison.absent = []
    for name in before:
        if name not in after:
            continue
        note(name)
        if all([older.make(name), newer.make(name)]):
            change = comparison.changes.setdefault(name, Change(name))
            _take_turns(change, older, newer, plan)
        else:
            comparison.absent.append(name)


def _take_turns(change: Change, older: Worker, newer: Worker, plan: Plan) -> None:
    """Whoever goes first finds the other's leavings in the processor's caches, so both do."""
    times: dict[Worker, list[float]] = {older: [], newer: []}
    for number in range(plan.rounds):
        for worker in (older, newer) if number % 2 else (newer, older):
            times[worker] += worker.times(change.name, plan.count)
    change.before.append(times[older])
    change.after.append(times[newer])


def show(comparison: Comparison, plan: Plan) -> None:
    """A table, and what it does not hold."""
    title = (
        f"Before and after, {plan.sittings} sittings of {plan.rounds} rounds of {plan.count} each, "
        "us of CPU time"
    )
    headings = ("evidence", "before p10", "after p10", "change", "slower", "change of p50")
    show_table(title, headings, _rows(comparison))
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
            f"{row['before_p10_us']:.0f}",
            f"{row['after_p10_us']:.0f}",
            f"{row['change_percent']:+.1f} %",
            "YES" if row["slower"] else "no",
            f"{row['change_p50_percent']:+.1f} %",
        )
        for row in (change.as_dict() for change in comparison.changes.values())
    ]
