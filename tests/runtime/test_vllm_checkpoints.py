"""Quantized checkpoints and pipeline stages, served sealed as vLLM serves them plain.

What the installed vLLM cannot run at all is refused with a code, and nothing is left of it.
"""

from __future__ import annotations

from contextlib import ExitStack
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest

from regalia.core.errors import UnavailableError
from regalia.engines.hosted_codes import HostedCode
from tests.runtime.hosted_runtime import left_behind, members
from tests.runtime.live_deployment import Between, LiveDeployment, SealedDeployment, client, served
from tests.runtime.plain_vllm import plain_vllm

if TYPE_CHECKING:
    from pathlib import Path

    from tests.broker.harness import Shared
    from tests.runtime.live_deployment import Running

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        find_spec("vllm") is None, reason="vllm is not in this environment: make engine-vllm"
    ),
    pytest.mark.filterwarnings("default"),
]
PROMPTS = ("hello", "0123456789")
TOKENS = 16
# vLLM's own kernels for these want numbers of 16 bits.
SCHEMES = {
    "compressed-tensors-int8": "float32",
    "compressed-tensors-fp8": "float32",
    "gptq": "bfloat16",
    "awq": "bfloat16",
    "fp8": "bfloat16",
}


def compare(shared: Shared, model: Path, folder: Path, options: str, **plainly: Any) -> None:  # noqa: ANN401
    """Serve a model sealed, and hold it against what vLLM does with the plain one.

    Args:
        shared: keys and platform.
        model: folder of the plain model.
        folder: empty.
        options: of the engine, in TOML.
        plainly: the same for vLLM's ``LLM``.
    """
    expected = plain_vllm(model, PROMPTS, TOKENS, **plainly)
    with ExitStack() as cleanup:
        deployment = SealedDeployment(folder, shared, model)
        cleanup.callback(deployment.close)
        between = Between(deployment)
        live = LiveDeployment(deployment, between, cleanup.enter_context(served(between)))
        text = f'[engine]\nname = "vllm"\noptions = {{ max_model_len = 256, {options} }}\n'
        running = live.start(text=text, within_s=400)
        cleanup.callback(running.stop)
        if expected is None:
            require_refused(live, running)
        else:
            assert running.error is None, running.error
            assert answers(live, running) == expected


def answers(live: LiveDeployment, running: Running) -> list[str]:
    with client(live, running.url) as asker:
        found = []
        for prompt in PROMPTS:
            messages: Any = [{"role": "user", "content": prompt}]
            answer = asker.chat.completions.create(
                model="tiny", messages=messages, max_tokens=TOKENS, temperature=0
            )
            found.append(answer.choices[0].message.content or "")
        return found


def require_refused(live: LiveDeployment, running: Running) -> None:
    running.join(60)
    assert isinstance(running.error, UnavailableError)
    assert running.error.code is HostedCode.ENGINE_PROCESS_FAILED
    assert "Error" in running.error.what, "vLLM's own words"
    assert live.deployment.entries()[-1].kind == "lease-returned"
    assert members(running) == set()
    assert left_behind() == []
    pytest.skip(f"the installed vLLM cannot, sealed or not: {running.error.what[:600]}")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_quantized_checkpoint(shared: Shared, tiny: Path, tmp_path: Path, scheme: str) -> None:
    from regalia_testing.quantized import quantized  # noqa: PLC0415 - it needs torch

    model = quantized(tiny, tmp_path / "model", scheme)
    dtype = SCHEMES[scheme]
    (tmp_path / "live").mkdir()
    compare(shared, model, tmp_path / "live", f'dtype = "{dtype}"', dtype=dtype)


def test_two_stages_of_a_pipeline(shared: Shared, tiny: Path, tmp_path: Path) -> None:
    options = 'dtype = "float32", pipeline_parallel_size = 2, cpu_omp_threads_bind = "0|0"'
    compare(shared, tiny, tmp_path, options, dtype="float32", pipeline_parallel_size=2)
