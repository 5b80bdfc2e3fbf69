"""An engine in processes of its own that loads in a moment, to try the runtime around it.

``python -m regalia_testing.hosted_engine API CHANNEL WORKERS MODE`` starts it. It receives keys and
decrypts weights as a real one does, and answers with what it was asked.

Modes: ``serves``; ``asks-twice``, a worker asks for a second key; ``fails-to-load``;
``never-asks``; ``dies-at-trial``; ``ignores-signals``, as an engine does that hangs; ``misfit`` and
``unsupported``, a worker refuses its adapter. An adapter is decrypted, and merged into nothing.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import sys
import time
from multiprocessing import shared_memory
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request  # noqa: TC002 - Starlette reads annotations
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from regalia.core.errors import IntegrityError, RegaliaError, UsageError
from regalia.core.weights import FilePart
from regalia.engines.codes import EngineCode
from regalia.engines.hosted import Command, Trial
from regalia.runtime.hosted.child import CHILD_VARIABLE
from regalia.runtime.hosted.shared_memory import use_prefix
from regalia.runtime.hosted.worker import open_weights, protect_process

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from regalia.core.weights import FileReader, ModelFiles
    from regalia.engines.hosted import Bounds, Place

CHAT = "/v1/chat/completions"
_WEIGHTS = ".safetensors"


class EchoGuard:
    """Lets everything through, and notes the bounds."""

    def screen(self, route: str, body: Mapping[str, Any], bounds: Bounds) -> dict[str, Any]:
        """Add route and bounds to the body, so that the engine's echo shows them."""
        return {**body, "route": route, "salt": bounds.salt, "limit": bounds.answer_tokens}


class PlainEchoEngine:
    """The plug-in. Implements ``engines.hosted.HostedEngine``; options are workers and mode."""

    def check(self, options: Mapping[str, object], opens: tuple[str, ...]) -> None:
        """Accept everything."""

    def workers(self, options: Mapping[str, object]) -> int:
        """Number of workers, from the options."""
        count = options.get("workers", 1)
        return count if isinstance(count, int) else 1

    def keeps(self, path: str) -> bool:
        """Whether it is no weights file."""
        return not path.endswith((_WEIGHTS, ".index.json"))

    def command(
        self,
        options: Mapping[str, object],
        place: Place,
        *,
        served_name: str,  # noqa: ARG002 - as the interface has it
        parallel: int,  # noqa: ARG002
    ) -> Command:
        """This module, as a program; arguments as ``HostedEngine``."""
        mode = str(options.get("mode", "serves"))
        count = str(self.workers(options))
        program = (sys.executable, "-m", __name__, str(place.api), str(place.channel), count, mode)
        return Command(program, {"PYTHONPATH": os.pathsep.join(sys.path), "PATH": os.defpath})

    def trial(self, served_name: str) -> Trial:
        """Ask for an echo."""
        return Trial(CHAT, {"model": served_name, "trial": True})

    def guard(self, files: ModelFiles, opens: tuple[str, ...]) -> EchoGuard:  # noqa: ARG002
        """Screen nothing; arguments as ``HostedEngine``."""
        return EchoGuard()


class EchoEngine(PlainEchoEngine):
    """The same, for adapters as well. Implements ``engines.hosted.WorkersMerge``."""

    def check_adapter(self, options: Mapping[str, object]) -> None:
        """Accept everything."""


echo_engine = EchoEngine()
_REFUSALS = {
    "misfit": IntegrityError(EngineCode.ENGINE_ADAPTER_MISFIT, "the test says so"),
    "unsupported": UsageError(EngineCode.ENGINE_ADAPTER_UNSUPPORTED, "the test says so"),
}


def work(channel: str, rank: int, workers: int, mode: str) -> None:
    """Load weights, and keep them until the process ends.

    Args:
        channel: path of the runtime's socket.
        rank: of this worker.
        workers: number of workers.
        mode: of the engine.
    """
    protect_process()
    if mode == "ignores-signals":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if mode == "never-asks":
        time.sleep(600)
    weights = open_weights(channel, rank, workers)
    if mode == "asks-twice":
        try:
            open_weights(channel, rank, workers)
        except (OSError, RegaliaError):
            sys.stderr.write("refused\n")
        else:
            os._exit(0)  # it got a second key: the runtime shows that nothing serves
    if mode == "fails-to-load":
        weights.failed(ValueError("the test says so"))
        time.sleep(600)
    if mode in _REFUSALS:
        weights.failed(_REFUSALS[mode])
        time.sleep(600)
    readers = [weights.files] if weights.adapter is None else [weights.files, weights.adapter]
    held = [data for reader in readers for data in _decrypted(reader)]
    read = sum(reader.bytes_read for reader in readers)
    weights.loaded(len(held), sum(map(len, held)), read)
    while held:  # for the rest of this process's life
        time.sleep(1)


def _decrypted(reader: FileReader) -> list[bytearray]:
    """All files with weights."""
    sizes = {path: size for path, size in reader.sizes().items() if path.endswith(_WEIGHTS)}
    held = {path: bytearray(size) for path, size in sizes.items()}
    reader.read([FilePart(path, 0, memoryview(data)) for path, data in held.items()])
    return list(held.values())


async def _chat(http: Request) -> Response:
    body = await http.json()
    if body.get("trial") and http.app.state.mode == "dies-at-trial":
        os._exit(3)
    if body.get("stream"):
        return StreamingResponse(_events(body), media_type="text/event-stream; charset=utf-8")
    return JSONResponse(body)


async def _events(body: dict[str, Any]) -> AsyncIterator[str]:
    for number in range(int(body.get("events", 3))):
        await asyncio.sleep(float(body.get("pause_s", 0)))
        yield f'data: {{"event": {number}}}\n\n'
    yield "data: [DONE]\n\n"


async def _health(_: Request) -> Response:
    return Response()


def main() -> None:
    """Start the workers, and serve the API."""
    api, channel, workers, mode = sys.argv[1:]
    protect_process()
    use_prefix(os.environ[CHILD_VARIABLE])
    spawn = multiprocessing.get_context("spawn")
    for rank in range(int(workers)):
        spawn.Process(target=work, args=(channel, rank, int(workers), mode), daemon=True).start()
    shared_memory.SharedMemory(create=True, size=4096)
    # And some whose name a library has chosen.
    named = shared_memory.SharedMemory(f"library_{os.getpid()}", create=True, size=4096)
    if mode == "ignores-signals":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while Path(channel).exists():  # until all workers have their weights
        time.sleep(0.05)
    routes = [Route("/health", _health), Route(CHAT, _chat, methods=["POST"])]
    app = Starlette(routes=routes)
    app.state.mode = mode
    uvicorn.run(app, uds=api, log_level="error")
    named.close()


if __name__ == "__main__":
    main()
