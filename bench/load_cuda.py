"""Sealed weights into the memory of a GPU, beside plain ones. Usage: load_cuda.py --help.

Blocks are decrypted into pinned slots and copied from there, so that one is decrypted while another
is on its way. Memory is pinned by allocating it (cudaHostAlloc), never by registering a mapping: a
GPU in confidential mode refuses the latter. Without a GPU it says so and ends. With --device cpu
the same code runs, as a test of the code: its figures mean nothing.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import GB, interleaved, note, show_table, summarize, threads, warm, write_synthetic
from load_speed import seal_once

if TYPE_CHECKING:
    from collections.abc import Callable

CEILING = "ceiling: one pinned block, copied again and again"
PLAIN = "safetensors load_file to the device"
PREADV = "plain, preadv into pinned slots"
SEALED = "sealed, decrypted into pinned slots"
SLOT = 32 << 20  # bytes
SLOTS = 3  # one is filled, one is on its way, one is ready


class Slots:
    """Pinned memory that blocks pass through on their way to a device."""

    def __init__(
        self,
        torch: Any,  # noqa: ANN401 - imported by who needs it
        device: str,
        payload: int,
    ) -> None:
        self._torch = torch
        self._block = SLOT // payload * payload  # whole chunks, none of which is decrypted twice
        self._is_gpu = device.startswith("cuda")
        made = [torch.empty(SLOT, dtype=torch.uint8, pin_memory=self._is_gpu) for _ in range(SLOTS)]
        self._slots = made
        self._busy: list[Any] = [None] * SLOTS
        self._stream = torch.cuda.Stream(device) if self._is_gpu else None

    def fill(self, target: Any, fill: Callable[[int, memoryview], None]) -> None:  # noqa: ANN401
        """Fill a tensor of bytes.

        Args:
            target: the tensor, on the device.
            fill: fills memory with what begins at an offset of the tensor.
        """
        for number, start in enumerate(range(0, target.numel(), self._block)):
            place = number % SLOTS
            if self._busy[place] is not None:
                self._busy[place].synchronize()
            slot = self._slots[place][: min(self._block, target.numel() - start)]
            fill(start, memory_of(slot))
            self._busy[place] = self._send(target[start : start + slot.numel()], slot)
        self.finish()

    def ceiling(self, target: Any) -> None:  # noqa: ANN401
        """Copy one slot to every place of a tensor."""
        self.fill(target, lambda _start, _memory: None)

    def finish(self) -> None:
        """Wait for what is on its way."""
        for event in self._busy:
            if event is not None:
                event.synchronize()
        self._busy = [None] * SLOTS

    def _send(self, part: Any, slot: Any) -> Any:  # noqa: ANN401
        if self._stream is None:
            part.copy_(slot)
            return None
        with self._torch.cuda.stream(self._stream):
            part.copy_(slot, non_blocking=True)
            return self._stream.record_event()


def read_whole(fd: int, at: int, out: memoryview) -> None:
    """Fill memory from a place of a file. Raises SystemExit."""
    if os.preadv(fd, [out], at) != out.nbytes:
        raise SystemExit("short read")


def memory_of(tensor: Any) -> memoryview:  # noqa: ANN401
    """The memory of a tensor on the host."""
    return memoryview((ctypes.c_ubyte * tensor.nbytes).from_address(tensor.data_ptr())).cast("B")


class Bench:
    """One model, plain and sealed, and the device."""

    def __init__(self, folder: Path, size: int, device: str) -> None:
        import torch  # noqa: PLC0415

        from regalia.core.secret import SecretBytes  # noqa: PLC0415
        from regalia.seal.manifest import ANY_SIGNER, verify_manifest  # noqa: PLC0415

        self._torch, self._device = torch, device
        self._plain = write_synthetic(folder / "plain", size)
        self._sealed = folder / "sealed"
        key = seal_once(self._plain, self._sealed)
        self._key = SecretBytes.copy_of(bytes.fromhex(key))
        manifest = (self._sealed / "manifest.json").read_bytes()
        self._manifest = verify_manifest(manifest, signers=ANY_SIGNER, minimum_version=1)
        self.size = self._manifest.content.geometry.stream_size
        self._target = torch.zeros(self.size, dtype=torch.uint8, device=device)
        self._slots = Slots(torch, device, self._manifest.content.geometry.payload)

    def run(self, name: str) -> dict[str, float]:
        """One measured run, with a warm page cache."""
        warm(self._sealed if name == SEALED else self._plain)
        ways = {
            CEILING: lambda: self._slots.ceiling(self._target),
            PLAIN: self._load_plain,
            PREADV: self._load_preadv,
            SEALED: self._load_sealed,
        }
        self._wait()
        began, cpu = time.perf_counter(), time.process_time()
        ways[name]()
        self._wait()
        return {"wall": time.perf_counter() - began, "cpu": time.process_time() - cpu}

    def check(self) -> None:
        """Every byte that arrives on the device is what was sealed. Raises SystemExit."""
        self._target.zero_()
        self._load_sealed()
        got = memory_of(self._target.cpu())
        for path, start in self._files():
            data = path.read_bytes()
            if bytes(got[start : start + len(data)]) != data:
                raise SystemExit(f"{path.name}: other bytes on {self._device}")

    def _wait(self) -> None:
        if self._device.startswith("cuda"):
            self._torch.cuda.synchronize(self._device)

    def _files(self) -> list[tuple[Path, int]]:
        from regalia.seal.reader import open_sealed  # noqa: PLC0415
        from regalia.store.local import LocalBlobs  # noqa: PLC0415

        with LocalBlobs(self._sealed) as blobs:
            index = open_sealed(blobs, self._manifest, self._key).index
        return [(self._plain / entry.path, entry.offset) for entry in index.entries]

    def _load_plain(self) -> None:
        from safetensors.torch import load_file  # noqa: PLC0415

        for path in sorted(self._plain.glob("*.safetensors")):
            load_file(path, device=self._device)

    def _load_preadv(self) -> None:
        for path, start in self._files():
            fd = os.open(path, os.O_RDONLY)
            part = self._target[start : start + path.stat().st_size]
            self._slots.fill(part, partial(read_whole, fd))
            os.close(fd)

    def _load_sealed(self) -> None:
        from regalia.seal.pieces import Piece  # noqa: PLC0415
        from regalia.seal.progress import no_progress  # noqa: PLC0415
        from regalia.seal.reader import open_sealed  # noqa: PLC0415
        from regalia.store.local import LocalBlobs  # noqa: PLC0415

        with LocalBlobs(self._sealed) as blobs:
            reader = open_sealed(blobs, self._manifest, self._key)

            def fill(at: int, out: memoryview) -> None:
                reader.load_into([Piece(at, out)], threads=threads(), progress=no_progress)

            self._slots.fill(self._target, fill)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda", help="as torch names it")
    parser.add_argument("--size-mb", type=int, default=2000, help="of the synthetic model")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    import torch  # noqa: PLC0415

    if options.device.startswith("cuda") and not torch.cuda.is_available():
        note("not run: this machine has no GPU that torch can use")
        return
    names = (PLAIN, PREADV, SEALED, CEILING)
    results: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory(prefix="regalia-bench-") as folder:
        bench = Bench(Path(folder), options.size_mb * 1_000_000, options.device)
        bench.check()
        for number, name in interleaved(options.rounds, names):
            note(f"round {number + 1} of {options.rounds}: {name}")
            results[name].append(bench.run(name))
    summaries = summarize(results, PLAIN)
    if options.json:
        print(json.dumps([each.as_dict() for each in summaries]))
        return
    named = torch.cuda.get_device_name(options.device) if torch.cuda.is_available() else "no GPU"
    show_table(
        f"{bench.size / GB:.2f} GB to {options.device} ({named}); ratios with the first row",
        ("loader", "median s", "GB/s", "wall ratio", "CPU ratio"),
        [
            (
                each.name,
                f"{each.seconds:.3f}",
                f"{bench.size / each.seconds / GB:.2f}",
                f"{each.ratio:.2f} ({each.ratio_min:.2f}-{each.ratio_max:.2f})",
                f"{each.cpu_ratio:.2f}",
            )
            for each in summaries
        ],
    )


if __name__ == "__main__":
    main()
