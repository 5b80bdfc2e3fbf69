"""Reads the memory of another process, to look for pieces of weights in it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def memory_blocks(pid: int, ranges: Sequence[tuple[int, int]]) -> tuple[list[bytes], list[bytes]]:
    """Readable memory of a process: what lies in given ranges (address, size), and the rest."""
    inside, outside = [], []
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            span, rights, *_, name = (
                line.split(maxsplit=5) if line.count(" ") > 5 else (*line.split(), "")
            )
            first, last = (int(item, 16) for item in span.split("-"))
            if "r" not in rights or name.startswith("[v"):
                continue
            memory.seek(first)
            block = memory.read(last - first)
            ours = any(first < at + size and at < last for at, size in ranges)
            (inside if ours else outside).append(block)
    return inside, outside
