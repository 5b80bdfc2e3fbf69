"""Which checks would no test miss? python scripts/mutate.py [--only PATTERN] [--jobs N].

Changes one place of one module at a time (``mutations.py`` says how), and runs the tests that
should notice. A mutant that survives is a check that no test would miss: it gets a test or, if
nothing that it changes can be observed, a reason in ``mutants_explained.toml``.

Nothing is written into the source tree. Each mutant is a fork of this process, which has loaded
pytest and the third-party modules that the tests need, and none of ours; the fork compiles the
changed module in memory. Tests that start processes of their own test the unchanged module there.

The tests that run the changed statement come first, the quickest before the others. A statement
that no test runs is a survivor without being tried. Hypothesis is made to repeat itself, so a
second run gives the same answers.

Exit status 1: a mutant survived without explanation, or an explanation fits no survivor.
"""

from __future__ import annotations

import argparse
import fnmatch
import gc
import importlib
import itertools
import json
import os
import pickle
import random
import re
import shutil
import signal
import sys
import tempfile
import time
import tomllib
import warnings
from collections import Counter, defaultdict
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from mutate_child import BEGAN, MISSING, Baseline, Changed, Chosen, fork, run_baseline, run_chosen
from mutations import Finder

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from mutations import Mutant

_COLLATERAL_TESTS = "tests/verifier/test_collateral*.py"
_VERIFIER_TESTS = (
    f"tests/verifier/test_composite.py tests/verifier/test_registry.py {_COLLATERAL_TESTS}"
)
# Modules, and the tests that answer for them: quick ones of the module itself, as a survivor goes
# through all of them. ``*`` and ``{tee}`` stand for one name in a path. Paths of tests are
# patterns too; those that match nothing are left out. The first row counts.
TARGETS = (
    ("src/regalia/tlog/*.py", "tests/tlog"),
    ("src/regalia/seal/reader.py", "tests/seal"),
    ("src/regalia/runtime/release.py", "tests/runtime"),
    ("src/regalia/policy/evaluate.py", "tests/policy"),
    ("src/regalia/verifier/*.py", _VERIFIER_TESTS),
    ("src/regalia/verifier/collateral/*.py", _COLLATERAL_TESTS),
    ("src/regalia/appraisal/claims.py", "tests/appraisal/test_unbound.py"),
    ("src/regalia/appraise/*.py", "tests/appraise"),
    ("src/regalia/tees/{tee}/evidence/verify.py", "tests/tees/{tee} tests/verifier/test_nonces.py"),
)

PROJECT = Path(__file__).parents[1]
EXPLAINED = PROJECT / "scripts" / "mutants_explained.toml"
KEY = ("module", "function", "line", "change")  # what an explanation says of its mutant
RSA_EXPONENT = 65537
RSA_KEYS = {2048: 4, 4096: 4}  # by size in bits; as many as most tests need
PROGRESS_EVERY = 25  # mutants, where no terminal shows a running line

hypothesis.settings.register_profile(
    "mutants",
    derandomize=True,
    database=None,
    phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],  # nobody reads the example
)


@dataclass(frozen=True)
class Target:
    """One module to change, and its tests."""

    root: Path
    path: Path
    module: str
    tests: tuple[str, ...]

    def mutants(self) -> list[Mutant]:
        """Each with a tree of its own module."""
        return Finder(self.module, self.path, self.root).mutants()


def find_targets(table: Sequence[tuple[str, str]], root: Path, only: str) -> list[Target]:
    """Modules of the table whose path has ``only`` in it, which may be a pattern."""
    found: dict[Path, Target] = {}
    for pattern, tests in table:
        shape = re.escape(pattern).replace(r"\*", "[^/]*").replace(r"\{tee\}", "(?P<tee>[^/]*)")
        for path in sorted(root.glob(pattern.replace("{tee}", "*"))):
            relative = path.relative_to(root)
            match = re.fullmatch(shape, str(relative))
            if path in found or match is None or not fnmatch.fnmatch(str(relative), f"*{only}*"):
                continue
            places = [place.format_map(match.groupdict()) for place in tests.split()]
            present = [str(each.relative_to(root)) for place in places for each in root.glob(place)]
            if not present:
                raise SystemExit(f"there are no tests of {relative}: {' '.join(places)}")
            module = ".".join(relative.with_suffix("").parts[1:]).removesuffix(".__init__")
            found[path] = Target(root, path, module, tuple(sorted(set(present))))
    if not found:
        raise SystemExit(f"no module is named like {only!r}")
    return list(found.values())


@dataclass(frozen=True)
class Trial:
    """Tests over one mutant."""

    mutant: Mutant
    rest: list[str]  # those to run next if these pass
    work: Path
    ends: float  # on the monotonic clock: when it has lasted too long

    @property
    def test(self) -> str:
        """The one that began last."""
        file = self.work / BEGAN
        return file.read_text() if file.exists() else "(none: it cannot be imported)"


class Testbed:
    """Prepares this process, and makes its forks."""

    def __init__(
        self, root: Path, folder: Path, targets: Iterable[Target], *, wait_s: float
    ) -> None:
        self._root = root
        self._wait_s = wait_s
        self._folder = folder
        self._paths = frozenset(str(target.path) for target in targets)
        self._count = 0
        self._baselines: dict[tuple[str, ...], Baseline] = {}
        self._keys_are_ready = False
        sources = [str(root / name) for name in ("src", "testing", "demo")]
        sys.path[:0] = sources
        sys.pycache_prefix = str(folder / "pycache")
        os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix
        os.environ["PYTHONPATH"] = os.pathsep.join(sources)
        os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = str(folder / "hypothesis")
        hypothesis.settings.load_profile("mutants")
        os.chdir(root)

    def baseline(self, tests: tuple[str, ...]) -> Baseline:
        """What these tests run. Afterwards the third-party modules are loaded here."""
        if tests not in self._baselines:
            made = self._baselines[tests] = Baseline(self._paths)
            work = self._work()
            child = fork(work, lambda: run_baseline(self._root, work, tests, made))
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            if status not in {pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED}:
                raise SystemExit((work / "output").read_text())
            vars(made).update(pickle.loads((work / "baseline").read_bytes()))  # noqa: S301 - ours
            for test in sorted(made.failed):
                print(f"left out, as it fails without a mutant: {test}", flush=True)
            if rsa.__name__ in made.loaded and not self._keys_are_ready:
                ready_rsa_keys(RSA_KEYS)
                self._keys_are_ready = True
            _load(made.loaded)
            for test in self._check(made):
                print(f"left out, as its name is another in each run: {test}", flush=True)
                del made.seconds[test]
        return self._baselines[tests]

    def _check(self, baseline: Baseline) -> list[str]:
        """The tests must pass in a fork without any mutant. Returns those that are not found."""
        child, work = self._fork(None, baseline.others(()), baseline)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status:
            raise SystemExit(f"{(work / 'output').read_text()}\nwithout a mutant: {status}")
        return (work / MISSING).read_text().splitlines()

    def run(
        self, mutants: Iterator[Mutant], baseline: Baseline, jobs: int
    ) -> Iterator[tuple[Mutant, str]]:
        """What becomes of each mutant, in the order in which that is known."""
        running: dict[int, Trial] = {}
        kills: dict[str, Counter[str]] = defaultdict(Counter)
        try:
            while True:
                while len(running) < jobs and (mutant := next(mutants, None)):
                    tests = baseline.tests_of(mutant.path, mutant.header)
                    # What noticed another change of this function may well notice this one.
                    tests.sort(key=kills[mutant.function].__getitem__, reverse=True)
                    if tests:
                        running |= [self._begin(mutant, tests, baseline.others(tests), baseline)]
                    else:
                        yield mutant, "unreached"
                if not running:
                    return
                trial, killed = _wait(running)
                if killed:
                    kills[trial.mutant.function][trial.test] += 1
                    yield trial.mutant, "killed"
                elif trial.rest:
                    running |= [self._begin(trial.mutant, trial.rest, [], baseline)]
                else:
                    yield trial.mutant, "survived"
                shutil.rmtree(trial.work, ignore_errors=True)
        finally:
            for child in running:  # of an interrupted run
                os.killpg(child, signal.SIGKILL)

    def _begin(
        self, mutant: Mutant, tests: list[str], rest: list[str], baseline: Baseline
    ) -> tuple[int, Trial]:
        child, work = self._fork(mutant, tests, baseline)
        seconds = sum(baseline.seconds[test] for test in tests)
        return child, Trial(mutant, rest, work, time.monotonic() + self._wait_s + 10 * seconds)

    def _fork(
        self, mutant: Mutant | None, tests: list[str], baseline: Baseline
    ) -> tuple[int, Path]:
        work = self._work()
        seconds = {test: baseline.seconds[test] for test in tests}
        chosen = Chosen(seconds, work, spare=2 + 3 * baseline.setup)

        def run() -> int:
            changed = Changed(mutant.module, mutant.path, mutant.compiled()) if mutant else None
            return run_chosen(self._root, work, chosen, changed)

        return fork(work, run), work

    def _work(self) -> Path:
        self._count += 1
        return self._folder / str(self._count)


def ready_rsa_keys(counts: Mapping[int, int]) -> None:
    """Make RSA keys, which forks then take: making one takes longer than most tests.

    Args:
        counts: how many of each size in bits. Who needs more makes them.
    """
    make = rsa.generate_private_key
    ready = {bits: iter([make(RSA_EXPONENT, bits) for _ in range(n)]) for bits, n in counts.items()}

    def take(public_exponent: int, key_size: int) -> rsa.RSAPrivateKey:
        usual = ready.get(key_size, iter(())) if public_exponent == RSA_EXPONENT else iter(())
        return next(usual, None) or make(public_exponent, key_size)

    rsa.generate_private_key = take


def _load(modules: Iterable[str]) -> None:
    """Import what the tests need and what is none of ours, so that forks need not."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in modules:
            with suppress(Exception):  # the fork imports it as the tests do
                importlib.import_module(name)
    gc.freeze()  # pytest collects garbage at its end; forks need not go through all this


def _wait(running: dict[int, Trial]) -> tuple[Trial, bool]:
    """The next trial that ends, and whether a test failed. Ends what lasts too long."""
    while True:
        for child, trial in running.items():
            ended, status = os.waitpid(child, os.WNOHANG)
            late = time.monotonic() > trial.ends
            if ended or late:
                with suppress(ProcessLookupError):
                    os.killpg(child, signal.SIGKILL)  # with the processes that it left behind
                if not ended:
                    os.waitpid(child, 0)
                if late or os.WIFSIGNALED(status):
                    print(f"killed, as it takes too long: {trial.mutant}: {trial.test}", flush=True)
                return running.pop(child), bool(late or status)
        time.sleep(0.01)


def read_explained(file: Path) -> dict[tuple[str, ...], str]:
    """Reasons by module, function, source line and change."""
    found = {}
    for row in tomllib.loads(file.read_text(encoding="utf-8")).get("mutant", []):
        key = tuple(row.pop(name) for name in KEY)
        if key in found or set(row) != {"reason"} or not row["reason"]:
            raise SystemExit(f"{file.name}: a second entry, or one without its reason: {key}")
        found[key] = row["reason"]
    return found


@dataclass
class Outcome:
    """What became of one module's mutants."""

    module: str
    mutants: int
    killed: int = 0
    explained: int = 0
    seconds: float = 0
    survivors: list[dict[str, str]] = field(default_factory=list)
    stale: list[tuple[str, ...]] = field(default_factory=list)  # explanations of no survivor

    def add(self, mutant: Mutant, status: str, reasons: dict[tuple[str, ...], str]) -> None:
        """Count one."""
        if status == "killed":
            self.killed += 1
        elif mutant.key in reasons:
            self.explained += 1
            self.stale.remove(mutant.key)
        else:
            found = dict(zip(KEY, mutant.key, strict=True))
            self.survivors.append({"status": status, "place": mutant.place, **found})
            print(f"{status}: {mutant}", flush=True)

    @property
    def left(self) -> int:
        """Mutants for which there was no time."""
        return self.mutants - self.killed - self.explained - len(self.survivors)

    @property
    def bad(self) -> bool:
        """Whether somebody has to do something."""
        return bool(self.survivors or (self.stale and not self.left))


def examine(
    bench: Testbed, target: Target, reasons: dict[tuple[str, ...], str], jobs: int, seconds: float
) -> Outcome:
    """Try the mutants of one module, for so many seconds."""
    mutants = target.mutants()
    outcome = Outcome(target.module, len(mutants))
    outcome.stale = [key for key in reasons if key[0] == target.module]
    if not mutants:
        return outcome
    baseline = bench.baseline(target.tests)
    began = time.monotonic()
    if seconds != float("inf"):
        random.Random(0).shuffle(mutants)  # noqa: S311 - a sample of the whole module
    in_time = itertools.takewhile(lambda _: time.monotonic() < began + seconds, mutants)
    for mutant, status in bench.run(in_time, baseline, jobs):
        outcome.add(mutant, status, reasons)
        outcome.seconds = time.monotonic() - began
        _progress(outcome)
    return outcome


def _progress(outcome: Outcome) -> None:
    done = outcome.mutants - outcome.left
    line = f"{outcome.module}: {done}/{outcome.mutants}, {len(outcome.survivors)} survived"
    if sys.stdout.isatty():
        print(f"\r\x1b[K{line}", end="" if outcome.left else "\n", flush=True)
    elif done % PROGRESS_EVERY == 0 or not outcome.left:
        print(line, flush=True)


def show(outcomes: Iterable[Outcome]) -> None:
    """The table, with what somebody has to do below it."""
    print(f"\n{'module':44} mutants killed survived explained left seconds")
    for each in outcomes:
        print(
            f"{each.module:44} {each.mutants:7} {each.killed:6} {len(each.survivors):8}"
            f" {each.explained:9} {each.left:4} {each.seconds:7.0f}"
        )
    for each in outcomes:
        for row in each.survivors:
            print(f"\n{row['status']}: {row['place']} {row['function']}")
            print(f"    {row['line']}\n    {row['change']}")
        for key in () if each.left else each.stale:
            print(f"\nexplained, but no survivor: {' | '.join(key)}")


def run(
    table: Sequence[tuple[str, str]], root: Path, explained: Path, args: argparse.Namespace
) -> int:
    """Try the mutants of the table's modules, and say what became of them."""
    targets = find_targets(table, root, args.only)
    reasons = read_explained(explained)
    output = args.json and args.json.absolute()  # the folder will be another
    if args.list:
        for mutant in itertools.chain.from_iterable(each.mutants() for each in targets):
            print(mutant)
        return 0
    outcomes = []
    with tempfile.TemporaryDirectory(prefix="mutate-") as folder:
        bench = Testbed(root, Path(folder), targets, wait_s=args.wait)
        ends = time.monotonic() + args.seconds
        for number, target in enumerate(targets):
            share = (ends - time.monotonic()) / (len(targets) - number)
            outcomes.append(examine(bench, target, reasons, args.jobs, share))
    known = {target.module for target in targets}
    if not args.only:
        outcomes += [Outcome(key[0], 0, stale=[key]) for key in reasons if key[0] not in known]
    show(outcomes)
    if output:
        output.write_text(json.dumps([asdict(each) for each in outcomes], indent=1))
    return 1 if any(each.bad for each in outcomes) else 0


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="modules whose path has this in it; a pattern")
    parser.add_argument("--jobs", type=int, default=2, help="mutants at a time")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="for all modules")
    # The processor time of a fork is limited in it; this is for one that waits for something.
    parser.add_argument("--wait", type=float, default=120, help="seconds, at most, for a mutant")
    parser.add_argument("--list", action="store_true", help="show the mutants, and run nothing")
    parser.add_argument("--json", type=Path, help="write the outcomes to this file too")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(run(TARGETS, PROJECT, EXPLAINED, parse(sys.argv[1:])))
