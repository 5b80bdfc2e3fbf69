"""What verifying evidence costs beyond its signatures: python bench/attest_cost.py [--json].

For each kind of evidence: the whole verification, from parsed envelope to claims, and beside it
the bare signature checks that it had to make (see ``attest_signatures``) and, if the event log is
new to the verifier, the work on that log. These take turns, and each goes first equally often.
What is left when both are subtracted is what the goal is for. The verifier has its cache, so that
its authorities are known, as in a service that runs; unless a row says otherwise it knows the
machine too, as when a lease is renewed.

With ``--against FOLDER`` it compares this checkout with another one, row by row, and ends with
status 1 if a row is slower by more than 10 % (see ``attest_against``).

How to read the tables: docs/reference/verification-cost.md.

Times are CPU time of the one thread, so that waiting for a processor is not measured. A busy
machine makes them longer all the same, since processors share caches and power.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attest_against import Plan, compare, show
from attest_cases import CASES
from attest_signatures import baseline, p384_us, replay
from cryptography.hazmat.backends.openssl.backend import backend
from harness import note, percentile, show_table

if TYPE_CHECKING:
    from collections.abc import Callable

    from attest_cases import Case

WARM_UP = 20
FAST = 0.1  # the percentile that is nearest to a quiet machine
QUIET = 0.5  # load average for each core, above which the table warns
STEADY = 1.2  # slowest by fastest P-384 check, above which the table warns
HERE = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Row:
    """CPU seconds of each verification, and of its parts in turns with it.

    Attributes:
        checks: how many signatures one verification checks.
        whole: of the verification.
        bare: of the replayed signature checks.
        log: of the work on the event log; empty if the verifier knows the log, or there is none.
    """

    name: str
    case: Case
    checks: int
    whole: list[float]
    bare: list[float]
    log: list[float]

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``: microseconds. ``beyond_us`` and ``ratio`` are of medians."""
        whole, bare = median_us(self.whole), median_us(self.bare)
        log = median_us(self.log) if self.log else None
        beyond = whole - bare - (log or 0)
        parts = sum(percentile(times, FAST) for times in (self.bare, self.log) if times)
        beyond_fast = (percentile(self.whole, FAST) - parts) * 1e6
        goal = self.case.goal_us * self.case.reports
        return {
            "name": self.name,
            "contains": self.case.contains,
            "signatures": self.checks,
            "reports": self.case.reports,
            "p50_us": round(whole, 1),
            "p99_us": round(percentile(self.whole, 0.99) * 1e6, 1),
            "per_second_per_core": round(1e6 / whole),
            "bare_p50_us": round(bare, 1),
            "bare_p99_us": round(percentile(self.bare, 0.99) * 1e6, 1),
            "log_p50_us": None if log is None else round(log, 1),
            "beyond_us": round(beyond, 1),
            "beyond_p10_us": round(beyond_fast, 1),
            "goal_us": goal,
            "goal_met": round(beyond) <= goal,  # as printed: runs differ by more
            "ratio": round(whole / bare, 3),
        }


def median_us(seconds: list[float]) -> float:
    """In microseconds."""
    return statistics.median(seconds) * 1e6


def measure(name: str, case: Case, count: int) -> Row:
    """Record the signature checks, then time everything in turns."""
    for _ in range(WARM_UP):
        case.rest()
        case.verify()
    calls_again = baseline(case)
    row = Row(name, case, len(calls_again()), [], [], [])
    gc.disable()
    try:
        for number in range(count):
            case.rest()
            calls = calls_again()
            turns: list[tuple[list[float], Callable[[], object]]] = [
                (row.whole, case.verify),
                (row.bare, partial(replay, calls)),
            ]
            if case.log is not None:
                turns.append((row.log, case.log))
            first = number % len(turns)
            # Who goes first finds what came before in the processor's caches, so each does.
            for times, turn in (*turns[first:], *turns[:first]):
                start = time.thread_time()
                turn()
                times.append(time.thread_time() - start)
    finally:
        gc.enable()
    return row


def machine_facts() -> dict[str, Any]:
    """What one must know to compare two tables."""
    return {
        "load_average": round(os.getloadavg()[0], 2),
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "openssl": backend.openssl_version_text(),
    }


def show_facts(facts: dict[str, Any]) -> None:
    """A line, and a warning if the figures mean little."""
    print(", ".join(f"{name.replace('_', ' ')} {value}" for name, value in facts.items()))
    if facts["load_average"] > QUIET * (facts["cores"] or 1):
        print("The machine is busy, so all times are longer, and p99 says little.")
    slowest, fastest = max(facts["p384_check_us"]), min(facts["p384_check_us"])
    if slowest > STEADY * fastest:
        print("The machine's speed changed meanwhile, so rows cannot be compared with each other.")


def report(rows: list[Row], count: int, facts: dict[str, Any], *, as_json: bool) -> None:
    """A table, or one JSON document."""
    results = [row.as_dict() for row in rows]
    if as_json:
        print(json.dumps({"count": count, **facts, "rows": results}, indent=2))
        return
    show_table(
        f"Verifying evidence, {count} times each, us of CPU time; bare = its own signature checks; "
        "beyond = p50 - bare - log",
        (
            *("evidence", "signatures", "p50", "p99", "per s per core", "bare", "log"),
            *("beyond", "goal", "met", "beyond p10", "ratio"),
        ),
        [
            (
                row["name"],
                str(row["signatures"]),
                f"{row['p50_us']:.0f}",
                f"{row['p99_us']:.0f}",
                f"{row['per_second_per_core']:,}",
                f"{row['bare_p50_us']:.0f}",
                "" if row["log_p50_us"] is None else f"{row['log_p50_us']:.0f}",
                f"{row['beyond_us']:.0f}",
                goal_text(row["goal_us"], row["reports"]),
                "yes" if row["goal_met"] else "no",
                f"{row['beyond_p10_us']:.0f}",
                f"{row['ratio']:.2f}",
            )
            for row in results
        ],
    )
    for row in results:
        print(f"  {row['name']}: {row['contains']}")
    show_facts(facts)


def goal_text(goal_us: int, reports: int) -> str:
    """It is for one report, so a machine with many says how many."""
    return str(goal_us) if reports == 1 else f"{reports} x {goal_us // reports}"


def cost(only: str, count: int, *, as_json: bool) -> int:
    """The table of this checkout alone."""
    rows, speeds = [], [p384_us()]
    with tempfile.TemporaryDirectory(prefix="regalia-bench-") as folder:
        for number, (name, make) in enumerate(CASES.items()):
            if only in name.lower():
                case = make(Path(folder) / str(number))
                note(name if case else f"{name}: skipped, real evidence is absent")
                if case:
                    rows.append(measure(name, case, count))
                    speeds.append(p384_us())
    facts = {**machine_facts(), "p384_check_us": _range(speeds)}
    report(rows, count, facts, as_json=as_json)
    return 0


def against(folder: Path, plan: Plan, *, as_json: bool) -> int:
    """The comparison with another checkout; 1 if this one is slower."""
    speeds = [p384_us()]
    comparison = compare(folder.resolve(), HERE, plan)
    facts = {**machine_facts(), "p384_check_us": _range([*speeds, p384_us()])}
    if as_json:
        print(json.dumps({**asdict(plan), **facts, **comparison.as_dict()}, indent=2))
    else:
        show(comparison, plan)
        show_facts(facts)
    return 0 if comparison.passed else 1


def _range(values: list[float]) -> tuple[float, float]:
    return round(min(values), 1), round(max(values), 1)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000, help="verifications of each row")
    parser.add_argument("--only", default="", help="rows whose name contains this")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--against", type=Path, help="the checkout to compare this one with")
    parser.add_argument("--sittings", type=int, default=5, help="fresh starts of both checkouts")
    parser.add_argument("--rounds", type=int, default=10, help="turns in each row of a sitting")
    args = parser.parse_args()
    only = args.only.lower()
    if args.against is None:
        return cost(only, args.count, as_json=args.json)
    each = max(1, args.count // (args.sittings * args.rounds))
    plan = Plan(only, args.sittings, args.rounds, each)
    return against(args.against, plan, as_json=args.json)


if __name__ == "__main__":
    sys.exit(main())
