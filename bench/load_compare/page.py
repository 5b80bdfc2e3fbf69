"""Writes the results as a page and an image."""

from __future__ import annotations

import os
import platform
import statistics
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from chart import Bar, chart
from harness import GB, spread, threads
from loaders import (
    CRYPTOTENSORS,
    DECRYPTION,
    FAULTED,
    FRESH,
    LOADERS,
    PLAIN,
    PLAIN_AGAIN,
    PREADV,
    PREADV_AGAIN,
    SEALED,
    SEALED_AGAIN,
    SEALED_INTO,
    TENSORIZER_ENCRYPTED,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from loaders import Loader

Runs = dict[str, list[dict[str, float]]]

# As bench/seal_speed.py calls them.
COPY, SEAL, HASH = "cp -r, then fsync", "seal", "one SHA-256 over everything"
_HEADINGS = (
    "loader",
    "encrypted",
    "median s",
    "GB/s",
    "wall / first row",
    "CPU / first row",
    "first bytes ms",
    "peak / model",
)
_METHOD = (
    "Each run is a process of its own: the loader's files are brought into the page cache, what it",
    "needs is imported, then the clock starts. It stops when every byte of every tensor is in",
    "private memory of the process. Bits are compared in a run that is not timed. Ratios are of",
    "two runs in the same round: the median, and the range in parentheses. Peak is memory beside",
    "what the process had before.",
)
PACKAGES = (
    "torch",
    "safetensors",
    "cryptography",
    "tensorizer",
    "cryptotensors",
    "runai-model-streamer",
    "fastsafetensors",
)


@dataclass(frozen=True)
class Results:
    """What was measured."""

    size: int  # bytes of the model
    runs: Runs
    absent: dict[str, str]  # loaders that cannot run here, and why
    sealing: Runs
    load_average: tuple[float, float]  # before and after


@dataclass(frozen=True)
class Goal:
    """A ratio of two measured things, and what it should be.

    Attributes:
        name: as it stands in the table.
        above: what is divided.
        below: by what.
        wanted: at most this, or at least.
        bound: what our side of the ratio consists of at the very least, one after the other.
        at_least: whether the ratio should be large; our side is then ``below``.
    """

    name: str
    above: str
    below: str
    wanted: float
    bound: tuple[str, ...]
    at_least: bool = False


# Ciphertext is copied before it is decrypted (ADR 0021), so both take their time. Sealing hashes
# what it reads and what it writes: with two cores, each does one of them.
_COPIED = (PREADV_AGAIN, DECRYPTION)
GOALS = (
    Goal("fresh memory: sealed / load_file + clone", SEALED, PLAIN, 0.45, (PREADV,)),
    Goal("faulted in: load_into parameters / preadv", SEALED_INTO, PREADV_AGAIN, 1.00, _COPIED),
    Goal("faulted in: whole stream / plain preadv", SEALED_AGAIN, PREADV_AGAIN, 1.00, _COPIED),
    Goal(
        "tensorizer encrypted / sealed", TENSORIZER_ENCRYPTED, SEALED, 2.5, (PREADV,), at_least=True
    ),
    Goal("cryptotensors / sealed", CRYPTOTENSORS, SEALED, 1.5, (PREADV,), at_least=True),
    Goal("seal / cp", SEAL, COPY, 1.2, (HASH,)),
)


def paired(above: Sequence[dict[str, float]], below: Sequence[dict[str, float]], what: str) -> str:
    """Median and range of the ratios of two runs of one round each."""
    ratios = [mine[what] / base[what] for mine, base in zip(above, below, strict=True)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def write_page(results: Results, page: Path) -> None:
    """Write the page, and its image beside it."""
    image = page.with_suffix(".svg")
    page.parent.mkdir(parents=True, exist_ok=True)
    image.write_text(chart(_groups(results)), encoding="utf-8")
    page.write_text("\n".join(_lines(results, image.name)) + "\n", encoding="utf-8")


def _groups(results: Results) -> list[tuple[str, list[Bar]]]:
    groups = []
    titles = ("Into fresh memory", "Into memory that is there already, and ceilings")
    for title, loaders in zip(titles, (FRESH, FAULTED), strict=True):
        bars = []
        for loader in loaders:
            if runs := results.runs.get(loader.name):
                speeds = [results.size / run["wall"] / GB for run in runs]
                median = statistics.median(speeds)
                bars.append(Bar(loader.name, median, min(speeds), max(speeds)))
        groups.append((f"{title}: {results.size / GB:.1f} GB, page cache warm", bars))
    return groups


def _lines(results: Results, image: str) -> list[str]:
    rounds = len(results.runs[PLAIN])
    noisy = spread(results.runs[PLAIN])
    lines = [
        "# Loading: sealed beside plain and beside others",
        "",
        f"Written by `make bench-load`: {results.size / GB:.2f} GB of random bf16 in four files,",
        f"{rounds} interleaved rounds, {threads()} threads for every loader that takes a number.",
        "",
        *(f"- {line}" for line in _machine(results)),
        "",
        *_METHOD,
        "",
    ]
    if noisy > 2:
        lines += [
            f"**Noisy:** the plain loader itself spread by {noisy:.1f}. Do not trust these",
            "figures; run again on a quieter machine.",
            "",
        ]
    lines += [f"![Bars of GB/s]({image})", "", "## Into fresh memory", ""]
    lines += _table(results, FRESH, PLAIN)
    lines += ["", "## Into memory that is there already", ""]
    lines += _table(results, FAULTED, PLAIN_AGAIN)
    lines += ["", "## Sealing", ""]
    lines += _sealing(results)
    lines += [
        "",
        "## Goals",
        "",
        "The bound is the same ratio if our side did nothing but read into fresh memory; read, and",
        "decrypt in the cache; or hash once on each core.",
        "",
        "| ratio of wall times | wanted | measured | | bound in this run |",
        "|---|---|---|---|---|",
    ]
    lines += [_goal(goal, {**results.runs, **results.sealing}) for goal in GOALS]
    return lines


def _machine(results: Results) -> list[str]:
    before, after = results.load_average
    cores = len(os.sched_getaffinity(0))
    system = f"Linux {platform.release()}, Python {platform.python_version()}"
    return [
        f"{_cpu()}, {cores} cores, {_memory()} GiB, {system}",
        f"load average {before:.1f} before and {after:.1f} after",
        ", ".join(f"{name} {_version(name)}" for name in PACKAGES),
    ]


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 30


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"


def _table(results: Results, loaders: Sequence[Loader], baseline: str) -> list[str]:
    lines = [f"| {' | '.join(_HEADINGS)} |", "|---" * len(_HEADINGS) + "|"]
    for loader in loaders:
        if loader.name in results.absent:
            why = results.absent[loader.name]
            lines.append(f"| {loader.name} | {loader.encrypted} | not run: {why} | | | | | |")
            continue
        runs, base = results.runs[loader.name], results.runs[baseline]
        wall = statistics.median(run["wall"] for run in runs)
        peak = statistics.median(run["peak_kib"] for run in runs) * 1024 / results.size
        cells = [
            loader.name,
            loader.encrypted,
            f"{wall:.3f}",
            f"{results.size / wall / GB:.2f}",
            paired(runs, base, "wall"),
            paired(runs, base, "cpu"),
            f"{1000 * statistics.median(run['first'] for run in runs):.0f}",
            f"{peak:.3f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _sealing(results: Results) -> list[str]:
    lines = ["| | median s | GB/s | wall / first row |", "|---|---|---|---|"]
    for name, runs in results.sealing.items():
        wall = statistics.median(run["wall"] for run in runs)
        ratio = paired(runs, results.sealing[COPY], "wall")
        lines.append(f"| {name} | {wall:.3f} | {results.size / wall / GB:.2f} | {ratio} |")
    return lines


def _goal(goal: Goal, runs: Runs) -> str:
    sign = "≥" if goal.at_least else "≤"
    if not runs.get(goal.above) or not runs.get(goal.below):
        return f"| {goal.name} | {sign} {goal.wanted:.2f} | not run | | |"
    above, below = _walls(runs[goal.above]), _walls(runs[goal.below])
    value = _ratio(above, below)
    met = value >= goal.wanted if goal.at_least else value <= goal.wanted
    least = [sum(walls) for walls in zip(*(_walls(runs[name]) for name in goal.bound), strict=True)]
    bound = _ratio(above, least) if goal.at_least else _ratio(least, below)
    cells = (f"{sign} {goal.wanted:.2f}", f"{value:.2f}", "met" if met else "not met")
    return f"| {goal.name} | {' | '.join(cells)} | {bound:.2f} |"


def _walls(runs: Sequence[dict[str, float]]) -> list[float]:
    return [run["wall"] for run in runs]


def _ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """Median of the ratios of two runs of one round each."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def check_names() -> None:
    """Every goal names something that is measured."""
    known = {*LOADERS, COPY, SEAL, HASH}
    named = {name for goal in GOALS for name in (goal.above, goal.below, *goal.bound)}
    if unknown := named - known:
        raise SystemExit(f"goals name {sorted(unknown)}")
