"""What the benchmarks of sealed models share: a synthetic model, fresh processes, medians."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

MIB = 1 << 20
GB = 1e9
_FILES = 4
_TENSORS = 32  # in each file
_BLOCK = 8 * MIB


def write_synthetic(folder: Path, size: int) -> Path:
    """Safetensors files of random bf16 values (bytes that do not compress), ``size`` in all."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_bytes(b'{"architectures":["Synthetic"]}')
    each = size // _FILES // _TENSORS // 2 * 2
    for number in range(_FILES):
        header = {
            f"layers.{number}.{tensor}.weight": {
                "dtype": "BF16",
                "shape": [each // 2],
                "data_offsets": [tensor * each, (tensor + 1) * each],
            }
            for tensor in range(_TENSORS)
        }
        encoded = json.dumps(header).encode()
        encoded += b" " * (-len(encoded) % 8)
        with (folder / f"model-{number + 1:05}-of-{_FILES:05}.safetensors").open("wb") as file:
            file.write(len(encoded).to_bytes(8, "little") + encoded)
            left = each * _TENSORS
            while left:
                left -= file.write(os.urandom(min(left, _BLOCK)))
    return folder


def files_below(folder: Path) -> list[Path]:
    """Every plain file, in a stable order."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def total_size(folder: Path) -> int:
    """Bytes of all files."""
    return sum(path.stat().st_size for path in files_below(folder))


def warm(folder: Path) -> None:
    """Bring every file into the page cache."""
    buffer = bytearray(_BLOCK)
    for path in files_below(folder):
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass


def threads() -> int:
    """How many threads every loader gets."""
    return min(len(os.sched_getaffinity(0)), 8)


def memory_kib(field: str) -> int:
    """A field of /proc/self/status, KiB."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1])
    raise KeyError(field)


def child(script: str, *args: str, secret: str = "") -> dict[str, float]:
    """Run a script in a fresh process; its last line of output is JSON. Secrets go by stdin."""
    done = subprocess.run(
        [sys.executable, script, *args], input=secret, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise SystemExit(f"{args}: {done.stderr}")
    measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return measured


@dataclass(frozen=True)
class Summary:
    """Medians of one measured thing, and its ratio to the baseline of the same round."""

    name: str
    seconds: float
    best: float
    ratio: float
    ratio_min: float
    ratio_max: float
    cpu_ratio: float
    extra: dict[str, float]

    def as_dict(self) -> dict[str, object]:
        """For ``--json``."""
        return {**self.__dict__}


def summarize(
    rounds: dict[str, list[dict[str, float]]], baseline: str, extras: Sequence[str] = ()
) -> list[Summary]:
    """Paired ratios: each round's value by the baseline's value in that round."""
    summaries = []
    for name, values in rounds.items():
        ratios = [
            mine["wall"] / base["wall"] for mine, base in zip(values, rounds[baseline], strict=True)
        ]
        cpu = [
            mine["cpu"] / base["cpu"] for mine, base in zip(values, rounds[baseline], strict=True)
        ]
        walls = [value["wall"] for value in values]
        summaries.append(
            Summary(
                name=name,
                seconds=statistics.median(walls),
                best=min(walls),
                ratio=statistics.median(ratios),
                ratio_min=min(ratios),
                ratio_max=max(ratios),
                cpu_ratio=statistics.median(cpu),
                extra={
                    key: statistics.median(value[key] for value in values)
                    for key in extras
                    if all(key in value for value in values)
                },
            )
        )
    return summaries


def percentile(values: Sequence[float], share: float) -> float:
    """By nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def spread(values: list[dict[str, float]]) -> float:
    """Slowest by fastest. Above two, the machine was too busy for the numbers to mean much."""
    walls = [value["wall"] for value in values]
    return max(walls) / min(walls)


def interleaved(count: int, names: Sequence[str]) -> Iterator[tuple[int, str]]:
    """Every name once in each round, beginning with another one each time."""
    for number in range(count):
        first = number % len(names)
        for name in [*names[first:], *names[:first]]:
            yield number, name


def show_table(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A rich table on standard output."""
    from rich.console import Console  # noqa: PLC0415 - children do not need it
    from rich.table import Table  # noqa: PLC0415

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=140)
    table = Table(title=title, title_justify="left")
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="left" if number == 0 else "right")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def note(text: str) -> None:
    """What is going on, on standard error."""
    print(text, file=sys.stderr, flush=True)


def best_of(count: int, action: Callable[[], float]) -> float:
    """The smallest of several timings: nearest to a quiet machine."""
    return min(action() for _ in range(count))
