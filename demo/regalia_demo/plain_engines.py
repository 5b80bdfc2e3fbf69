"""Engines as they come, on the plaintext model: what protected answers are compared with."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import httpx
from openai import OpenAI

from regalia.core.errors import UnavailableError
from regalia_demo.processes import DemoCode, free_address

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from regalia_demo.deployment import Deployment

_START_S = 300
_NAME = "plain"


def plain_answers(
    deployment: Deployment, questions: Sequence[str], answer_tokens: int
) -> list[str]:
    """Greedy answers of the engine without any of ours in its way.

    Args:
        deployment: names the engine and the model.
        questions: asked one after the other.
        answer_tokens: maximum of new tokens in each answer.

    Raises:
        UnavailableError: the engine does not start, or there is no plain form of it here.
    """
    program = _PROGRAMS.get(deployment.engine)
    if program is None:
        raise UnavailableError(
            DemoCode.DEMO_STEP_FAILED, f"there is no plain {deployment.engine} to compare with"
        )
    address = free_address()
    log = deployment.root / "logs" / "plain-engine.log"
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
    environment |= {"DO_NOT_TRACK": "1", "VLLM_PLUGINS": "none", "VLLM_CPU_KVCACHE_SPACE": "1"}
    with log.open("ab") as output:
        process = subprocess.Popen(  # noqa: S603 - programs of this file
            [sys.executable, *program(deployment.model, address)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
        )
    try:
        _wait(process, f"http://{address}/health")
        client = OpenAI(base_url=f"http://{address}/v1", api_key="none", max_retries=0)
        return [_ask(client, question, answer_tokens) for question in questions]
    finally:
        process.terminate()
        process.wait(60)


def _vllm(model: Path, address: str) -> list[str]:
    host, _, port = address.rpartition(":")
    return [
        *("-m", "vllm.entrypoints.openai.api_server", "--model", str(model)),
        *("--host", host, "--port", port, "--served-model-name", _NAME),
        *("--dtype", "float32", "--max-model-len", "1024", "--enforce-eager"),
    ]


def _llama_cpp(model: Path, address: str) -> list[str]:
    return ["-m", "regalia_demo.unprotected", str(model), address, _NAME, "llama.cpp"]


_PROGRAMS: dict[str, Callable[[Path, str], list[str]]] = {
    "vllm": _vllm,
    "llama.cpp": _llama_cpp,
}


def _wait(process: subprocess.Popen[bytes], url: str) -> None:
    deadline = time.monotonic() + _START_S
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(httpx.HTTPError):
            if httpx.get(url, timeout=2).status_code == httpx.codes.OK:
                return
        time.sleep(0.3)
    raise UnavailableError(DemoCode.DEMO_STEP_FAILED, "the plain engine does not start")


def _ask(client: OpenAI, question: str, answer_tokens: int) -> str:
    done = client.chat.completions.create(
        model=_NAME,
        messages=[{"role": "user", "content": question}],
        max_tokens=answer_tokens,
        temperature=0,
    )
    return done.choices[0].message.content or ""
