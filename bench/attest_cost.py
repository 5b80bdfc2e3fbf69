"""What verifying evidence costs beside its signatures: python bench/attest_cost.py [--json].

For each kind of evidence: the whole verification, from parsed envelope to claims, and beside it
the bare signature checks that it had to make. The bare checks are not guessed. One verification
runs with the `verify` methods of every key type replaced by recorders, and exactly the recorded
calls (key, signature, message, scheme) are replayed as the baseline, in turns with the whole, each
first every other time. The
verifier has its cache, so that its authorities are known, as in a service that runs; unless a row
says otherwise it knows the machine too, as when a lease is renewed. Keys of the baseline are in the
state that the verifier has them in: used before, or (of a new machine) just loaded.

How to read the table: docs/reference/verification-cost.md.

Times are CPU time of the one thread, so that a busy machine is not measured instead.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import platform
import statistics
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attest_cases import CASES
from cryptography.hazmat.backends.openssl.backend import backend
from cryptography.hazmat.bindings._rust import openssl
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
)
from harness import note, show_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from attest_cases import Case

# Written in Rust, so their methods cannot be replaced in the ordinary way; see `recorded`.
KEY_TYPES = (
    openssl.ec.ECPublicKey,
    openssl.rsa.RSAPublicKey,
    openssl.ed25519.Ed25519PublicKey,
)
WARM_UP = 20
QUIET = 0.5  # load average for each core, above which the table warns


@dataclass(frozen=True)
class Call:
    """One signature check: the type's own method and its arguments, the key first."""

    verify: Callable[..., None]
    arguments: tuple[Any, ...]

    def again(self) -> None:
        """Replay it."""
        self.verify(*self.arguments)

    def with_new_key(self) -> Call:
        """The same call with a key that was loaded and never used."""
        key, *rest = self.arguments
        spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return Call(self.verify, (load_der_public_key(spki), *rest))


@contextmanager
def recorded() -> Iterator[list[Call]]:
    """Every signature that is verified in this process meanwhile."""
    calls: list[Call] = []

    def recorder(original: Callable[..., None]) -> Callable[..., None]:
        def verify(*arguments: object) -> None:
            original(*arguments)
            calls.append(Call(original, arguments))

        return verify

    before = {}
    for kind in KEY_TYPES:
        (members,) = gc.get_referents(kind.__dict__)  # the dictionary behind the read-only view
        before[kind] = (members, members["verify"])
        members["verify"] = recorder(members["verify"])
        ctypes.pythonapi.PyType_Modified(ctypes.py_object(kind))
    try:
        yield calls
    finally:
        for kind, (members, original) in before.items():
            members["verify"] = original
            ctypes.pythonapi.PyType_Modified(ctypes.py_object(kind))


@dataclass(frozen=True)
class Row:
    """CPU seconds of each verification, and of the replayed checks in turns with it."""

    name: str
    contains: str
    goal: float
    checks: int
    whole: list[float]
    bare: list[float]

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``: microseconds, and the ratio of the medians."""
        whole, bare = statistics.median(self.whole), statistics.median(self.bare)
        return {
            "name": self.name,
            "contains": self.contains,
            "signatures": self.checks,
            "p50_us": round(whole * 1e6, 1),
            "p99_us": round(percentile(self.whole, 0.99) * 1e6, 1),
            "per_second_per_core": round(1 / whole),
            "bare_p50_us": round(bare * 1e6, 1),
            "bare_p99_us": round(percentile(self.bare, 0.99) * 1e6, 1),
            "ratio": round(whole / bare, 3),
            "goal": self.goal,
            "goal_met": round(whole / bare, 2) <= self.goal,  # as printed: runs differ by more
        }


def percentile(values: list[float], share: float) -> float:
    """By nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def record(case: Case) -> list[Call]:
    """The calls of one verification."""
    case.rest()
    with recorded() as calls:
        case.verify()
    return calls


def baseline(case: Case) -> Callable[[], list[Call]]:
    """Gives the calls to replay, each with its key in the state that the verifier has it in.

    A key that is another object in each verification came with the evidence and was just loaded:
    OpenSSL prepares it in its first use, in the baseline too.
    """
    before, calls = record(case), record(case)
    if not calls:
        raise SystemExit("no signature was verified")
    used = {id(call.arguments[0]) for call in before}
    return lambda: [
        call if id(call.arguments[0]) in used else call.with_new_key() for call in calls
    ]


def again(calls: list[Call]) -> None:
    """Replay all of them."""
    for call in calls:
        call.again()


def measure(name: str, case: Case, count: int) -> Row:
    """Record, then time in turns."""
    for _ in range(WARM_UP):
        case.rest()
        case.verify()
    replay = baseline(case)
    whole: list[float] = []
    bare: list[float] = []
    gc.disable()
    try:
        for number in range(count):
            case.rest()
            calls = replay()
            turns = [(whole, case.verify), (bare, lambda calls=calls: again(calls))]
            # Who goes first finds what came before in the processor's caches, so both do.
            for times, turn in turns if number % 2 else reversed(turns):
                start = time.thread_time()
                turn()
                times.append(time.thread_time() - start)
    finally:
        gc.enable()
    return Row(name, case.contains, case.goal, len(replay()), whole, bare)


def machine_facts() -> dict[str, Any]:
    """What one must know to compare two tables."""
    return {
        "load_average": round(os.getloadavg()[0], 2),
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "openssl": backend.openssl_version_text(),
    }


def report(rows: list[Row], count: int, *, as_json: bool) -> None:
    """A table, or one JSON document."""
    results, facts = [row.as_dict() for row in rows], machine_facts()
    if as_json:
        print(json.dumps({"count": count, **facts, "rows": results}, indent=2))
        return
    show_table(
        f"Verifying evidence, {count} times each, us of CPU time; bare = its own signature checks",
        (
            *("evidence", "signatures", "p50", "p99", "per s per core"),
            *("bare p50", "ratio", "goal", "met"),
        ),
        [
            (
                row["name"],
                str(row["signatures"]),
                f"{row['p50_us']:.0f}",
                f"{row['p99_us']:.0f}",
                f"{row['per_second_per_core']:,}",
                f"{row['bare_p50_us']:.0f}",
                f"{row['ratio']:.2f}",
                f"{row['goal']:.1f}",
                "yes" if row["goal_met"] else "no",
            )
            for row in results
        ],
    )
    for row in results:
        print(f"  {row['name']}: {row['contains']}")
    print(", ".join(f"{name.replace('_', ' ')} {value}" for name, value in facts.items()))
    if facts["load_average"] > QUIET * (facts["cores"] or 1):
        print("The machine is busy: the ratio moves by some hundredths, and p99 says little.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--only", default="", help="rows whose name contains this")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory(prefix="regalia-bench-") as folder:
        for number, (name, make) in enumerate(CASES.items()):
            if args.only.lower() in name.lower():
                case = make(Path(folder) / str(number))
                note(name if case else f"{name}: skipped, real evidence is absent")
                if case:
                    rows.append(measure(name, case, args.count))
    report(rows, args.count, as_json=args.json)


if __name__ == "__main__":
    main()
