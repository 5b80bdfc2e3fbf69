"""Cold start and throughput of an engine behind Regalia, beside the same engine as it comes.

``python bench/serving.py --engine vllm`` starts both in turns, several times: from the start of the
process to the first token of an answer, and tokens in a second with several clients at once. It
needs the environment of that engine (``make engine-vllm``, ``make engine-llama-cpp``).
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from openai import OpenAI
from rich.console import Console
from rich.table import Table

from regalia_demo.clients import sealed_client
from regalia_demo.control_plane import broker_starts
from regalia_demo.deployment import SERVED_NAME, Deployment, default_cache, have_model, make_folders
from regalia_demo.plain_engines import PLAIN_NAME, plain_engine
from regalia_demo.screen import Screen
from regalia_demo.tour import prepare

if TYPE_CHECKING:
    from collections.abc import Iterator

STREAMS = (1, 4, 8, 16, 32)
TOKENS = 48  # of each answer
PER_STREAM = 2  # answers
QUESTION = "Tell me a long story about a king."


@dataclass(frozen=True)
class Run:
    """One start."""

    protected: bool
    first_token_s: float  # from the start of the process
    tokens_per_s: dict[int, float]  # by number of streams


@dataclass(frozen=True)
class Served:
    """A running server, and how to ask it."""

    client: OpenAI
    model: str
    began: float


@contextmanager
def protected(deployment: Deployment, number: int) -> Iterator[Served]:
    """A runtime with the engine behind it."""
    began = time.monotonic()
    serve = ["serve", "--config", "runtime/runtime.toml"]
    with deployment.spawn(f"runtime-{number}", serve, deployment.runtime_address) as runtime:
        runtime.wait_ready()
        yield Served(sealed_client(deployment, runtime.url), SERVED_NAME, began)


@contextmanager
def plain(deployment: Deployment) -> Iterator[Served]:
    """The engine as it comes, on the plaintext."""
    began = time.monotonic()
    with plain_engine(deployment) as url:
        client = OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
        yield Served(client, PLAIN_NAME, began)


def answer(served: Served, number: int, tokens: int = TOKENS) -> int:
    """Stream one answer. Returns the number of its tokens."""
    stream = served.client.chat.completions.create(
        model=served.model,
        messages=[{"role": "user", "content": f"{number}. {QUESTION}"}],
        max_tokens=tokens,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    )
    count = 0
    for event in stream:
        if event.usage is not None:
            count = event.usage.completion_tokens
    return count


def throughput(served: Served, streams: int) -> float:
    """Tokens in a second over all streams."""
    barrier = threading.Barrier(streams + 1)

    def ask(number: int) -> int:
        barrier.wait()
        return sum(answer(served, number * PER_STREAM + turn) for turn in range(PER_STREAM))

    with ThreadPoolExecutor(streams) as pool:
        asked = [pool.submit(ask, number) for number in range(streams)]
        barrier.wait()
        began = time.monotonic()
        tokens = sum(each.result() for each in asked)
        return tokens / (time.monotonic() - began)


def measure(served: Served, *, is_protected: bool) -> Run:
    """The first token, and throughput with every number of streams."""
    answer(served, 0, tokens=1)
    first = time.monotonic() - served.began
    answer(served, 1)
    return Run(is_protected, first, {streams: throughput(served, streams) for streams in STREAMS})


def compare(deployment: Deployment, rounds: int, console: Console) -> list[Run]:
    """Both in turns."""
    runs = []
    for number in range(rounds):
        with plain(deployment) as served:
            runs.append(measure(served, is_protected=False))
        with protected(deployment, number) as served:
            runs.append(measure(served, is_protected=True))
        console.print(f"round {number + 1} of {rounds}: {runs[-2:]}", style="dim")
    return runs


def table(engine: str, runs: list[Run]) -> Table:
    """Medians, and medians of paired ratios."""
    made = Table("", "plain", "behind Regalia", "ratio", title=f"{engine}: medians of paired runs")
    pairs = list(zip(runs[::2], runs[1::2], strict=True))

    def row(name: str, values: list[tuple[float, float]], places: int) -> None:
        one, other = (statistics.median(side) for side in zip(*values, strict=True))
        ratio = statistics.median(b / a for a, b in values)
        made.add_row(name, f"{one:.{places}f}", f"{other:.{places}f}", f"{ratio:.2f}")

    row(
        "process start to first token, s", [(a.first_token_s, b.first_token_s) for a, b in pairs], 1
    )
    for streams in STREAMS:
        values = [(a.tokens_per_s[streams], b.tokens_per_s[streams]) for a, b in pairs]
        row(f"tokens/s, {streams} streams", values, 1)
    return made


def main() -> None:
    """Prepare, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", default="vllm")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    progress = Console(stderr=True)
    with tempfile.TemporaryDirectory() as name:
        deployment = Deployment(
            Path(name), default_cache(), Screen(quiet=True), engine=options.engine
        )
        with deployment.services:
            make_folders(deployment)
            have_model(deployment)
            prepare(deployment)
            broker_starts(deployment)
            runs = compare(deployment, options.rounds, progress)
    if options.json:
        print(json.dumps([asdict(run) for run in runs]))
    else:
        Console().print(table(options.engine, runs))


if __name__ == "__main__":
    main()
