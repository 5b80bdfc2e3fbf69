"""Looks for weights and keys: in the memory of all processes, in files, and in shared memory."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from regalia.runtime.hosted.shared_memory import prefix_of
from regalia_testing.needles import file_blocks, files_under, process_blocks

if TYPE_CHECKING:
    from collections.abc import Iterable

    from regalia_demo.deployment import Deployment
    from regalia_testing.needles import Needles

IN_MEMORY = Path("/dev/shm")  # noqa: S108 - where engines keep what they pass to each other


@dataclass(frozen=True, slots=True)
class Place:
    """Where something was searched, and how much of it was found.

    Attributes:
        name: of the process, or of the files.
        weights: needles of the weights that were found.
        key: whether the model key was found.
        may_hold: whether weights belong there.
    """

    name: str
    weights: int
    key: bool
    may_hold: bool

    @property
    def as_expected(self) -> bool:
        """Weights are where they belong, and nowhere else. The key is nowhere else either.

        A search that did not find them where they are would show nothing.
        """
        return self.weights > 0 if self.may_hold else self.weights == 0 and not self.key


@dataclass(frozen=True, slots=True)
class Search:
    """What is looked for."""

    weights: Needles
    key: Needles

    def process(self, pid: int, name: str, *, may_hold: bool) -> Place:
        """Search the memory of a process, as root reads it."""
        # An engine may compute in float32 with numbers that the file has in bfloat16.
        forms = (self.weights, self.weights.widened())
        weights = max(form.found_in(process_blocks(pid)) for form in forms)
        key = self.key.found_in(process_blocks(pid)) > 0
        return Place(f"{name} ({pid})", weights, key, may_hold)

    def files(self, folders: Iterable[Path], name: str) -> Place:
        """Search all files below folders."""
        weights, key = 0, False
        for path in files_under(folders):
            weights = max(weights, self.weights.found_in(file_blocks(path)))
            key = key or self.key.found_in(file_blocks(path)) > 0
        return Place(name, weights, key, may_hold=False)


def descendants(pid: int) -> dict[int, str]:
    """Processes below one, by id, with their names."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                text = (folder / "stat").read_text(encoding="utf-8", errors="replace")
            except OSError:
                continue
            parents[int(folder.name)] = int(text.rpartition(")")[2].split()[1])
    found: set[int] = set()
    while more := {child for child, parent in parents.items() if parent in {pid, *found}} - found:
        found |= more
    return {child: _name(child) for child in sorted(found)}


def _name(pid: int) -> str:
    try:
        line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    except OSError:
        return "gone"
    words = line.split()
    if "-m" in words:
        return words[words.index("-m") + 1]
    return words[0].rpartition("/")[2] if words else "gone"


def keyed_workers(log: Path) -> list[int]:
    """Process ids of the workers that have a key, as the runtime's log tells them."""
    found = []
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith("{"):
            event = json.loads(line)
            if event.get("event") == "runtime.worker.keyed":
                found.append(int(event["pid"]))
    return found


def left_in_memory(runtime: int) -> list[str]:
    """Names of what a runtime's engine has left in shared memory."""
    patterns = (f"{prefix_of(runtime)}*", f"regalia-engine-{runtime}-*")
    return [path.name for pattern in patterns for path in IN_MEMORY.glob(pattern)]


def can_read_memory() -> bool:
    """Whether this user may read the memory of hardened processes."""
    return os.geteuid() == 0


def everywhere(deployment: Deployment, search: Search, runtime: int | None) -> list[Place]:
    """Search all processes and files of the deployment.

    Args:
        deployment: whose.
        search: what is looked for.
        runtime: process id of the runtime, if it runs.
    """
    places = [
        search.files(deployment.service_folders, "files of all services"),
        search.files([IN_MEMORY], "shared memory"),
    ]
    if not can_read_memory():
        return places
    for name, service in deployment.running.items():
        if name != "runtime" and service.process.poll() is None:
            places.append(search.process(service.pid, name, may_hold=False))
    if runtime is not None:
        workers = keyed_workers(deployment.root / "logs" / "runtime.log")
        holders = set(workers) or {runtime}  # without workers the engine is the runtime's own
        every = {runtime: "runtime", **descendants(runtime)}
        places += [
            search.process(
                pid, f"worker, {name}" if pid in workers else name, may_hold=pid in holders
            )
            for pid, name in every.items()
        ]
    return places
