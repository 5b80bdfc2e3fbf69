"""Checkpoints as they are found: other names, experts one by one, several types in one file."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

from regalia.core.errors import IntegrityError, UsageError
from regalia.engines.base import GenerationRequest, Message
from regalia.engines.codes import EngineCode
from regalia.engines.tokenizer import build_codec
from regalia.engines.transformers import build_engine
from regalia.engines.trial import CachedModel
from regalia_testing.models import FilesInMemory

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from regalia.core.errors import RegaliaError
    from regalia.engines.transformers import TransformersEngine

torch.set_num_threads(1)
HELLO = (Message("user", "Hello there"),)
NEW = 5  # tokens
SMALL: dict[str, Any] = {
    "vocab_size": 259,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
    "initializer_range": 0.3,
    "eos_token_id": 2,
    "bos_token_id": 1,
    "pad_token_id": 0,
}
EXPERTS = {"num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2}
Tensors = dict[str, torch.Tensor]


def unchanged(tensors: Tensors) -> Tensors:
    return tensors


def renamed(old: str, new: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {name.replace(old, new): value for name, value in tensors.items()}


def with_old_buffers(tensors: Tensors) -> Tensors:
    extra = {
        "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4, dtype=torch.float64),
        "model.layers.1.self_attn.rotary_emb.inv_freq": torch.ones(4, dtype=torch.float64),
    }
    return tensors | extra


def with_causal_masks(tensors: Tensors) -> Tensors:
    plain = renamed("transformer.", "")(tensors)
    return plain | {"h.0.attn.bias": torch.ones(1, 1, 8, 8), "h.0.attn.masked_bias": torch.ones(1)}


# Name: model type, settings, and what is done to the tensors that the library saves.
CHECKPOINTS: dict[str, tuple[str, dict[str, Any], Callable[[Tensors], Tensors]]] = {
    "mixtral, expert by expert": ("mixtral", EXPERTS, unchanged),
    "qwen3_moe, expert by expert": (
        "qwen3_moe",
        EXPERTS | {"moe_intermediate_size": 16},
        unchanged,
    ),
    "gpt2 without its prefix": (
        "gpt2",
        {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128},
        with_causal_masks,
    ),
    "llama with frequencies": ("llama", {}, with_old_buffers),
    "llama without its prefix": ("llama", {"tie_word_embeddings": True}, renamed("model.", "")),
}


@pytest.fixture(scope="session")
def make(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> Callable[..., Path]:
    """Build, save and change a tiny model of any type, with the tokenizer of another one."""
    made: dict[str, Path] = {}

    def checkpoint(
        kind: str, settings: dict[str, Any], change: Callable[[Tensors], Tensors]
    ) -> Path:
        key = f"{kind}/{settings}"
        if key not in made:
            made[key] = tmp_path_factory.mktemp(kind)
            torch.manual_seed(7)
            config = AutoConfig.for_model(kind, **(SMALL | settings))
            AutoModelForCausalLM.from_config(config).save_pretrained(made[key])
            for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
                shutil.copy(tiny / name, made[key])
        folder = tmp_path_factory.mktemp("changed")
        shutil.copytree(made[key], folder, dirs_exist_ok=True)
        weights = folder / "model.safetensors"
        changed = {name: value.clone() for name, value in change(load_file(weights)).items()}
        save_file(changed, weights)
        return folder

    return checkpoint


def engine_of(files: FilesInMemory) -> TransformersEngine:
    return build_engine(files, model_name="m", options={})


def tokens_of(engine: TransformersEngine) -> list[int]:
    prompt = engine.encode_chat(HELLO)
    request = GenerationRequest(prompt, NEW, (), 0.0, 1.0, 1)
    return [token for token in engine._tokens(request, NEW) if token is not None]


def reference(folder: Path, engine: TransformersEngine) -> list[int]:
    """Greedy tokens of the library, which reads the same folder its own way."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    prompt = torch.tensor([engine.encode_chat(HELLO)])
    answer = model.generate(prompt, max_new_tokens=NEW, do_sample=False, eos_token_id=-1)
    return [int(item) for item in answer[0, prompt.shape[1] :]]


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_same_tokens_as_the_library(name: str, make: Callable[..., Path]) -> None:
    folder = make(*CHECKPOINTS[name])
    files = FilesInMemory.of(folder)
    engine = engine_of(files)
    assert tokens_of(engine) == reference(folder, engine)
    assert engine.tensors_inside > 0, "and every one lies in memory of the model's kind"


def test_stacked_experts_leave_one_copy(make: Callable[..., Path]) -> None:
    folder = make(*CHECKPOINTS["mixtral, expert by expert"])
    name = "model.layers.1.block_sparse_moe.experts.2.w1.weight"
    needle = load_file(folder / "model.safetensors")[name].numpy().tobytes()
    files = FilesInMemory.of(folder)
    assert files.memory.find(needle) > 0
    engine_of(files)
    assert files.memory.find(needle) < 0
    assert [extra.find(needle) >= 0 for extra in files.extra].count(True) == 1


def drop(part: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {n: value for n, value in tensors.items() if part not in n}


def other(
    part: str, change: Callable[[torch.Tensor], torch.Tensor]
) -> Callable[[Tensors], Tensors]:
    return lambda t: {n: change(value) if part in n else value for n, value in t.items()}


def twice(tensors: Tensors) -> Tensors:
    return tensors | {"layers.0.input_layernorm.weight": tensors["model.norm.weight"]}


Defect = tuple[str, "Callable[[Tensors], Tensors]", "type[RegaliaError]", EngineCode]
MIXTRAL, LLAMA = "mixtral, expert by expert", "llama with frequencies"
INCOMPLETE, UNSUPPORTED = EngineCode.ENGINE_MODEL_INCOMPLETE, EngineCode.ENGINE_MODEL_UNSUPPORTED
DEFECTS: dict[str, Defect] = {
    "no last expert": (MIXTRAL, drop(".experts.3.w2."), IntegrityError, INCOMPLETE),
    "no first expert": (MIXTRAL, drop(".experts.0."), IntegrityError, INCOMPLETE),
    "no gates": (MIXTRAL, drop(".w1."), IntegrityError, INCOMPLETE),
    "no ups": (MIXTRAL, drop(".w3."), IntegrityError, INCOMPLETE),
    "a narrow expert": (
        MIXTRAL,
        other("experts.1.w1.", lambda value: value[:40]),
        IntegrityError,
        INCOMPLETE,
    ),
    "gates and ups of two widths": (
        MIXTRAL,
        lambda t: {
            n: torch.zeros(24 if ".w1." in n else 72, 32) if ".w1." in n or ".w3." in n else value
            for n, value in t.items()
        },
        IntegrityError,
        INCOMPLETE,
    ),
    "experts stacked and one by one": (
        MIXTRAL,
        lambda t: t | {"model.layers.0.mlp.experts.down_proj": torch.zeros(4, 32, 48)},
        IntegrityError,
        INCOMPLETE,
    ),
    "an expert of another type": (
        MIXTRAL,
        other("experts.1.w1.", torch.Tensor.bfloat16),
        UsageError,
        UNSUPPORTED,
    ),
    "a tensor under two names": (LLAMA, twice, IntegrityError, INCOMPLETE),
    "a tensor that nobody knows": (
        LLAMA,
        lambda t: t | {"model.layers.0.gossip": torch.ones(1)},
        IntegrityError,
        INCOMPLETE,
    ),
}


@pytest.mark.parametrize("name", DEFECTS)
def test_refuses(name: str, make: Callable[..., Path]) -> None:
    base, change, kind, code = DEFECTS[name]
    model, settings, _ = CHECKPOINTS[base]
    with pytest.raises(kind) as caught:
        engine_of(FilesInMemory.of(make(model, settings, change)))
    assert caught.value.code is code


MAMBA = {"hidden_size": 32, "state_size": 8, "num_hidden_layers": 2, "dtype": "bfloat16"}


def mixed(tensors: Tensors) -> Tensors:
    return {
        name: value.float() if name.endswith(("A_log", ".D")) else value.bfloat16()
        for name, value in tensors.items()
    }


def test_every_tensor_in_its_own_type(make: Callable[..., Path]) -> None:
    """The library would round ``A_log`` and ``D`` to bfloat16 here; we compute with all digits."""
    folder = make("mamba", MAMBA, mixed)
    files = FilesInMemory.of(folder)
    engine = engine_of(files)
    kinds = {name: value.dtype for name, value in engine._model.state_dict().items()}
    assert {kinds[name] for name in kinds if name.endswith(("A_log", ".D"))} == {torch.float32}
    assert kinds["backbone.layers.0.mixer.in_proj.weight"] is torch.bfloat16
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    model.load_state_dict(load_file(folder / "model.safetensors"), strict=False, assign=True)
    model.tie_weights()
    prompt = torch.tensor([engine.encode_chat(HELLO)])
    with torch.inference_mode():
        want = model(prompt).logits[0, -1]
        seen = engine._model(prompt).logits[0, -1]
    assert torch.equal(seen, want)


def test_types_that_do_not_go_together_are_refused(make: Callable[..., Path]) -> None:
    change = other("mlp.up_proj", torch.Tensor.double)
    with pytest.raises(UsageError) as caught:
        engine_of(FilesInMemory.of(make("llama", {}, change)))
    assert caught.value.code is EngineCode.ENGINE_COPY_NEEDED
    assert "float64" in caught.value.what


def test_numbers_that_are_not_finite_are_not_served(make: Callable[..., Path]) -> None:
    """With the cache, without, or in both: the trial looks at what either says."""
    change = other("model.norm.weight", lambda value: value * float("nan"))
    with pytest.raises(UsageError) as caught:
        engine_of(FilesInMemory.of(make("llama", {}, change)))
    assert "not finite" in caught.value.what


def test_a_cache_that_spoils_the_answer_is_noticed(
    make: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    read = CachedModel.read

    def spoiled(self: CachedModel, tokens: list[int]) -> torch.Tensor:
        logits = read(self, tokens)
        return logits * float("nan") if len(tokens) == 1 else logits

    monkeypatch.setattr(CachedModel, "read", spoiled)
    with pytest.raises(UsageError) as caught:
        engine_of(FilesInMemory.of(make("llama", {}, unchanged)))
    assert "not finite" in caught.value.what


NATIVE = {"AutoConfig": "configuration_llama.LlamaConfig", "AutoModelForCausalLM": "m.LlamaModel"}


def test_code_of_a_native_type_is_not_needed(make: Callable[..., Path]) -> None:
    folder = make("llama", {}, unchanged)
    want = tokens_of(engine_of(FilesInMemory.of(folder)))
    for name in ("config.json", "tokenizer_config.json"):
        settings = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(settings | {"auto_map": NATIVE}))
    assert tokens_of(engine_of(FilesInMemory.of(folder))) == want


@pytest.mark.parametrize(
    ("keep", "words"),
    [
        (
            {"model-00001-of-00002.safetensors": b"", "model-00002-of-00002.safetensors": b""},
            "00002",
        ),
        ({"adapter_model.safetensors": b"", "adapter_config.json": b"{}"}, "adapter"),
        ({"pytorch_model.bin": b""}, "pytorch_model.bin"),
        ({"consolidated.safetensors": b""}, "consolidated.safetensors"),
        ({"model.fp16.safetensors": b""}, "model.fp16.safetensors"),
        ({}, "no weights"),
    ],
)
def test_weights_that_are_not_there_are_named(
    keep: dict[str, bytes], words: str, make: Callable[..., Path]
) -> None:
    folder = make("llama", {}, unchanged)
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    del files["model.safetensors"]
    with pytest.raises(UsageError) as caught:
        engine_of(FilesInMemory(files | keep))
    assert caught.value.code is EngineCode.ENGINE_NEEDS_SAFETENSORS
    assert words in caught.value.what


@pytest.mark.parametrize("file", ["tokenizer_config.json", "added_tokens.json"])
def test_added_tokens_are_one_token(file: str, tiny: Path) -> None:
    files = {path.name: path.read_bytes() for path in tiny.iterdir()}
    if file == "added_tokens.json":
        files[file] = json.dumps({"<think>": 259}).encode()
    else:
        settings = json.loads(files[file])
        token = {"content": "<think>", "lstrip": False, "normalized": False, "special": False}
        files[file] = json.dumps(settings | {"added_tokens_decoder": {"259": token}}).encode()
    tokens = build_codec_tokens(files, "a<think>b")
    assert tokens.count(259) == 1
    assert len(tokens) == 3


def build_codec_tokens(files: dict[str, bytes], text: str) -> tuple[int, ...]:
    return build_codec(FilesInMemory(files)).encode_text(text, most=100)


def test_special_tokens_of_an_older_file(tiny: Path) -> None:
    files = {path.name: path.read_bytes() for path in tiny.iterdir()}
    settings = json.loads(files["tokenizer_config.json"])
    del settings["eos_token"]
    files["tokenizer_config.json"] = json.dumps(settings).encode()
    assert build_codec(FilesInMemory(files)).eos_token_id is None
    files["special_tokens_map.json"] = json.dumps({"eos_token": {"content": "<|im_end|>"}}).encode()
    assert build_codec(FilesInMemory(files)).eos_token_id == 2
