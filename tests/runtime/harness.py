"""An engine that answers at once, and a way to call ASGI applications piece by piece."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from regalia.core.errors import UsageError
from regalia.engines.base import Finish, TextDelta, Usage
from regalia.engines.codes import EngineCode
from regalia.runtime.callers import Callers
from regalia.runtime.generation import GenerationLimits, Generations
from regalia.runtime.metrics import Metrics
from regalia.runtime.openai.app import Service, build_app

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.types import ASGIApp

    from regalia.engines.base import GenerationRequest, Message
    from regalia.runtime.config import CallerSection

MODEL_ID = "model:" + "ab" * 32


class WordEngine:
    """Says back the prompt, a word at a time. ``pause`` makes it wait at each word."""

    model_name = "words"
    context_length = 64
    interleaves = True

    def __init__(self) -> None:
        self.requests: list[GenerationRequest] = []
        self.begun = threading.Event()
        self.closed = 0
        self.steps = 0
        self.go = threading.Event()
        self.go.set()
        self.error: Exception | None = None

    def encode_chat(self, messages: tuple[Message, ...]) -> tuple[int, ...]:
        if any(item.content == "refuse me" for item in messages):
            raise UsageError(EngineCode.PROMPT_UNUSABLE, "the template refuses")
        return self.encode_text(" ".join(f"{item.role}: {item.content}" for item in messages))

    def encode_text(self, text: str) -> tuple[int, ...]:
        self.words = text.split()
        return tuple(range(len(self.words)))

    def check_tokens(self, tokens: tuple[int, ...]) -> tuple[int, ...]:
        self.words = [f"t{token}" for token in tokens]
        return tokens

    def generate(self, request: GenerationRequest) -> Iterator[TextDelta]:
        self.requests.append(request)
        return self._run(request, list(self.words))

    def _run(self, request: GenerationRequest, words: list[str]) -> Iterator[TextDelta]:
        count = 0
        try:
            self.begun.set()
            yield TextDelta("")
            for word in words[: request.max_tokens]:
                self.go.wait(10)
                self.steps += 1
                if self.error is not None:
                    raise self.error
                count += 1
                yield TextDelta(word + " ")
            finish = Finish.LENGTH if len(words) > request.max_tokens else Finish.STOP
            yield TextDelta("", finish, Usage(len(request.tokens), count))
        finally:
            self.closed += 1


class SizeEmbedder:
    """Vectors say where an input stood, and how many tokens it has."""

    model_name = "sizes"
    context_length = 8
    interleaves = True

    def __init__(self, dimensions: int = 4, step_s: float = 0.0) -> None:
        self.dimensions = dimensions
        self.step_s = step_s
        self.go = threading.Event()
        self.go.set()
        self.batches: list[tuple[tuple[int, ...], ...]] = []
        self.computed = 0
        self.closed = 0
        self.tokenized = 0

    def encode_text(self, text: str) -> tuple[int, ...]:
        self.tokenized += 1
        words = text.split()
        if len(words) > self.context_length:
            raise UsageError(EngineCode.PROMPT_TOO_LONG, f"{len(words)} tokens of prompt")
        return tuple(range(len(words)))

    def check_tokens(self, tokens: tuple[int, ...]) -> tuple[int, ...]:
        if not all(0 <= token < 100 for token in tokens):
            raise UsageError(EngineCode.PROMPT_UNUSABLE, "tokens out of range")
        return tokens

    def embed(self, inputs: tuple[tuple[int, ...], ...]) -> Iterator[array[float]]:
        self.batches.append(inputs)
        return self._run(inputs)

    def _run(self, inputs: tuple[tuple[int, ...], ...]) -> Iterator[array[float]]:
        try:
            for place, tokens in enumerate(inputs):
                self.go.wait(10)
                time.sleep(self.step_s)
                self.computed += 1
                rest = [0.1] * (self.dimensions - 2)
                yield array("f", [float(place), float(len(tokens)), *rest])
        finally:
            self.closed += 1


@dataclass
class Answer:
    """What an ASGI application sent."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    pieces: list[bytes] = field(default_factory=list)
    complete: bool = False

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    def json(self) -> Any:  # noqa: ANN401
        return json.loads(self.body)

    def events(self) -> list[Any]:
        """Server-sent events, as a reader of the specification sees them."""
        found = []
        for block in self.body.decode().split("\n\n"):
            lines = [line for line in block.split("\n") if line and not line.startswith(":")]
            if lines:
                (line,) = lines
                assert line.startswith("data: ")
                found.append(line[6:] if line == "data: [DONE]" else json.loads(line[6:]))
        return found


async def call(
    app: ASGIApp,
    method: str,
    path: str,
    body: bytes = b"",
    *,
    headers: dict[str, str] | None = None,
    leave: asyncio.Event | None = None,
    client: str = "127.0.0.1",
) -> Answer:
    """One request from ``client``; ``leave`` is set when it goes away."""
    path, _, query = path.partition("?")
    answer = Answer()
    asked = False

    async def receive() -> dict[str, Any]:
        nonlocal asked
        if not asked:
            asked = True
            return {"type": "http.request", "body": body, "more_body": False}
        await (leave or asyncio.Event()).wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:  # noqa: ANN401
        if message["type"] == "http.response.start":
            answer.status = message["status"]
            answer.headers = {k.decode(): v.decode() for k, v in message["headers"]}
        else:
            if piece := message.get("body", b""):
                answer.pieces.append(piece)
            answer.complete = not message.get("more_body", False)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(k.encode(), v.encode()) for k, v in (headers or {}).items()],
        "client": (client, 1),
        "server": ("127.0.0.1", 2),
    }
    await app(scope, receive, send)
    return answer


class RuntimeTestbed:
    """The inner service around a ``WordEngine``, or around a model of another kind."""

    def __init__(
        self,
        *,
        parallel: int = 1,
        queue: int = 2,
        padding: int = 0,
        answer_tokens: int = 40,
        callers: tuple[CallerSection, ...] = (),
        engine: Any = None,  # noqa: ANN401 - a double
        **limits: Any,  # noqa: ANN401
    ) -> None:
        self.engine: Any = engine or WordEngine()
        self.alive = True
        self.metrics = Metrics()
        self.abandoned: list[str] = []
        self.generations = Generations(
            self.engine,
            GenerationLimits(parallel=parallel, queue=queue, **limits),
            serving=lambda: self.alive,
            on_abandoned=lambda code: self.abandoned.append(code.name),
        )
        self.app = build_app(
            Service(
                engine=self.engine,
                generations=self.generations,
                callers=Callers(callers),
                metrics=self.metrics,
                fingerprint=MODEL_ID,
                answer_tokens=answer_tokens,
                padding=padding,
                started=1_700_000_000,
            )
        )

    async def post(self, path: str, body: object, **options: Any) -> Answer:  # noqa: ANN401
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await call(self.app, "POST", path, data, **options)

    def ask(self, path: str, body: object) -> Answer:
        return asyncio.run(self._ask(path, body))

    async def _ask(self, path: str, body: object) -> Answer:
        try:
            return await self.post(path, body)
        finally:
            # Each test has a loop for each question; the engine's thread gives the turn back to
            # the loop that took it.
            while self.generations.busy:  # noqa: ASYNC110 - another thread ends it
                await asyncio.sleep(0.001)

    def chat(self, **fields: Any) -> Answer:  # noqa: ANN401
        messages = [{"role": "user", "content": "one two three"}]
        return self.ask("/v1/chat/completions", {"model": "words", "messages": messages} | fields)

    def complete(self, **fields: Any) -> Answer:  # noqa: ANN401
        return self.ask("/v1/completions", {"model": "words", "prompt": "one two three"} | fields)
