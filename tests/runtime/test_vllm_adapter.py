"""A LoRA adapter on vLLM, sealed: the answers of plain vLLM on the checkpoint that PEFT merges."""

from __future__ import annotations

import json
import os
import shutil
import signal
from contextlib import ExitStack
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest

from regalia.core.errors import IntegrityError
from regalia.engines.codes import EngineCode
from regalia.host.clock import system_clock
from regalia_testing.adapters import PREFIX, adapter_files, matrices, settings
from tests.runtime.adapter_deployment import AdapterDeployment
from tests.runtime.hosted_runtime import hosted, left_behind, members, until
from tests.runtime.live_deployment import Between, LiveDeployment, client, served
from tests.runtime.plain_vllm import plain_vllm

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from regalia_testing.adapters import Tensors
    from tests.broker.harness import Shared
    from tests.runtime.live_deployment import Running

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        find_spec("vllm") is None, reason="vllm is not in this environment: make engine-vllm"
    ),
    pytest.mark.filterwarnings("default"),
    pytest.mark.timeout(1800),  # a start is a minute or more of imports, and some tests have three
]
PROMPTS = ("What do the crown jewels say?", "hello", "zzz")
TOKENS = 16
HIDDEN, INTERMEDIATE, KEYS = 512, 1152, 256  # large enough that two workers read slices
SCALE = 4.0  # of the settings
LAYERS = {
    f"model.layers.{layer}.{name}": shape
    for layer in range(2)
    for name, shape in {
        "self_attn.q_proj": (HIDDEN, HIDDEN),
        "self_attn.k_proj": (KEYS, HIDDEN),
        "self_attn.o_proj": (HIDDEN, HIDDEN),
        "mlp.gate_proj": (INTERMEDIATE, HIDDEN),
        "mlp.down_proj": (HIDDEN, INTERMEDIATE),
    }.items()
}
NORM = "model.norm.weight"
TARGETS = ["q_proj", "k_proj", "o_proj", "gate_proj", "down_proj"]


@pytest.fixture(scope="module")
def base(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model with the tiny one's tokenizer, and matrices of more than a megabyte."""
    import torch  # noqa: PLC0415 - slow
    from transformers import AutoModelForCausalLM, LlamaConfig  # noqa: PLC0415

    folder = tmp_path_factory.mktemp("base")
    for path in tiny.iterdir():
        if "safetensors" not in path.name:
            shutil.copy(path, folder / path.name)
    config = LlamaConfig(
        **{
            **json.loads((tiny / "config.json").read_text()),
            "hidden_size": HIDDEN,
            "intermediate_size": INTERMEDIATE,
            "num_attention_heads": 8,
            "num_key_value_heads": 4,
            "head_dim": 64,
            "tie_word_embeddings": False,
        }
    )
    torch.manual_seed(5)
    model: Any = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.save_pretrained(folder)
    return folder


def tensors() -> Tensors:
    import torch  # noqa: PLC0415

    norm = 1 + 0.1 * torch.randn(HIDDEN, generator=torch.Generator().manual_seed(6))
    whole = {f"{PREFIX}{NORM}": ((HIDDEN,), norm.numpy().tobytes())}
    return matrices(LAYERS, scale=0.03) | whole


def write_adapter(folder: Path, found: Tensors, **changes: object) -> Path:
    folder.mkdir()
    chosen = settings(target_modules=TARGETS, modules_to_save=["model.norm"], **changes)
    for name, data in adapter_files(chosen, found).items():
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_adapter(tmp_path_factory.mktemp("adapters") / "adapter", tensors())


@pytest.fixture(scope="module")
def merged(base: Path, adapter: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint that PEFT merges, or by PEFT's formula where PEFT is not installed.

    ``tests/engines/test_lora_merge.py`` holds the formula to PEFT, bit for bit.
    """
    import torch  # noqa: PLC0415
    from safetensors.torch import load_file, save_file  # noqa: PLC0415

    folder = tmp_path_factory.mktemp("merged") / "model"
    shutil.copytree(base, folder)
    if find_spec("peft") is not None:
        merge_with_peft(base, adapter, folder)
        return folder
    weights = load_file(folder / "model.safetensors")
    found = load_file(adapter / "adapter_model.safetensors")
    for layer in LAYERS:
        a, b = (found[f"{PREFIX}{layer}.lora_{which}.weight"] for which in "AB")
        weights[f"{layer}.weight"] += torch.mm(b, a) * SCALE
    weights[NORM] = found[f"{PREFIX}{NORM}"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def merge_with_peft(base: Path, adapter: Path, folder: Path) -> None:
    import peft  # noqa: PLC0415
    import torch  # noqa: PLC0415
    from transformers import AutoModelForCausalLM  # noqa: PLC0415

    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    peft.PeftModel.from_pretrained(model, adapter).merge_and_unload().save_pretrained(folder)


@pytest.fixture(scope="module")
def plain(merged: Path) -> list[str]:
    """What vLLM answers when nobody has sealed anything, on the merged checkpoint."""
    answers = plain_vllm(merged, PROMPTS, TOKENS, dtype="float32")
    assert answers is not None
    return answers


@pytest.fixture
def deploy(shared: Shared, base: Path, tmp_path: Path) -> Iterator[Callable[[Path], Any]]:
    with ExitStack() as cleanup:

        def make(adapter: Path) -> LiveDeployment:
            deployment = AdapterDeployment(tmp_path, shared, base, adapter)
            cleanup.callback(deployment.close)
            between = Between(deployment)
            live = LiveDeployment(deployment, between, cleanup.enter_context(served(between)))
            cleanup.callback(lambda: [item.stop() for item in live.started])
            return live

        yield make


def begin(live: LiveDeployment, more: str = "") -> Running:
    deployment = live.deployment
    assert isinstance(deployment, AdapterDeployment)
    options = f'dtype = "float32", max_model_len = 256{more}'
    text = (
        f'adapter_store = "{deployment.sealed_adapter}"\n[engine]\nname = "vllm"\n'
        f"options = {{ {options} }}\n[restart]\nattempts = 1\n"
    )
    deployment.now = system_clock()  # its clock stands still, and starts take minutes
    return live.start(text=text, within_s=400)


def texts(live: LiveDeployment, running: Running) -> list[str | None]:
    found = []
    with client(live, running.url) as asker:
        for prompt in PROMPTS:
            messages: Any = [{"role": "user", "content": prompt}]
            answer = asker.chat.completions.create(
                model="tiny", messages=messages, max_tokens=TOKENS, temperature=0
            )
            found.append(answer.choices[0].message.content)
    return found


def test_one_worker_answers_as_the_merged_checkpoint(
    deploy: Callable[[Path], LiveDeployment], base: Path, adapter: Path, plain: list[str]
) -> None:
    live = deploy(adapter)
    running = begin(live)
    assert running.error is None, running.error
    assert texts(live, running) == plain
    assert plain != plain_vllm(base, PROMPTS, TOKENS, dtype="float32"), "the adapter counts"


def test_two_workers_merge_their_slices_and_merge_again(
    deploy: Callable[[Path], LiveDeployment], adapter: Path, plain: list[str]
) -> None:
    live = deploy(adapter)
    running = begin(live, ', tensor_parallel_size = 2, cpu_omp_threads_bind = "0|0"')
    assert running.error is None, running.error
    assert texts(live, running) == plain
    channel = hosted(running).life.channel
    assert channel is not None
    live.deployment.now = system_clock()
    os.kill(min(channel.pids), signal.SIGKILL)
    until(lambda: not running.runtime.serving())
    until(running.runtime.serving, within_s=400)
    assert texts(live, running) == plain, "it was started again, with two keys released anew"
    assert live.between.releases >= 4, "two keys for each start; leases may have been renewed"


def test_an_adapter_that_does_not_fit_is_refused_by_its_code(
    deploy: Callable[[Path], LiveDeployment], tmp_path: Path
) -> None:
    narrow = matrices({"model.layers.0.self_attn.q_proj": (HIDDEN, HIDDEN - 1)})
    live = deploy(write_adapter(tmp_path / "narrow", tensors() | narrow))
    running = begin(live)
    running.join(60)
    assert isinstance(running.error, IntegrityError)
    assert running.error.code is EngineCode.ENGINE_ADAPTER_MISFIT
    assert "model.layers.0.self_attn.q_proj" in running.error.what
    assert members(running) == set()
    assert left_behind() == []
