"""The control: the same model and the same engine without Regalia.

``python -m regalia_demo.unprotected MODEL_DIR HOST:PORT NAME`` serves plaintext weights from a
plaintext directory, over plain HTTP, as a great many machines do today.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from regalia.engines.transformers import build_engine
from regalia.runtime.callers import Callers
from regalia.runtime.generation import GenerationLimits, Generations
from regalia.runtime.metrics import Metrics
from regalia.runtime.openai.app import Service, build_app

if TYPE_CHECKING:
    from starlette.requests import Request

_QUEUE = 8
_ANSWER_TOKENS = 512


class PlainFiles:
    """A model directory in ordinary memory: swappable, dumpable, readable."""

    def __init__(self, folder: Path) -> None:
        self._content = {
            path.relative_to(folder).as_posix(): bytearray(path.read_bytes())
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }

    def paths(self) -> tuple[str, ...]:
        """Relative POSIX paths."""
        return tuple(self._content)

    def view(self, path: str) -> memoryview:
        """The file's bytes."""
        return memoryview(self._content[path])

    def allocate(self, size: int) -> memoryview:
        """More ordinary memory."""
        return memoryview(bytearray(size))

    def discard(self, path: str, start: int, stop: int) -> None:
        """Keep it: nobody wipes here.

        Args:
            path: name of the file.
            start: offset of the first byte.
            stop: offset after the last byte.
        """


async def _health(_: Request) -> PlainTextResponse:
    return PlainTextResponse("ok\n")


def serve(folder: Path, address: str, name: str) -> None:
    """Serve until the process is stopped."""
    engine = build_engine(PlainFiles(folder), model_name=name, options={})
    service = Service(
        engine=engine,
        generations=Generations(engine, GenerationLimits(queue=_QUEUE), serving=lambda: True),
        callers=Callers(()),
        metrics=Metrics(),
        fingerprint="unprotected",
        answer_tokens=_ANSWER_TOKENS,
        padding=0,
        started=int(time.time()),
    )
    app = Starlette(routes=[Route("/health", _health), Mount("/", build_app(service))])
    host, _, port = address.rpartition(":")
    uvicorn.run(app, host=host, port=int(port), log_level="warning")


if __name__ == "__main__":
    serve(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
