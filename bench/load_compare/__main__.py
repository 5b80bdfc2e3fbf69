"""Loads one model with every loader, side by side. Usage: python bench/load_compare --help.

See docs/benchmarks/loading.md, which this writes. ``make bench-load`` installs the loaders first.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from files import Files
from harness import child, interleaved, memory_kib, note, total_size, warm, write_synthetic
from loaders import LOADERS
from page import COPY, HASH, SEAL, Results, check_names, write_page

_HERE = str(Path(__file__).parent)
_SEALING = str(Path(__file__).parents[1] / "seal_speed.py")
_PAGE = Path("docs/benchmarks/loading.md")
_REASON = 120  # characters of a table's cell


# --- in the child: one loader, one run


def run_child(name: str, root: Path, *, check: bool) -> None:
    warnings.simplefilter("ignore")
    loader, files = LOADERS[name], Files(root)
    import torch  # noqa: PLC0415

    torch.set_num_threads(1)  # more OpenMP threads spin, and took four times as long to copy
    load = loader.setup(files)
    warm(loader.folder(files))
    seen: dict[str, float] = {}
    rss, cpu, began = memory_kib("VmRSS"), time.process_time(), time.perf_counter()
    children = os.times()
    tensors = load(lambda: seen.setdefault("first", time.perf_counter() - began))
    wall, after = time.perf_counter() - began, os.times()
    cpu = time.process_time() - cpu
    cpu += after.children_user + after.children_system
    cpu -= children.children_user + children.children_system
    if check and tensors is not None:
        compare(tensors, files)
    peak = memory_kib("VmHWM") - rss
    first = seen.get("first", wall)
    print(json.dumps({"wall": wall, "cpu": cpu, "first": first, "peak_kib": float(peak)}))


def compare(tensors: dict[str, Any], files: Files) -> None:
    """Every tensor is there, with the same bits."""
    import torch  # noqa: PLC0415
    from files import weights  # noqa: PLC0415
    from safetensors.torch import load_file  # noqa: PLC0415

    count = 0
    for path in weights(files.plain):
        for name, want in load_file(path).items():
            got = tensors[name]
            if not torch.equal(
                got.reshape(-1).view(torch.int16), want.reshape(-1).view(torch.int16)
            ):
                raise SystemExit(f"{name}: other bits")
            count += 1
    if count != len(tensors):
        raise SystemExit(f"{len(tensors)} tensors, of {count}")


# --- in the parent


def prepare(files: Files) -> dict[str, str]:
    """Write every format, and load each once to compare bits. Returns who cannot run, and why."""
    absent: dict[str, str] = {}
    for loader in LOADERS.values():
        note(f"preparing: {loader.name}")
        try:
            if loader.write is not None:
                loader.write(files)
            child(_HERE, "--check", loader.name, str(files.root))
        except (Exception, SystemExit) as exc:  # noqa: BLE001 - whatever the loader of others says
            absent[loader.name] = reason(exc)
            note(f"  cannot run here: {absent[loader.name]}")
    return absent


def reason(exc: BaseException) -> str:
    """The last line of what was said, for a cell of a table."""
    lines = [line for line in str(exc).splitlines() if line.strip()] or [type(exc).__name__]
    return lines[-1].replace("|", "/")[:_REASON]


def measure(files: Files, rounds: int) -> Results:
    before = os.getloadavg()[0]
    absent = prepare(files)
    names = [name for name in LOADERS if name not in absent]
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    sealing: dict[str, list[dict[str, float]]] = {COPY: [], SEAL: [], HASH: []}
    for number, name in interleaved(rounds, [*names, *sealing]):
        note(f"round {number + 1} of {rounds}: {name}")
        if name in sealing:
            arguments = ("--child", name, str(files.plain), str(files.sealed))
            sealing[name].append(child(_SEALING, *arguments))
        else:
            runs[name].append(child(_HERE, "--child", name, str(files.root)))
    after = os.getloadavg()[0]
    return Results(total_size(files.plain), runs, absent, sealing, (before, after))


def main() -> None:
    parser = argparse.ArgumentParser(prog="load_compare", description=__doc__)
    parser.add_argument("--size-mb", type=int, default=2000, help="of the synthetic model")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", type=Path, default=_PAGE, help="page to write, and .svg beside it")
    parser.add_argument("--folder", type=Path, help="where the files lie; needs 8 times the size")
    args = parser.parse_args()
    check_names()
    with tempfile.TemporaryDirectory(prefix="regalia-bench-", dir=args.folder) as name:
        files = Files(Path(name))
        note(f"writing {args.size_mb} MB")
        write_synthetic(files.plain, args.size_mb * 1_000_000)
        results = measure(files, args.rounds)
    write_page(results, args.out)
    print(args.out.read_text(encoding="utf-8"))


if __name__ == "__main__":
    if sys.argv[1:2] in (["--child"], ["--check"]):
        mode, loader_name, folder = sys.argv[1:]
        run_child(loader_name, Path(folder), check=mode == "--check")
    else:
        main()
