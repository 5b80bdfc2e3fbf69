"""Sealed load beside plain load of the same model into private memory. Usage: --help.

A run is a fresh process with a warm page cache; imports do not count. The clock stops when every
byte of every file is in private memory of the process. Rounds are interleaved, and each ratio is
of two runs in the same round. Bits are compared in a run that is not timed.
"""

from __future__ import annotations

import argparse
import ctypes
import hashlib
import json
import os
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Self

from harness import (
    GB,
    MIB,
    best_of,
    child,
    files_below,
    interleaved,
    memory_kib,
    note,
    show_table,
    spread,
    summarize,
    threads,
    total_size,
    warm,
    write_synthetic,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from regalia.core.secret import SecretBytes
    from regalia.seal.load import Destination

BASELINE = "plain safetensors, load_file + clone"
SEALED = "sealed, into locked memory"
PREADV = "plain preadv, into locked memory"
SEALED_AGAIN = "sealed, memory faulted in before"
PREADV_AGAIN = "plain preadv, memory faulted in before"
COPY_AGAIN = "plain load_file + copy_, faulted in before"
LOADERS = (BASELINE, SEALED, PREADV, COPY_AGAIN, SEALED_AGAIN, PREADV_AGAIN)


# --- in the child: one loader, one run


class Meter:
    """Wall time, CPU time and memory of one block."""

    def __enter__(self) -> Self:
        self.result: dict[str, float] = {}
        self._rss = memory_kib("VmRSS")
        self._cpu, self._wall = time.process_time(), time.perf_counter()
        return self

    def first(self) -> None:
        """The first bytes are there."""
        self.result.setdefault("first", time.perf_counter() - self._wall)

    def __exit__(self, *_: object) -> None:
        self.result["wall"] = time.perf_counter() - self._wall
        self.result["cpu"] = time.process_time() - self._cpu
        self.result["peak_kib"] = memory_kib("VmHWM") - self._rss


def locked_memory(size: int, *, faulted: bool) -> tuple[object, memoryview]:
    from regalia.runtime.memory import LockedMemory, MemoryKind  # noqa: PLC0415

    memory = LockedMemory(MemoryKind.LOCKED, dangerous_allow_unlocked=True)
    view = memory.allocate(size)
    if faulted and size:
        ctypes.memset(ctypes.addressof(ctypes.c_char.from_buffer(view)), 1, size)
    return memory, view


class Given:
    """A destination that was allocated before the clock started."""

    def __init__(self, memory: object, view: memoryview) -> None:
        self._memory, self._view = memory, view

    def allocate(self, size: int) -> memoryview:
        """What was given."""
        return self._view[:size]

    def wipe(self) -> None:
        """Only failures wipe."""
        raise SystemExit("a benchmark's load failed")


def load_sealed(sealed: Path, key: SecretBytes, *, faulted: bool, check: Path | None) -> Meter:
    from regalia.runtime.memory import LockedMemory, MemoryKind  # noqa: PLC0415
    from regalia.seal.load import load_model  # noqa: PLC0415
    from regalia.seal.manifest import ANY_SIGNER, verify_manifest  # noqa: PLC0415
    from regalia.store.local import LocalBlobs  # noqa: PLC0415

    data = (sealed / "manifest.json").read_bytes()
    size = verify_manifest(data, signers=ANY_SIGNER, minimum_version=1).content.geometry.stream_size
    given = Given(*locked_memory(size, faulted=True)) if faulted else None
    with Meter() as meter, LocalBlobs(sealed) as blobs:
        manifest = verify_manifest(data, signers=ANY_SIGNER, minimum_version=1)
        destination: Destination = given or LockedMemory(
            MemoryKind.LOCKED, dangerous_allow_unlocked=True
        )
        model = load_model(
            blobs,
            manifest,
            key,
            destination,
            threads=threads(),
            progress=lambda _done, _total: meter.first(),
        )
    if check is not None:
        for path in model.paths():
            want = hashlib.sha256((check / path).read_bytes()).digest()
            if hashlib.sha256(model.view(path)).digest() != want:
                raise SystemExit(f"{path}: other bits")
    return meter


def load_preadv(model: Path, *, faulted: bool) -> Meter:
    """What a loader without any cryptography would do: the floor."""
    sizes = [(path, path.stat().st_size) for path in files_below(model)]
    total = sum(size for _, size in sizes)
    ready = locked_memory(total, faulted=True) if faulted else None
    with Meter() as meter:
        _memory, view = ready or locked_memory(total, faulted=False)
        jobs, start = [], 0
        fds = [os.open(path, os.O_RDONLY) for path, _ in sizes]
        for fd, (_, size) in zip(fds, sizes, strict=True):
            jobs += [(fd, o, start + o, min(MIB, size - o)) for o in range(0, size, MIB)]
            start += size
        work, lock = iter(jobs), threading.Lock()

        def run() -> None:
            while True:
                with lock:
                    job = next(work, None)
                if job is None:
                    return
                fd, offset, target, size = job
                if os.preadv(fd, [view[target : target + size]], offset) != size:
                    raise SystemExit("short read")

        with ThreadPoolExecutor(threads()) as pool:
            for future in [pool.submit(run) for _ in range(threads())]:
                future.result()
    return meter


def load_safetensors(model: Path, *, faulted: bool) -> Meter:
    import torch  # noqa: PLC0415
    from safetensors.torch import load_file  # noqa: PLC0415

    torch.set_num_threads(1)  # its fastest: more OpenMP threads spin and took four times as long
    weights = [path for path in files_below(model) if path.suffix == ".safetensors"]
    others = [path for path in files_below(model) if path.suffix != ".safetensors"]
    kept: dict[str, object] = {}
    ready = {}
    if faulted:
        for path in weights:
            ready |= {name: tensor.clone() for name, tensor in load_file(path).items()}
    with Meter() as meter:
        for path in weights:
            for name, tensor in load_file(path).items():
                kept[name] = ready[name].copy_(tensor) if faulted else tensor.clone()
                meter.first()
        kept |= {str(path): path.read_bytes() for path in others}
    return meter


def run_child(name: str, model: Path, sealed: Path, *, check: bool) -> None:
    from regalia.core.secret import SecretBytes  # noqa: PLC0415

    faulted = name in {SEALED_AGAIN, PREADV_AGAIN, COPY_AGAIN}
    if name in {SEALED, SEALED_AGAIN}:
        key = SecretBytes(bytearray.fromhex(sys.stdin.readline()))
        warm(sealed)
        meter = load_sealed(sealed, key, faulted=faulted, check=model if check else None)
    elif name in {PREADV, PREADV_AGAIN}:
        warm(model)
        meter = load_preadv(model, faulted=faulted)
    else:
        warm(model)
        meter = load_safetensors(model, faulted=faulted)
    print(json.dumps(meter.result))


# --- in the parent


def seal_once(model: Path, sealed: Path) -> str:
    """Seal with a throw-away key; returns it in hexadecimal, for the children's stdin."""
    from regalia.crypto.sign import SigningKey  # noqa: PLC0415
    from regalia.seal.format.sealed import WrappedKey  # noqa: PLC0415
    from regalia.seal.progress import no_progress  # noqa: PLC0415
    from regalia.seal.writer import SealOptions, seal_model  # noqa: PLC0415

    keys: list[str] = []

    def wrap(key: SecretBytes, _context: bytes) -> WrappedKey:
        keys.append(key.view().hex())
        return WrappedKey("benchmark", "none", b"-")

    options = SealOptions(version=1, threads=threads())
    owner = SigningKey.generate_ed25519()
    seal_model(model, sealed, options, wrap=wrap, signing_key=owner, progress=no_progress)
    return keys[0]


def in_threads(action: Callable[[int], None]) -> float:
    """Seconds that ``action(number)`` takes in as many threads as the loaders get."""
    began = time.perf_counter()
    with ThreadPoolExecutor(threads()) as pool:
        for future in [pool.submit(action, number) for number in range(threads())]:
            future.result()
    return time.perf_counter() - began


def ceilings() -> dict[str, float]:
    """GB/s of this machine: copying warm memory, and AES-256-GCM in the cache."""
    from regalia.crypto.aead import ChunkCipher  # noqa: PLC0415

    each = 64 * MIB
    sources = [bytearray(os.urandom(each)) for _ in range(threads())]
    targets = [bytearray(each) for _ in range(threads())]

    def copy(number: int) -> None:
        memoryview(targets[number])[:] = memoryview(sources[number])

    cipher = ChunkCipher(bytes(32), b"")
    sealed = memoryview(bytearray(MIB))
    cipher.seal_into(0, memoryview(bytes(MIB - 16)), sealed, last=False)
    plain = [memoryview(bytearray(MIB - 16)) for _ in range(threads())]

    def decrypt(number: int) -> None:
        for _ in range(each // MIB):
            cipher.open_into(0, sealed, plain[number], last=False)

    moved = threads() * each
    return {
        "memory copy": moved / best_of(5, lambda: in_threads(copy)) / GB,
        "AES-256-GCM in the cache": moved / best_of(5, lambda: in_threads(decrypt)) / GB,
    }


def measure(model: Path, sealed: Path, key: str, rounds: int) -> dict[str, list[dict[str, float]]]:
    """Every loader once in each round."""
    results: dict[str, list[dict[str, float]]] = {name: [] for name in LOADERS}
    for number, name in interleaved(rounds, LOADERS):
        note(f"round {number + 1} of {rounds}: {name}")
        results[name].append(child(__file__, "--child", name, str(model), str(sealed), secret=key))
    return results


def report(size: int, results: dict[str, list[dict[str, float]]], *, as_json: bool) -> None:
    fresh = summarize({n: results[n] for n in LOADERS[:3]}, BASELINE, ("peak_kib", "first"))
    again = summarize({n: results[n] for n in LOADERS[3:]}, COPY_AGAIN, ("first",))
    limits = ceilings()
    noisy = spread(results[BASELINE])
    if as_json:
        body = {
            "bytes": size,
            "threads": threads(),
            "rounds": len(results[BASELINE]),
            "load_average": os.getloadavg()[0],
            "baseline_spread": noisy,
            "ceilings_gb_s": limits,
            "fresh_memory": [summary.as_dict() for summary in fresh],
            "faulted_memory": [summary.as_dict() for summary in again],
            "sealed_by_plain": fresh[1].ratio,
        }
        print(json.dumps(body, indent=2))
        return
    for title, summaries in (
        ("into fresh private memory", fresh),
        ("into memory that was faulted in before the clock started", again),
    ):
        show_table(
            f"{size / GB:.3f} GB {title}; ratio = paired with the first row, median (min-max)",
            ("loader", "median s", "best s", "GB/s", "wall ratio", "CPU ratio", "peak/size"),
            [
                (
                    s.name,
                    f"{s.seconds:.3f}",
                    f"{s.best:.3f}",
                    f"{size / s.seconds / GB:.2f}",
                    f"{s.ratio:.2f} ({s.ratio_min:.2f}-{s.ratio_max:.2f})",
                    f"{s.cpu_ratio:.2f}",
                    f"{s.extra['peak_kib'] * 1024 / size:.3f}" if "peak_kib" in s.extra else "",
                )
                for s in summaries
            ],
        )
    print("limits here: " + ", ".join(f"{name} {gbs:.1f} GB/s" for name, gbs in limits.items()))
    print(f"first decrypted chunk after {1000 * fresh[1].extra['first']:.0f} ms (median)")
    print(f"load average {os.getloadavg()[0]:.1f}, {threads()} threads")
    if noisy > 2:
        print(f"NOISY: the baseline itself spread {noisy:.1f}x; run again on a quieter machine")
    print(f"sealed / plain = {fresh[1].ratio:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", type=Path, help="default: a synthetic one")
    parser.add_argument("--size-mb", type=int, default=512, help="of the synthetic model")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="regalia-bench-") as name:
        folder = Path(name)
        model = args.model or write_synthetic(folder / "model", args.size_mb * 1_000_000)
        note(f"sealing {model}")
        key = seal_once(model, folder / "sealed")
        for loader in (SEALED, SEALED_AGAIN):
            child(__file__, "--check", loader, str(model), str(folder / "sealed"), secret=key)
        note("every bit is right")
        results = measure(model, folder / "sealed", key, args.rounds)
        report(total_size(model), results, as_json=args.json)


if __name__ == "__main__":
    if sys.argv[1:2] in (["--child"], ["--check"]):
        mode, loader_name, plain_folder, sealed_folder = sys.argv[1:]
        run_child(loader_name, Path(plain_folder), Path(sealed_folder), check=mode == "--check")
    else:
        main()
