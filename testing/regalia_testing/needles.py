"""Needles: short pieces of a model's plaintext weights, and where they turn up.

They are taken from the plaintext by a process that plays no part in serving. Finding one in a
file, a core dump or another process's memory means that weights leaked there.
"""

from __future__ import annotations

import mmap
import os
import random
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

NEEDLE_SIZE = 48  # bytes
_WINDOW = 8 << 20  # bytes read at a time
_PAGE = mmap.PAGESIZE


@dataclass(frozen=True, slots=True)
class Needles:
    """Distinct pieces of weights. Kept apart from everything that is searched."""

    pieces: tuple[bytes, ...]

    def found_in(self, blocks: Iterable[bytes]) -> int:
        """How many different needles occur in consecutive blocks of one byte stream."""
        missing = set(self.pieces)
        tail = b""
        for block in blocks:
            window = tail + block
            # One memmem(3) for each needle is many times faster than one regular expression.
            missing -= {piece for piece in missing if piece in window}
            if not missing:
                break
            tail = window[-(NEEDLE_SIZE - 1) :]
        return len(self.pieces) - len(missing)

    def widened(self) -> Needles:
        """The same numbers, from bfloat16 to float32, as engines may hold them."""
        pairs = [[piece[at : at + 2] for at in range(0, len(piece), 2)] for piece in self.pieces]
        return Needles(tuple(b"".join(b"\0\0" + pair for pair in each) for each in pairs))


def pick_needles(weights: Path, count: int, seed: int) -> Needles:
    """Take ``count`` random needles from the tensors of a safetensors or GGUF file."""
    rng = random.Random(seed)  # noqa: S311 - a sample, not a secret
    pieces: set[bytes] = set()
    with weights.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as data:
        start = _tensors_start(data)
        while len(pieces) < count:
            at = rng.randrange(start, len(data) - NEEDLE_SIZE)
            at -= (at - start) % 2  # the beginning of a number of two bytes
            piece = data[at : at + NEEDLE_SIZE]
            # Runs of few values (padding, norms) may stand in any file by chance.
            if len(set(piece)) >= NEEDLE_SIZE // 2:
                pieces.add(piece)
    return Needles(tuple(sorted(pieces)))


def _tensors_start(data: mmap.mmap) -> int:
    """Where a file certainly has tensors from."""
    if data[:4] == b"GGUF":
        return len(data) // 2  # behind the vocabulary, which is much smaller than the tensors
    return 8 + int.from_bytes(data[:8], "little")  # after the safetensors header


def file_blocks(path: Path) -> Iterator[bytes]:
    """The file's bytes, in blocks."""
    with path.open("rb") as file:
        while block := file.read(_WINDOW):
            yield block


def files_under(folders: Iterable[Path]) -> Iterator[Path]:
    """Every regular file under the folders."""
    for folder in folders:
        yield from (p for p in sorted(folder.rglob("*")) if p.is_file() and not p.is_symlink())


def process_blocks(pid: int) -> Iterator[bytes]:
    """Readable memory of a process, as root reads it through /proc."""
    maps = Path(f"/proc/{pid}/maps").read_text(encoding="utf-8").splitlines()
    memory = os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
    try:
        for line in maps:
            span, permissions = line.split()[:2]
            if permissions.startswith("r") and not line.endswith(("[vvar]", "[vsyscall]")):
                start, end = (int(part, 16) for part in span.split("-"))
                yield from _span(memory, start, end)
    finally:
        os.close(memory)


def _span(memory: int, start: int, end: int) -> Iterator[bytes]:
    at = start
    while at < end:
        try:
            block = os.pread(memory, min(_WINDOW, end - at), at)
        except OSError:
            block = b""  # a guard page, a device, or memfd_secret: unreadable even for root
        if block:
            yield block
        at += len(block) or _PAGE
