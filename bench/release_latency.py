"""How long a release takes, step by step: python bench/release_latency.py [--json] [--count N].

One broker in this process, SQLite on a real disk (every commit is synced), a simulated platform
with RSA-4096 and P-384 keys as AMD's, the development key store. HTTP and the runtime's own work
are not in it. The steps are those of docs/spec/release-exchange.md.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from contextlib import redirect_stderr
from dataclasses import replace
from pathlib import Path
from typing import Any

# The step's name here, and the broker's names for what it consists of.
STEPS = {
    "challenge": ("challenge",),
    "verify": ("verify",),
    "policy": ("policy",),
    "lease": ("holders", "lease"),
    "log": ("log",),
    "rewrap": ("unwrap", "rewrap"),
}
WARM_UP = 5


class Stopwatch:
    """Collects what the broker reports of itself."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {}

    def stage(self, name: str, seconds: float) -> None:
        """See ``broker.service.Watch``."""
        self.seconds.setdefault(name, []).append(seconds)

    def decision(self, decision: str, codes: tuple[str, ...]) -> None:
        """See ``broker.service.Watch``."""


def measure(count: int, folder: Path) -> dict[str, dict[str, float]]:
    """Milliseconds by step: median and 99th percentile."""
    sys.path.insert(0, str(Path(__file__).parents[1]))  # the tests' world around one broker
    from tests.broker import harness  # noqa: PLC0415 - it is found only now

    deployment = harness.Deployment(folder, harness.Shared(folder), policy={"lease_s": 1})
    watch, totals = Stopwatch(), []
    broker = replace(deployment.broker, watch=watch)
    ask = harness.canonical_json({"model_id": str(deployment.model_id)})
    for number in range(count + WARM_UP):
        if number == WARM_UP:
            watch.seconds.clear()
            totals.clear()
        deployment.pass_time(2)  # the lease before has ended
        asked = broker.challenge(ask)
        body = harness.canonical_json(deployment.request(asked))
        start = time.perf_counter()
        broker.release(body, "127.0.0.1")
        totals.append(time.perf_counter() - start)
    deployment.close()
    found = {
        step: [sum(each) for each in zip(*(watch.seconds[name] for name in names), strict=True)]
        for step, names in STEPS.items()
    }
    return {name: summary(values) for name, values in (found | {"release": totals}).items()}


def summary(seconds: list[float]) -> dict[str, float]:
    """Median and 99th percentile in milliseconds."""
    ordered = sorted(seconds)
    p99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    return {
        "median_ms": round(statistics.median(ordered) * 1000, 3),
        "p99_ms": round(p99 * 1000, 3),
    }


def show(results: dict[str, dict[str, float]], count: int) -> None:
    """A table. "release" is steps 2 to the end together with parsing and checks between them."""
    print(f"{count} releases, one after the other")
    print(f"{'step':10} {'median ms':>10} {'p99 ms':>10}")
    for name, row in results.items():
        print(f"{name:10} {row['median_ms']:10.3f} {row['p99_ms']:10.3f}")


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--count", type=int, default=200)
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(dir=Path.cwd()) as folder,  # /tmp may be in memory
        Path(os.devnull).open("w") as null,
        redirect_stderr(null),  # the broker's events, one line for each decision
    ):
        results = measure(options.count, Path(folder))
    if options.json:
        report: dict[str, Any] = {"count": options.count, "steps": results}
        print(json.dumps(report, indent=2))
    else:
        show(results, options.count)


if __name__ == "__main__":
    main()
