"""LoRA adapters in the transformers engine: merged as PEFT merges them, or refused by name."""

from __future__ import annotations

import importlib
import json
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from regalia.core.errors import CoreCode, RegaliaError
from regalia.engines.codes import EngineCode
from regalia.engines.lora import products
from regalia.engines.lora.merge import merge_adapter
from regalia.engines.tensors import MappedTensors
from regalia.engines.transformers import build_engine
from regalia_testing.adapters import (
    PREFIX,
    TINY_LAYERS,
    WEIGHTS,
    adapter_files,
    matrices,
    settings,
    tiny_adapter,
)
from regalia_testing.models import FilesInMemory

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from regalia.engines.transformers import TransformersEngine
    from regalia_testing.adapters import Tensors

torch.set_num_threads(1)
Q0 = "model.layers.0.self_attn.q_proj"
TIED = "lm_head.weight"


def with_adapter(base: Path, files: dict[str, bytes]) -> TransformersEngine:
    return build_engine.with_adapter(
        FilesInMemory.of(base), FilesInMemory(files), model_name="tiny", options={}
    )


def weights(engine: TransformersEngine) -> dict[str, torch.Tensor]:
    return dict(engine._model.state_dict())


def plain(base: Path) -> dict[str, torch.Tensor]:
    return dict(AutoModelForCausalLM.from_pretrained(base, dtype="auto").state_dict())


def merged(base: Path, files: dict[str, bytes], scale: float) -> dict[str, torch.Tensor]:
    """What PEFT documents, in plain torch: W + scale * (B @ A), computed in 32 bits."""
    adapter = {
        name: torch.frombuffer(bytearray(view), dtype=torch.float32)
        for name, view in _tensors(files).items()
    }
    found = plain(base)
    for layer, (outputs, inputs) in TINY_LAYERS.items():
        a = adapter[f"{PREFIX}{layer}.lora_A.weight"].view(-1, inputs)
        b = adapter[f"{PREFIX}{layer}.lora_B.weight"].view(outputs, -1)
        old = found[f"{layer}.weight"]
        found[f"{layer}.weight"] = (old.float() + (b @ a) * scale).to(old.dtype)
    return found


def _tensors(files: dict[str, bytes]) -> dict[str, bytes]:
    data = files[WEIGHTS]
    start = 8 + int.from_bytes(data[:8], "little")
    table = json.loads(data[8:start])
    return {
        name: data[start + entry["data_offsets"][0] : start + entry["data_offsets"][1]]
        for name, entry in table.items()
    }


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(
        torch.equal(one[name], other[name]) and one[name].dtype == other[name].dtype for name in one
    )


# Merged -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "scale"),
    [({}, 4.0), ({"use_rslora": True}, 8.0), ({"lora_alpha": 3}, 0.75), ({"lora_alpha": 0}, 0.0)],
)
def test_the_scale_is_that_of_the_settings(
    tiny: Path, changes: dict[str, object], scale: float
) -> None:
    files = adapter_files(settings(**changes), matrices(TINY_LAYERS))
    engine = with_adapter(tiny, files)
    assert equal(weights(engine), merged(tiny, files, scale))
    assert equal(weights(engine), plain(tiny)) == (scale == 0)
    assert engine.tensors_inside > 0, "all of it lies in the model's memory"


@pytest.mark.parametrize("block", [1, 100, 64 * 64, 10_000])
def test_blocks_of_any_size_add_up_to_the_same(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(products, "BLOCK", block)
    files = adapter_files(settings(), matrices(TINY_LAYERS))
    found, want = weights(with_adapter(tiny, files)), merged(tiny, files, 4.0)
    for name, tensor in want.items():
        assert torch.allclose(found[name].float(), tensor.float(), rtol=1e-2, atol=1e-6), name


def test_ranks_and_scales_of_single_layers(tiny: Path) -> None:
    other = {Q0: TINY_LAYERS[Q0]}
    tensors = matrices(TINY_LAYERS) | matrices(other, rank=7, seed=2)
    ranks = {f"^{Q0}": 7, "layers.0.self_attn.q_proj": 5}
    files = adapter_files(
        settings(rank_pattern=ranks, alpha_pattern={"0.self_attn.q_proj": 14}), tensors
    )
    found = weights(with_adapter(tiny, files))
    assert torch.equal(found[f"{Q0}.weight"], merged(tiny, files, 2.0)[f"{Q0}.weight"])
    rest = merged(tiny, files, 4.0)
    assert all(torch.equal(found[name], rest[name]) for name in rest if not name.startswith(Q0))


def test_a_whole_module_replaces_one_and_leaves_what_was_tied_to_it(tiny: Path) -> None:
    old = plain(tiny)
    new = torch.arange(old[TIED].numel(), dtype=torch.float32).view(old[TIED].shape)
    tensors = {f"{PREFIX}{TIED}": (tuple(new.shape), new.numpy().tobytes())}
    engine = with_adapter(tiny, adapter_files(settings(modules_to_save=["lm_head"]), tensors))
    found = weights(engine)
    assert torch.equal(found[TIED], new.to(old[TIED].dtype))
    assert torch.equal(found["model.embed_tokens.weight"], old["model.embed_tokens.weight"])


def test_layers_that_store_their_weights_transposed() -> None:
    config = GPT2Config(n_embd=8, n_layer=1, n_head=2, vocab_size=11, n_positions=8)
    model = GPT2LMHeadModel(config)
    layer = model.transformer.h[0].attn.c_attn
    before = layer.weight.detach().clone()
    tensors = matrices({"transformer.h.0.attn.c_attn": (24, 8)})
    files = adapter_files(settings(target_modules=["c_attn"], fan_in_fan_out=True), tensors)
    memory = MappedTensors({}, {}, [])
    assert merge_adapter(model, memory, FilesInMemory({}), FilesInMemory(files)) == 1
    a, b = (torch.frombuffer(bytearray(data), dtype=torch.float32) for _, data in tensors.values())
    want = before + (b.view(24, 4) @ a.view(4, 8)).t() * 4.0
    assert torch.allclose(layer.weight, want, atol=1e-6)


@pytest.mark.filterwarnings("ignore")  # PEFT's own
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"use_rslora": True, "rank_pattern": {"layers.1.self_attn.q_proj": 7}},
        {"target_modules": "all-linear"},
        {"target_modules": r".*\.(q|k)_proj", "alpha_pattern": {"k_proj": 3}},
        {"modules_to_save": ["lm_head", "norm"]},
        {"modules_to_save": ["embed_tokens"]},
        {"target_modules": ["q_proj", "lm_head"]},
    ],
)
def test_bit_for_bit_as_peft(
    tmp_path: Path, tiny: Path, dtype: torch.dtype, options: dict[str, Any]
) -> None:
    """With PEFT at hand (it is not among the development requirements), it is the oracle."""
    pytest.importorskip("peft")
    peft = importlib.import_module("peft")
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    base.mkdir()
    for path in tiny.iterdir():
        (base / path.name).write_bytes(path.read_bytes())
    _cast(base / "model.safetensors", dtype)
    chosen = {"r": 4, "target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM"} | options
    load: Callable[..., Any] = AutoModelForCausalLM.from_pretrained
    trained = peft.get_peft_model(load(base, dtype=dtype), peft.LoraConfig(**chosen))
    torch.manual_seed(3)
    for name, parameter in trained.named_parameters():
        if "lora_" in name or "modules_to_save" in name:
            parameter.data += 0.3 * torch.randn(parameter.shape)
    trained.save_pretrained(adapter)
    oracle = peft.PeftModel.from_pretrained(load(base, dtype=dtype), adapter).merge_and_unload()
    files = {path.name: path.read_bytes() for path in adapter.iterdir() if path.name != "README.md"}
    engine = with_adapter(base, files)
    assert equal(weights(engine), dict(oracle.state_dict()))
    assert not equal(weights(engine), plain(base))


def _cast(path: Path, dtype: torch.dtype) -> None:
    save_file(
        {name: tensor.to(dtype) for name, tensor in load_file(path).items()},
        path,
        metadata={"format": "pt"},
    )


# Refused ------------------------------------------------------------------------------------------


def refusal(base: Path, files: dict[str, bytes]) -> RegaliaError:
    """The refusal, after which no weight of the base has changed."""
    memory = FilesInMemory.of(base)
    before = bytes(memory.memory)
    with pytest.raises(RegaliaError) as caught:
        build_engine.with_adapter(memory, FilesInMemory(files), model_name="tiny", options={})
    assert bytes(memory.memory) == before
    return caught.value


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"peft_type": "ADALORA"}, "ADALORA"),
        ({"peft_type": "IA3"}, "IA3"),
        ({"peft_type": "PROMPT_TUNING"}, "PROMPT_TUNING"),
        ({"peft_type": None}, "peft_type"),
        ({"task_type": "SEQ_CLS"}, "SEQ_CLS"),
        ({"use_dora": True}, "use_dora"),
        ({"use_qalora": True}, "use_qalora"),
        ({"bias": "all"}, "bias"),
        ({"lora_bias": True}, "lora_bias"),
        ({"init_lora_weights": "pissa_niter_4"}, "path_initial_model_for_weight_conversion"),
        ({"init_lora_weights": "olora"}, "olora"),
        ({"init_lora_weights": 1}, "init_lora_weights"),
        ({"layer_replication": [[0, 2]]}, "layer_replication"),
        ({"target_parameters": ["experts.w1"]}, "target_parameters"),
        ({"trainable_token_indices": [1]}, "trainable_token_indices"),
        ({"alora_invocation_tokens": [1]}, "alora_invocation_tokens"),
        ({"ensure_weight_tying": True}, "ensure_weight_tying"),
        ({"of_a_later_version": {"x": 1}}, "of_a_later_version"),
        ({"r": 0}, "rank"),
        ({"r": -4}, "rank"),
        ({"r": True}, "rank"),
        ({"r": 1 << 40}, "rank"),
        ({"r": "4"}, "rank"),
        ({"lora_alpha": float("nan")}, "scale"),
        ({"lora_alpha": float("inf")}, "scale"),
        ({"lora_alpha": None}, "scale"),
        ({"use_rslora": "yes"}, "use_rslora"),
        ({"rank_pattern": {"(a+)+$": 4}}, "patterns"),
        ({"rank_pattern": {"q_proj": 0}}, "rank"),
        ({"alpha_pattern": ["q_proj"]}, "alpha_pattern"),
        ({"modules_to_save": "lm_head"}, "modules_to_save"),
        ({"target_modules": ["q_proj", 1]}, "target_modules"),
    ],
)
def test_other_adapters_are_refused_by_name(
    tiny: Path, changes: dict[str, object], word: str
) -> None:
    files = adapter_files(settings(**changes), matrices(TINY_LAYERS))
    error = refusal(tiny, files)
    assert error.code is EngineCode.ENGINE_ADAPTER_UNSUPPORTED
    assert word in error.what
    assert len(error.what) < 400


def _named(name: str, shape: tuple[int, ...] = (4, 4)) -> Tensors:
    count = 1
    for size in shape:
        count *= size
    return {PREFIX + name: (shape, bytes(4 * count))}


UNSUPPORTED = EngineCode.ENGINE_ADAPTER_UNSUPPORTED
MISFIT = EngineCode.ENGINE_ADAPTER_MISFIT


@pytest.mark.parametrize(
    ("tensors", "changes", "code"),
    [
        (matrices({"model.layers.7.self_attn.q_proj": (64, 64)}), {}, MISFIT),
        (matrices({"model.layers.0.self_attn.__class__": (64, 64)}), {}, MISFIT),
        (matrices({Q0: (64, 63)}), {}, MISFIT),
        (matrices({Q0: (65, 64)}), {}, MISFIT),
        (matrices({Q0: (64, 64)}, rank=5), {}, MISFIT),
        (matrices({Q0: (64, 64)}, rank=0), {}, MISFIT),
        (matrices({Q0: (64, 64)}), {"target_modules": ["gate_proj"]}, MISFIT),
        (matrices({"model.layers.0.mlp": (64, 64)}), {"target_modules": ["mlp"]}, UNSUPPORTED),
        (
            matrices({"model.embed_tokens": (64, 64)}),
            {"target_modules": ["embed_tokens"]},
            UNSUPPORTED,
        ),
        (_named(f"{Q0}.lora_A.weight", (4, 64)), {}, MISFIT),
        (_named(f"{Q0}.lora_B.weight", (64, 4)), {}, MISFIT),
        (_named(f"{Q0}.lora_A.bias"), {}, UNSUPPORTED),
        (_named(f"{Q0}.lora_A.default.weight"), {}, UNSUPPORTED),
        (_named(f"{Q0}.lora_magnitude_vector"), {}, UNSUPPORTED),
        (_named("model.embed_tokens.lora_embedding_A"), {}, UNSUPPORTED),
        (_named(f"{Q0}.weight", (64, 64)), {}, MISFIT),
        (_named(f"{Q0}.base_layer.weight", (64, 64)), {}, MISFIT),
        (_named("model.norm.weight", (63,)), {"modules_to_save": ["norm"]}, MISFIT),
        (_named("model.norm.weight", (64,)), {"modules_to_save": ["score"]}, MISFIT),
        (_named("score.weight", (2, 64)), {"modules_to_save": ["score"]}, MISFIT),
        (
            matrices({Q0: (64, 64)}) | _named(f"{Q0}.weight", (64, 64)),
            {"modules_to_save": ["0.self_attn.q_proj"]},
            MISFIT,
        ),
        (
            matrices({Q0: (64, 64)}) | _named(f"{Q0}.base_layer.weight", (64, 65)),
            {},
            MISFIT,
        ),
        (matrices({Q0: (64, 64)}), {"modules_to_save": ["norm"]}, MISFIT),
        ({"model.x.lora_A.weight": ((4, 4), bytes(64))}, {}, MISFIT),
        ({}, {}, MISFIT),
    ],
)
def test_tensors_that_do_not_fit(
    tiny: Path, tensors: Tensors, changes: dict[str, object], code: EngineCode
) -> None:
    error = refusal(tiny, adapter_files(settings(**changes), tensors))
    assert error.code is code, error
    assert len(error.what) < 400


def test_files_that_are_not_whole(tiny: Path) -> None:
    files = adapter_files(settings(), matrices(TINY_LAYERS))
    short = files[WEIGHTS][:-1]
    assert refusal(tiny, files | {WEIGHTS: short}).code is CoreCode.MALFORMED
    assert refusal(tiny, files | {"adapter_config.json": b"["}).code is CoreCode.MALFORMED
    for name in files:
        rest = {other: data for other, data in files.items() if other != name}
        assert refusal(tiny, rest).code is MISFIT


def test_numbers_that_are_no_floats(tiny: Path) -> None:
    files = adapter_files(settings(), matrices({Q0: (64, 64)}))
    odd = files[WEIGHTS].replace(b'"F32"', b'"I32"')
    assert refusal(tiny, files | {WEIGHTS: odd}).code is UNSUPPORTED


def test_an_adapter_by_itself_is_no_model(tmp_path: Path) -> None:
    alone = FilesInMemory.of(tiny_adapter(tmp_path / "adapter"))
    with pytest.raises(RegaliaError) as caught:
        build_engine(alone, model_name="tiny", options={})
    assert caught.value.code is EngineCode.ENGINE_NEEDS_SAFETENSORS
    assert "adapter without its base" in caught.value.what
