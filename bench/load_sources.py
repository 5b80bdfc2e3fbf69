"""Loads one sealed model from S3, from a registry and by HTTP. Usage: load_sources.py --help.

Real servers run on loopback: SeaweedFS and docker-registry; HTTP ranges come from a small server
that can let its answers wait, as if it were far away. Beside each load stands the same client
that reads the same objects and decrypts nothing, and for S3 boto3. Every run is a fresh process,
the memory is there before the clock starts, rounds are interleaved. Writes docs/benchmarks.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import GB, child, interleaved, memory_kib, note, spread, threads, write_synthetic
from load_speed import Given, locked_memory, seal_once

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regalia.seal.workers import Crew

_ROOT = Path(__file__).parents[1]
_PAGE = _ROOT / "docs" / "benchmarks" / "sources.md"
SEALED, BYTES, BOTO3 = "sealed", "the same client, nothing decrypted", "boto3, nothing decrypted"
AWAY_S = 0.03
WANTED = 0.9  # of the speed of the same client reading plain objects


@dataclass(frozen=True)
class Place:
    """One source.

    Attributes:
        name: as it stands in the table.
        address: as the configuration of a runtime has it.
        ways: what is measured there.
    """

    name: str
    address: str
    ways: tuple[str, ...] = (BYTES, SEALED)


# --- in the child: one load


def run_child(way: str, address: str, manifest: Path) -> None:
    from regalia.core.secret import SecretBytes  # noqa: PLC0415
    from regalia.seal.manifest import ANY_SIGNER, verify_manifest  # noqa: PLC0415
    from regalia.store.locate import open_store  # noqa: PLC0415

    key = SecretBytes(bytearray.fromhex(sys.stdin.readline()))
    verified = verify_manifest(manifest.read_bytes(), signers=ANY_SIGNER, minimum_version=1)
    content = verified.content
    memory, view = locked_memory(content.stored_total(), faulted=True)
    if way == BOTO3:
        import boto3  # noqa: F401, PLC0415 - imports do not count
    rss, cpu, began = memory_kib("VmRSS"), time.process_time(), time.perf_counter()
    if way == BOTO3:
        with_boto3(address, content, view)
    else:
        with open_store(address, Path()) as blobs:
            if way == SEALED:
                load(blobs, verified, key, Given(memory, view))
            else:
                read_only(blobs, content, view)
    measured = {
        "wall": time.perf_counter() - began,
        "cpu": time.process_time() - cpu,
        "peak_kib": float(memory_kib("VmHWM") - rss),
    }
    print(json.dumps(measured))


def load(blobs: Any, verified: Any, key: Any, given: Given) -> None:  # noqa: ANN401
    from regalia.seal.load import load_model  # noqa: PLC0415
    from regalia.seal.progress import no_progress  # noqa: PLC0415

    load_model(blobs, verified, key, given, threads=threads(), progress=no_progress)


def read_only(blobs: Any, content: Any, view: memoryview) -> None:  # noqa: ANN401
    """The shards, by as many requests of the same size as a load sends."""
    from regalia.core.weights import reading_of  # noqa: PLC0415
    from regalia.seal.format.sealed import shard_name  # noqa: PLC0415
    from regalia.seal.reading import plan_reading  # noqa: PLC0415
    from regalia.seal.workers import SharedItems, in_threads  # noqa: PLC0415

    plan = plan_reading(
        content.geometry.stream_size,
        content.geometry.stride,
        threads=threads(),
        reading=reading_of(blobs),
    )
    step, start, jobs = plan.chunks * content.geometry.stride, 0, []
    for number, shard in enumerate(content.shards):
        for at in range(0, shard.size, step):
            size = min(step, shard.size - at)
            jobs.append((shard_name(number), at, view[start + at : start + at + size]))
        start += shard.size
    work = SharedItems(iter(jobs))

    def run(crew: Crew) -> None:
        while not crew.stopped and (job := work.take()) is not None:
            blobs.read_into(*job)

    in_threads(plan.threads, run)


def with_boto3(address: str, content: Any, view: memoryview) -> None:  # noqa: ANN401
    """The SDK's own way to read large objects: ranges of 8 MiB by ten threads."""
    import boto3  # noqa: PLC0415
    from botocore.config import Config  # noqa: PLC0415

    from regalia.seal.format.sealed import shard_name  # noqa: PLC0415

    bucket, _, prefix = address.removeprefix("s3://").partition("/")
    client = boto3.client("s3", config=Config(proxies={}, s3={"addressing_style": "path"}))
    start = 0
    for number, shard in enumerate(content.shards):
        into = _Window(view[start : start + shard.size])
        client.download_fileobj(bucket, f"{prefix}/{shard_name(number)}", into)
        start += shard.size


class _Window:
    """Memory as a file that can be written to at any place."""

    def __init__(self, view: memoryview) -> None:
        self._view, self._at = view, 0

    def seekable(self) -> bool:
        return True

    def seek(self, at: int, _whence: int = 0) -> int:
        self._at = at
        return at

    def tell(self) -> int:
        return self._at

    def write(self, data: bytes) -> int:
        self._view[self._at : self._at + len(data)] = data
        self._at += len(data)
        return len(data)


# --- servers


def serve_ranges(folder: Path, port: int, wait_s: float) -> None:
    """Files of a folder by ranges; every answer waits before its first byte."""
    import uvicorn  # noqa: PLC0415
    from starlette.applications import Starlette  # noqa: PLC0415
    from starlette.responses import FileResponse  # noqa: PLC0415
    from starlette.routing import Route  # noqa: PLC0415

    async def answer(request: Any) -> FileResponse:  # noqa: ANN401
        await asyncio.sleep(wait_s)
        return FileResponse(folder / request.path_params["name"])

    app = Starlette(routes=[Route("/{name}", answer)])
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error")


@contextmanager
def http_server(folder: Path, wait_s: float) -> Iterator[str]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = int(taken.getsockname()[1])
    arguments = [sys.executable, __file__, "--serve", str(folder), str(port), str(wait_s)]
    process = subprocess.Popen(arguments)
    try:
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait(10)


def places(sealed: Path, stack: ExitStack, scratch: Path) -> Iterator[Place]:
    """Start every server that is installed, and bring the model there."""
    sys.path.insert(0, str(_ROOT))
    from tests.store import registry, seaweedfs  # noqa: PLC0415

    size_mb = sum(path.stat().st_size for path in sealed.iterdir()) >> 20
    started = stack.enter_context(seaweedfs.running(scratch / "s3", volume_mb=2 * size_mb + 64))
    started.upload(sealed, "m/")
    os.environ |= {
        "AWS_ENDPOINT_URL_S3": started.endpoint,
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": seaweedfs.OWNER[0],
        "AWS_SECRET_ACCESS_KEY": seaweedfs.OWNER[1],
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    yield Place("S3 (SeaweedFS)", f"s3://{seaweedfs.BUCKET}/m", (BYTES, SEALED, BOTO3))
    docker = stack.enter_context(registry.running(scratch / "registry"))
    address = docker.address("acme/model", ":v1")
    command = [sys.executable, "-m", "regalia", "push", str(sealed), address]
    subprocess.run(command, check=True, capture_output=True)
    yield Place("registry (docker-registry)", address)
    yield Place("HTTP ranges", stack.enter_context(http_server(sealed, 0)))
    away = stack.enter_context(http_server(sealed, AWAY_S))
    yield Place(f"HTTP ranges, {AWAY_S * 1000:.0f} ms to the first byte", away)


# --- in the parent


def measure(
    size_mb: int, rounds: int
) -> tuple[int, list[Place], dict[str, list[dict[str, float]]]]:
    with tempfile.TemporaryDirectory(prefix="regalia-bench-") as name, ExitStack() as stack:
        folder = Path(name)
        note(f"writing {size_mb} MB")
        key = seal_once(write_synthetic(folder / "plain", size_mb * 1_000_000), folder / "sealed")
        found = list(places(folder / "sealed", stack, folder))
        manifest = folder / "sealed" / "manifest.json"
        jobs = {f"{place.name}: {way}": (way, place) for place in found for way in place.ways}
        results: dict[str, list[dict[str, float]]] = {job: [] for job in jobs}
        for number, job in interleaved(rounds, list(jobs)):
            note(f"round {number + 1} of {rounds}: {job}")
            way, place = jobs[job]
            arguments = ("--child", way, place.address, str(manifest))
            results[job].append(child(__file__, *arguments, secret=key))
    return size_mb * 1_000_000, found, results


def page(size: int, found: list[Place], results: dict[str, list[dict[str, float]]]) -> str:
    rounds = len(next(iter(results.values())))
    lines = [
        "# Loading from stores",
        "",
        f"Written by `bench/load_sources.py`: {size / GB:.2f} GB in four files, sealed, {rounds}",
        f"interleaved rounds, on {len(os.sched_getaffinity(0))} cores that clients and servers",
        f"share, Linux {platform.release()}, Python {platform.python_version()}. Ratios are of two",
        "runs in one round: the median, and the range in parentheses. A ratio of 1 is as fast as",
        "the same client that reads the same objects with the same requests, and decrypts nothing.",
        "",
        "| source | way | median s | MB/s | speed / its first row | CPU s | peak / model |",
        "|---|---|---|---|---|---|---|",
    ]
    goals = []
    for place in found:
        base = results[f"{place.name}: {BYTES}"]
        for way in place.ways:
            runs = results[f"{place.name}: {way}"]
            wall = statistics.median(run["wall"] for run in runs)
            ratios = [b["wall"] / r["wall"] for b, r in zip(base, runs, strict=True)]
            ratio = statistics.median(ratios)
            peak = statistics.median(run["peak_kib"] for run in runs) * 1024 / size
            lines.append(
                f"| {place.name} | {way} | {wall:.2f} | {size / wall / 1e6:.0f} "
                f"| {ratio:.2f} ({min(ratios):.2f} to {max(ratios):.2f}) "
                f"| {statistics.median(run['cpu'] for run in runs):.2f} | {peak:.3f} |"
            )
            if way == SEALED:
                met = "met" if ratio >= WANTED else "not met"
                goals.append(f"| {place.name} | ≥ {WANTED} | {ratio:.2f} | {met} |")
        if spread(base) > 2:
            lines.append(
                f"| {place.name} | noisy: its first row spread by {spread(base):.1f} | | | | | |"
            )
    lines += ["", "## Goals", "", "| sealed / nothing decrypted | wanted | measured | |"]
    return "\n".join([*lines, "|---|---|---|---|", *goals]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size-mb", type=int, default=1000, help="of the synthetic model")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", type=Path, default=_PAGE, help="page to write")
    options = parser.parse_args()
    text = page(*measure(options.size_mb, options.rounds))
    options.out.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        run_child(sys.argv[2], sys.argv[3], Path(sys.argv[4]))
    elif sys.argv[1:2] == ["--serve"]:
        serve_ranges(Path(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
    else:
        main()
