"""Sealing beside `cp -r`, both until the data is on the disk. Usage: --help.

Each run is a fresh process with a warm page cache and a new output directory on the same file
system; imports do not count. `cp` is followed by fsync(2) of every file and directory it wrote,
because sealing does the same. Rounds are interleaved, ratios are of two runs in one round.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness import (
    GB,
    child,
    files_below,
    interleaved,
    memory_kib,
    note,
    show_table,
    spread,
    summarize,
    total_size,
    warm,
    write_synthetic,
)

BASELINE = "cp -r, then fsync"
SEAL = "seal"
VERIFY = "verify"
HASH = "one SHA-256 over everything"
NAMES = (BASELINE, SEAL, VERIFY, HASH)


def cpu() -> float:
    """CPU seconds of this process and of the children that have ended."""
    used = (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def fsync_tree(folder: Path) -> None:
    """What makes a copy durable."""
    for path in [*files_below(folder), *(p for p in folder.rglob("*") if p.is_dir()), folder]:
        fd = os.open(path, os.O_RDONLY)
        os.fsync(fd)
        os.close(fd)


def copy(model: Path, out: Path) -> None:
    subprocess.run(["/bin/cp", "-r", model, out], check=True)
    fsync_tree(out)


def hash_files(model: Path) -> None:
    """Sealing hashes everything twice: each file in clear, each shard encrypted."""
    for path in files_below(model):
        with path.open("rb") as file:
            hashlib.file_digest(file, "sha256")


def seal(model: Path, out: Path) -> None:
    from regalia.crypto.sign import SigningKey  # noqa: PLC0415
    from regalia.seal.format.sealed import WrappedKey  # noqa: PLC0415
    from regalia.seal.progress import no_progress  # noqa: PLC0415
    from regalia.seal.writer import SealOptions, available_threads, seal_model  # noqa: PLC0415

    seal_model(
        model,
        out,
        SealOptions(version=1, threads=available_threads()),
        wrap=lambda _key, _context: WrappedKey("benchmark", "none", b"-"),
        signing_key=SigningKey.generate_ed25519(),
        progress=no_progress,
    )


def verify(sealed: Path) -> None:
    from regalia.seal.check import verify_ciphertext  # noqa: PLC0415
    from regalia.seal.manifest import ANY_SIGNER, verify_manifest  # noqa: PLC0415
    from regalia.seal.progress import no_progress  # noqa: PLC0415
    from regalia.seal.writer import available_threads  # noqa: PLC0415
    from regalia.store.local import LocalBlobs  # noqa: PLC0415

    data = (sealed / "manifest.json").read_bytes()
    manifest = verify_manifest(data, signers=ANY_SIGNER, minimum_version=1)
    with LocalBlobs(sealed) as blobs:
        verify_ciphertext(
            blobs,
            manifest,
            names=blobs.names(),
            threads=available_threads(),
            progress=no_progress,
        )


def run_child(name: str, model: Path, sealed: Path) -> None:
    """One measured run; the output of copying and sealing is removed again, off the clock."""
    import regalia.seal.check  # noqa: PLC0415
    import regalia.seal.writer  # noqa: F401, PLC0415

    out = sealed.with_name("out")
    warm(sealed if name == VERIFY else model)
    os.sync()
    began, used = time.perf_counter(), cpu()
    if name == BASELINE:
        copy(model, out)
    elif name == SEAL:
        seal(model, out)
    elif name == VERIFY:
        verify(sealed)
    else:
        hash_files(model)
    result = {
        "wall": time.perf_counter() - began,
        "cpu": cpu() - used,
        "peak_kib": float(memory_kib("VmHWM")),
    }
    shutil.rmtree(out, ignore_errors=True)
    print(json.dumps(result))


def report(size: int, results: dict[str, list[dict[str, float]]], *, as_json: bool) -> None:
    summaries = summarize(results, BASELINE, ("peak_kib",))
    noisy = spread(results[BASELINE])
    if as_json:
        body = {
            "bytes": size,
            "rounds": len(results[BASELINE]),
            "load_average": os.getloadavg()[0],
            "baseline_spread": noisy,
            "runs": [summary.as_dict() for summary in summaries],
            "seal_by_cp": summaries[1].ratio,
        }
        print(json.dumps(body, indent=2))
        return
    show_table(
        f"{size / GB:.3f} GB, to disk; ratio = paired with the first row, median (min-max)",
        ("run", "median s", "best s", "GB/s", "wall ratio", "CPU ratio", "peak MiB"),
        [
            (
                s.name,
                f"{s.seconds:.3f}",
                f"{s.best:.3f}",
                f"{size / s.seconds / GB:.2f}",
                f"{s.ratio:.2f} ({s.ratio_min:.2f}-{s.ratio_max:.2f})",
                f"{s.cpu_ratio:.2f}",
                f"{s.extra['peak_kib'] / 1024:.0f}",
            )
            for s in summaries
        ],
    )
    print(f"load average {os.getloadavg()[0]:.1f}, {len(os.sched_getaffinity(0))} cores")
    if noisy > 2:
        print(f"NOISY: the baseline itself spread {noisy:.1f}x; run again on a quieter machine")
    print(f"seal / cp = {summaries[1].ratio:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", type=Path, help="default: a synthetic one")
    parser.add_argument("--size-mb", type=int, default=512, help="of the synthetic model")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="regalia-bench-") as name:
        folder = Path(name)
        model = args.model or write_synthetic(folder / "model", args.size_mb * 1_000_000)
        seal(model, folder / "sealed")
        results: dict[str, list[dict[str, float]]] = {name: [] for name in NAMES}
        for number, run in interleaved(args.rounds, NAMES):
            note(f"round {number + 1} of {args.rounds}: {run}")
            results[run].append(child(__file__, "--child", run, str(model), str(folder / "sealed")))
        report(total_size(model), results, as_json=args.json)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        run_child(sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]))
    else:
        main()
