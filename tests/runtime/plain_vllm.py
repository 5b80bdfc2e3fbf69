"""What vLLM answers when nobody has sealed the model: a process of its own, without plug-ins."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_PROGRAM = """
import json, sys
from vllm import LLM, SamplingParams
if __name__ == "__main__":
    model, prompts, tokens, options = sys.argv[1], *map(json.loads, sys.argv[2:])
    llm = LLM(model, max_model_len=256, enforce_eager=True, **options)
    how = SamplingParams(temperature=0, max_tokens=tokens)
    chats = [[{"role": "user", "content": prompt}] for prompt in prompts]
    answers = [llm.chat([chat], how, use_tqdm=False)[0].outputs[0].text for chat in chats]
    print("ANSWERS" + json.dumps(answers))
"""


def plain_vllm(
    model: Path,
    prompts: Sequence[str],
    tokens: int,
    **options: Any,  # noqa: ANN401
) -> list[str] | None:
    """Greedy answers; None if vLLM cannot run the model here.

    Args:
        model: folder.
        prompts: asked one after the other.
        tokens: maximum of each answer.
        options: of vLLM's ``LLM``.
    """
    environment = {**os.environ, "VLLM_PLUGINS": "none", "VLLM_CPU_KVCACHE_SPACE": "1"}
    environment |= {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
    if options.get("pipeline_parallel_size", 1) > 1:
        environment["VLLM_CPU_OMP_THREADS_BIND"] = "0|0"
    arguments = [str(model), json.dumps(list(prompts)), str(tokens), json.dumps(options)]
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("ANSWERS")]
    if not lines:
        return None
    answers: list[str] = json.loads(lines[0].removeprefix("ANSWERS"))
    return answers
