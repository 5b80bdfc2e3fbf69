"""Fuzz every parser of hostile bytes: python scripts/fuzz.py [--seconds N] [--only NAME].

Guided by coverage (atheris, libFuzzer). Each parser starts from simulated and, where they are at
hand, real samples; JSON documents are changed value by value. Only its documented refusal may come
out; anything else, an endless loop and a memory above 2 GiB are findings, which are printed with
the input that led there.

The seconds, on each of the jobs, are shared evenly among the parsers. Exit status 1: something
was found.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import re
import sys
import tempfile
import time
import traceback
from contextlib import redirect_stderr
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import atheris
from fuzz_json import mutated

with redirect_stderr(io.StringIO()), atheris.instrument_imports(include=["regalia"]):
    from fuzz_seeds import Material
    from fuzz_targets import TARGETS, verifiers

    from regalia_testing.accepted_evidence import ACCEPTED_EVIDENCE

    # Whatever is imported later runs without instruments, and libFuzzer sees nothing of it.
    LOADED = {target.name: target.load() for target in TARGETS if target.is_here()}

if TYPE_CHECKING:
    from collections.abc import Callable

    from fuzz_targets import Target

PROJECT = Path(__file__).parents[1]
SECONDS_EACH = 1  # libFuzzer counts in whole seconds
TIMEOUT_S = 10  # for one input
MEMORY_MIB = 2048
_COVERAGE = re.compile(r"cov: (\d+) ft: (\d+)")
_EXECUTED = re.compile(r"stat::number_of_executed_units: (\d+)")


@dataclass(frozen=True)
class Outcome:
    """What one parser's turn gave."""

    name: str
    executions: int
    per_second: int
    edges: int  # of the instrumented code, reached from this parser
    features: int
    finding: str  # empty: none


def material(folder: Path, vectors: Path | None) -> Material:
    """Samples of every simulated platform, made once."""
    accepted_evidence = {
        name: make(folder / str(at)) for at, (name, make) in enumerate(ACCEPTED_EVIDENCE.items())
    }
    return Material(accepted_evidence, vectors, PROJECT / "tests" / "vectors")


def find_vectors() -> Path | None:
    """As the tests look for them."""
    named = os.environ.get("REGALIA_VECTORS")
    folder = Path(named) if named else PROJECT.parent / "shared" / "vectors"
    return folder if folder.is_dir() else None


def write_seeds(target: Target, source: Material, folder: Path) -> None:
    """Files that libFuzzer begins with, named by their content."""
    folder.mkdir(parents=True, exist_ok=True)
    seeds = {seed for seed in target.seeds(source) if len(seed) <= target.max_size}
    for seed in seeds:
        (folder / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)


@dataclass(frozen=True)
class Turn:
    """One parser's turn, in a child process, as libFuzzer ends its process."""

    target: Target
    once: Callable[[bytes], None]
    corpus: Path
    work: Path
    seconds: int

    def begin(self) -> tuple[int, float]:
        """The child's process id, and when it began."""
        self.work.mkdir(parents=True)
        began = time.monotonic()
        child = os.fork()
        if child == 0:
            try:
                libfuzzer(self)
            except BaseException:  # noqa: BLE001 - it must not unwind into its parent's code
                traceback.print_exc()
            finally:
                os._exit(2)
        return child, began

    def outcome(self, status: int, began: float) -> Outcome:
        """When the child has ended."""
        text = (self.work / "log").read_text(errors="replace")
        executed, covered = _EXECUTED.findall(text), _COVERAGE.findall(text)
        executions = int(executed[-1]) if executed else 0
        edges, features = map(int, covered[-1]) if covered else (0, 0)
        per_second = round(executions / (time.monotonic() - began))
        finding = describe(text, self.work) if os.waitstatus_to_exitcode(status) else ""
        return Outcome(self.target.name, executions, per_second, edges, features, finding)


def libfuzzer(turn: Turn) -> None:
    """Fuzz, and end this process; what libFuzzer says goes to the log."""
    descriptor = os.open(turn.work / "log", os.O_WRONLY | os.O_CREAT)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)

    def once(data: bytes) -> None:
        try:
            turn.once(data)
        except BaseException:
            (turn.work / "crash").write_bytes(data)
            raise

    atheris.Setup(
        [
            "fuzz",
            f"-max_total_time={turn.seconds}",
            f"-max_len={turn.target.max_size}",
            f"-timeout={TIMEOUT_S}",
            f"-rss_limit_mb={MEMORY_MIB}",
            f"-artifact_prefix={turn.work}/",
            "-print_final_stats=1",
            str(turn.corpus),
        ],
        once,
        custom_mutator=lambda data, size, seed: mutated(data, size, seed, atheris.Mutate),
    )
    atheris.Fuzz()


def describe(text: str, work: Path) -> str:
    """The traceback or libFuzzer's own words, and the input."""
    at = max(text.find("=== Uncaught"), text.find("ERROR: libFuzzer"), 0)
    inputs = [path for path in work.iterdir() if path.name != "log"]
    shown = "\n".join(f"input {path.name}: {path.read_bytes()[:4096].hex()}" for path in inputs)
    return f"{text[at : at + 3000]}\n{shown}"


def run(seconds: int, only: str, corpora: Path | None, jobs: int) -> list[Outcome]:
    """All parsers and all verifiers, ``jobs`` at a time; absent ones are said to be absent."""
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory(prefix="regalia-fuzz-") as name:
        folder = Path(name)
        source = material(folder / "platforms", find_vectors())
        chosen = choose(source, only)
        each = max(SECONDS_EACH, seconds * jobs // len(chosen))
        waiting = []
        for number, (target, once) in enumerate(chosen.items()):
            corpus = (corpora or folder / "corpus") / target.name.replace(" ", "-")
            write_seeds(target, source, corpus)
            waiting.append(Turn(target, once, corpus, folder / "work" / str(number), each))
        running: dict[int, tuple[Turn, float]] = {}
        while waiting or running:
            while waiting and len(running) < jobs:
                turn = waiting.pop(0)
                child, began = turn.begin()
                running[child] = (turn, began)
            child, status = os.wait()
            turn, began = running.pop(child)
            outcomes.append(turn.outcome(status, began))
            show(outcomes[-1])
    return outcomes


def show(outcome: Outcome) -> None:
    """One line."""
    print(
        f"{outcome.name:27} {outcome.executions:9} runs {outcome.per_second:7}/s"
        f" {outcome.edges:5} edges {'FINDING' if outcome.finding else 'ok'}",
        flush=True,
    )


def choose(source: Material, only: str) -> dict[Target, Callable[[bytes], None]]:
    """Targets whose name contains ``only``, with what the fuzzer calls."""
    for target in TARGETS:
        if target.name not in LOADED:
            print(f"skipped: {target.name} ({target.parser} is not here)", flush=True)
    parsers = {each: LOADED[each.name] for each in TARGETS if each.name in LOADED}
    found = {
        target: once
        for target, once in (parsers | verifiers(source)).items()
        if only.lower() in target.name.lower()
    }
    if not found:
        raise SystemExit(f"no parser is named like {only!r}")
    return found


def main() -> int:
    """Run, and say what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="for all parsers together")
    parser.add_argument("--only", default="", help="parsers whose name contains this")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--corpus", type=Path, help="keep what was learned here, and start from it")
    parser.add_argument("--json", type=Path, help="write the outcomes to this file too")
    args = parser.parse_args()
    outcomes = run(args.seconds, args.only, args.corpus, args.jobs)
    if args.json:
        args.json.write_text(json.dumps([asdict(each) for each in outcomes], indent=1))
    found = [each for each in outcomes if each.finding]
    for each in found:
        print(f"\n--- {each.name}\n{each.finding}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
