"""The control: the same model and the same engine without Regalia.

``python -m regalia_demo.unprotected MODEL_DIR HOST:PORT NAME [ENGINE]`` serves plaintext weights
from a plaintext directory, over plain HTTP, as a great many machines do today.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, cast

import uvicorn
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from regalia.host import plugins
from regalia.runtime.callers import Callers
from regalia.runtime.generation import GenerationLimits, Generations
from regalia.runtime.metrics import Metrics
from regalia.runtime.openai.app import Service, build_app
from regalia_testing.models import FilesInMemory

if TYPE_CHECKING:
    from starlette.requests import Request

    from regalia.engines.base import BuildEngine

_QUEUE = 8
_ANSWER_TOKENS = 512


async def _health(_: Request) -> PlainTextResponse:
    return PlainTextResponse("ok\n")


def serve(folder: Path, address: str, name: str, engine_name: str) -> None:
    """Serve until the process is stopped.

    Args:
        folder: with the plaintext model.
        address: host:port.
        name: that the model is served under.
        engine_name: of the plug-in.
    """
    builder = cast("BuildEngine", plugins.load(plugins.ENGINES, engine_name))
    engine = builder(FilesInMemory.of(folder), model_name=name, options={})
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
    serve(Path(sys.argv[1]), sys.argv[2], sys.argv[3], (*sys.argv[4:], "transformers")[0])
