"""Adapters merged into tensors on their way to vLLM: as PEFT merges them, or refused before."""

from __future__ import annotations

import importlib
import json
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from regalia.core.errors import CoreCode, RegaliaError
from regalia.engines.codes import EngineCode
from regalia.engines.lora import products
from regalia.engines.lora.products import Change, Workspace, apply_to_part
from regalia.engines.lora.tensors import Pair
from regalia.engines.vllm import loader, slices
from regalia.engines.vllm.adapter import BaseFacts, StagedAdapter, read_merging
from regalia.engines.vllm.slices import LazyTensor, SlicedStream
from regalia.engines.vllm.staging import StagingArea
from regalia.engines.vllm.tensors import TensorStream, list_tensors
from regalia_testing.adapters import (
    CONFIG,
    PREFIX,
    TINY_LAYERS,
    WEIGHTS,
    adapter_files,
    matrices,
    settings,
)
from regalia_testing.models import FilesInMemory, tiny_llama
from tests.engines.vllm.plain_files import Files, tensor_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from regalia_testing.adapters import Tensors

torch.set_num_threads(1)
Q0 = "model.layers.0.self_attn.q_proj"
EMBEDDED = "model.embed_tokens.weight"
UNSUPPORTED = EngineCode.ENGINE_ADAPTER_UNSUPPORTED
MISFIT = EngineCode.ENGINE_ADAPTER_MISFIT
FACTS = BaseFacts(kind="llama", quantization=None, tied=False, vocabulary=0)


@pytest.fixture(scope="module")
def untied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("models") / "untied", tied=False, shards=2)


def streamed(base: Path, files: dict[str, bytes], facts: BaseFacts = FACTS) -> dict[str, Any]:
    """All tensors, as one worker gets them."""
    reader = Files.of(base)
    listed = list_tensors(reader)
    merging = read_merging(Files(files), listed, facts)
    return {name: tensor.clone() for name, tensor in TensorStream(reader, listed, merging)}


def stored(base: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    for path in base.glob("*.safetensors"):
        found |= load_file(path)
    return found


# Merged -------------------------------------------------------------------------------------------


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
    tmp_path: Path, untied: Path, dtype: torch.dtype, options: dict[str, Any]
) -> None:
    pytest.importorskip("peft")
    peft = importlib.import_module("peft")
    load: Callable[..., Any] = AutoModelForCausalLM.from_pretrained
    base, adapter, merged = (tmp_path / name for name in ("base", "adapter", "merged"))
    load(untied, dtype=dtype).save_pretrained(base)
    chosen = {"r": 4, "target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM"} | options
    trained = peft.get_peft_model(load(base, dtype=dtype), peft.LoraConfig(**chosen))
    torch.manual_seed(3)
    for name, parameter in trained.named_parameters():
        if "lora_" in name or "modules_to_save" in name:
            parameter.data += 0.3 * torch.randn(parameter.shape)
    trained.save_pretrained(adapter)
    oracle = peft.PeftModel.from_pretrained(load(base, dtype=dtype), adapter).merge_and_unload()
    oracle.save_pretrained(merged)
    found = streamed(base, Files.of(adapter).files)
    want = stored(merged)
    assert found.keys() == want.keys()
    for name, tensor in want.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor), name
    assert any(not torch.equal(want[name], tensor) for name, tensor in stored(base).items())


VIEWS: dict[str, Callable[[Any], Any]] = {
    "rows": lambda t: t.narrow(0, 16, 32),
    "columns": lambda t: t.narrow(1, 8, 24),
    "rows and columns": lambda t: t[5:9, 7:61],
    "a row": lambda t: t[3],
    "a column": lambda t: t[:, 3],
    "transposed rows": lambda t: t.t().narrow(1, 8, 16),
    "transposed columns": lambda t: t.t()[10:20],
    "heads": lambda t: t.view(4, 16, -1)[1:3],
    "heads, some columns": lambda t: t.view(4, 16, -1)[1:3, :, 5:9],
    "heads in another order": lambda t: t.view(4, 16, -1).permute(1, 0, 2)[2:5],
    "every second row": lambda t: t[::2],
    "all": lambda t: t,
    "flat": lambda t: t.view(-1)[100:900],
    "nothing": lambda t: t[:0],
}


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("resized", [False, True])
def test_a_part_is_changed_as_the_whole_is(view: str, dtype: torch.dtype, resized: bool) -> None:  # noqa: FBT001
    torch.manual_seed(1)
    weight = torch.randn(64, 128).to(dtype)
    new = torch.randn(64, 128) if resized else None
    change = Change(new, Pair(torch.randn(4, 128), torch.randn(64, 4)), 0.5)
    space = Workspace(FilesInMemory({}))
    want = weight.clone()
    products.apply_change(change, want, space)
    before = weight.clone()
    lazy = LazyTensor(
        torch.empty(weight.shape, dtype=dtype, device="meta"),
        lambda first, last: weight.view(-1)[first:last].clone(),
        lambda part, first: apply_to_part(change, part, first, 128, space),
    )
    seen = VIEWS[view](lazy)
    got = torch.empty(seen.shape, dtype=dtype).copy_(seen)
    near = {"rtol": 1e-6, "atol": 1e-6} if dtype == torch.float32 else {"rtol": 8e-3, "atol": 1e-3}
    torch.testing.assert_close(got, VIEWS[view](want), **near)
    assert torch.equal(weight, before), "what is kept for others stays as it is"


@pytest.mark.parametrize("view", ["rows", "columns", "rows and columns", "transposed columns"])
def test_no_more_of_the_product_is_computed_than_is_wanted(view: str) -> None:
    whole = torch.zeros(64, 128)
    change = Change(None, Pair(torch.randn(4, 128), torch.randn(64, 4)), 0.5)
    memory = FilesInMemory({})
    part = VIEWS[view](whole)
    apply_to_part(change, part, part.storage_offset(), 128, Workspace(memory))
    a, b, product, wide = (len(area) // 4 for area in memory.extra)
    assert product == wide == part.numel() < whole.numel()
    assert a + b == 4 * sum(part.shape)
    assert torch.count_nonzero(whole) <= part.numel()


def test_a_rank_gets_its_slices_merged(untied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slices, "SMALL", 4096)
    files = adapter_files(settings(), matrices(TINY_LAYERS))
    want = streamed(untied, files)
    reader = Files.of(untied)
    listed = list_tensors(reader)
    stream = SlicedStream(reader, listed, StagingArea(), read_merging(Files(files), listed, FACTS))
    lazy = 0
    for name, tensor in stream:
        lazy += isinstance(tensor, LazyTensor)
        got = torch.empty(tensor[1:3].shape, dtype=tensor.dtype).copy_(tensor[1:3])
        torch.testing.assert_close(got, want[name][1:3], rtol=8e-3, atol=1e-3)
    assert stream.taken == len(want)
    assert 0 < lazy < len(want)


# Refused ------------------------------------------------------------------------------------------


def refusal(base: Path, files: dict[str, bytes], facts: BaseFacts = FACTS) -> RegaliaError:
    with pytest.raises(RegaliaError) as caught:
        streamed(base, files, facts)
    assert len(caught.value.what) < 400
    return caught.value


@pytest.mark.parametrize(
    ("facts", "word"),
    [
        (replace(FACTS, quantization="gptq"), "gptq"),
        (replace(FACTS, quantization="fp8"), "fp8"),
        (replace(FACTS, kind="gpt2"), "gpt2"),
    ],
)
def test_bases_that_nothing_is_added_to(untied: Path, facts: BaseFacts, word: str) -> None:
    error = refusal(untied, adapter_files(settings(), matrices(TINY_LAYERS)), facts)
    assert error.code is UNSUPPORTED
    assert word in error.what


def _named(name: str, shape: tuple[int, ...]) -> Tensors:
    count = 1
    for size in shape:
        count *= size
    return {PREFIX + name: (shape, bytes(4 * count))}


def test_tied_embeddings_are_not_parted(tiny: Path) -> None:
    rows, columns = stored(tiny)[EMBEDDED].shape
    tied = replace(FACTS, tied=True, vocabulary=rows)
    plain = adapter_files(settings(), matrices(TINY_LAYERS))
    assert torch.equal(streamed(tiny, plain, tied)[EMBEDDED], stored(tiny)[EMBEDDED])
    cases: list[tuple[Tensors, dict[str, object]]] = [
        (_named("lm_head.weight", (rows, columns)), {"modules_to_save": ["lm_head"]}),
        (_named(EMBEDDED, (rows, columns)), {"modules_to_save": ["embed_tokens"]}),
        (matrices({"lm_head": (rows, columns)}), {"target_modules": ["lm_head"]}),
    ]
    for tensors, changes in cases:
        error = refusal(tiny, adapter_files(settings(**changes), tensors), tied)
        assert error.code is UNSUPPORTED
        assert "tie_word_embeddings" in error.what


@pytest.mark.parametrize(
    ("tensors", "changes", "code"),
    [
        (matrices({"model.layers.7.self_attn.q_proj": (64, 64)}), {}, MISFIT),
        (matrices({"model.layers.0.mlp": (64, 64)}), {"target_modules": ["mlp"]}, MISFIT),
        (matrices({Q0: (64, 63)}), {}, MISFIT),
        (matrices({Q0: (65, 64)}), {}, MISFIT),
        (matrices({"model.layers.0.mlp.down_proj": (128, 64)}), {}, MISFIT),
        (matrices({Q0: (64, 64)}, rank=5), {}, MISFIT),
        (matrices({Q0: (64, 64)}), {"target_modules": ["gate_proj"]}, MISFIT),
        (matrices({"model.norm": (64, 64)}), {"target_modules": ["norm"]}, UNSUPPORTED),
        (matrices({Q0: (64, 64)}), {"use_dora": True}, UNSUPPORTED),
        (matrices({Q0: (64, 64)}), {"peft_type": "IA3"}, UNSUPPORTED),
        (_named(f"{Q0}.lora_A.weight", (4, 64)), {}, MISFIT),
        (_named("model.embed_tokens.lora_embedding_A", (4, 64)), {}, UNSUPPORTED),
        (_named("model.norm.weight", (63,)), {"modules_to_save": ["norm"]}, MISFIT),
        (_named("model.norm.weight", (64,)), {"modules_to_save": ["score"]}, MISFIT),
        (matrices({Q0: (64, 64)}), {"modules_to_save": ["norm"]}, MISFIT),
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
        ({}, {}, MISFIT),
    ],
)
def test_tensors_that_do_not_fit(
    untied: Path, tensors: Tensors, changes: dict[str, object], code: EngineCode
) -> None:
    error = refusal(untied, adapter_files(settings(**changes), tensors))
    assert error.code is code, error


def test_files_that_are_not_whole(untied: Path) -> None:
    files = adapter_files(settings(), matrices(TINY_LAYERS))
    assert refusal(untied, files | {WEIGHTS: files[WEIGHTS][:-1]}).code is CoreCode.MALFORMED
    assert refusal(untied, files | {WEIGHTS: b""}).code is CoreCode.MALFORMED
    assert refusal(untied, files | {CONFIG: b"["}).code is CoreCode.MALFORMED
    for name in files:
        rest = {other: data for other, data in files.items() if other != name}
        assert refusal(untied, rest).code is MISFIT


def test_weights_of_other_types(tmp_path: Path) -> None:
    data = tensor_file(**{f"{Q0}.weight": ("I8", [64, 64], bytes(4096))})
    (tmp_path / "model.safetensors").write_bytes(data)
    error = refusal(tmp_path, adapter_files(settings(), matrices({Q0: (64, 64)})))
    assert error.code is UNSUPPORTED
    assert "int8" in error.what


# Memory, and what the runtime is told -------------------------------------------------------------


@pytest.fixture
def staged(monkeypatch: pytest.MonkeyPatch) -> list[StagedAdapter]:
    """Every adapter that is staged, with copies of what it held before it was wiped."""
    made: list[StagedAdapter] = []
    wipe = StagedAdapter.wipe

    def watched(self: StagedAdapter) -> None:
        made.append(self)
        assert any(any(area) for area in self._areas)
        wipe(self)

    monkeypatch.setattr(StagedAdapter, "wipe", watched)
    return made


def is_wiped(adapter: StagedAdapter) -> bool:
    return not any(any(area) for area in adapter._areas)


class Told:
    """A worker's weights, and what it tells its runtime."""

    def __init__(self, base: Path, files: dict[str, bytes]) -> None:
        self.files = Files.of(base)
        self.adapter = Files(files)
        self.told: list[Any] = []

    def loaded(self, tensors: int, size: int, read: int) -> None:
        self.told.append((tensors, size, read))

    def failed(self, error: Exception) -> None:
        self.told.append(error)


class Model:
    """A model of vLLM's that copies what it is given."""

    def __init__(self, *, fails: bool = False) -> None:
        self.found: dict[str, torch.Tensor] = {}
        self.fails = fails

    def load_weights(self, weights: Any) -> set[str]:  # noqa: ANN401
        for name, tensor in weights:
            self.found[name] = torch.empty(tensor.shape, dtype=tensor.dtype).copy_(tensor)
            if self.fails:
                raise ValueError("the test says so")
        return set(self.found)


def configured(**changes: object) -> Any:  # noqa: ANN401
    text = SimpleNamespace(model_type="llama", tie_word_embeddings=False)
    plain = {"hf_config": text, "hf_text_config": text, "quantization": None}
    return SimpleNamespace(**(plain | {"get_vocab_size": lambda: 0} | changes))


@pytest.mark.parametrize("sliced", [False, True])
def test_a_worker_merges_and_wipes(
    untied: Path,
    staged: list[StagedAdapter],
    monkeypatch: pytest.MonkeyPatch,
    sliced: bool,  # noqa: FBT001
) -> None:
    monkeypatch.setattr(loader, "_require_whole", lambda *_: None)
    files = adapter_files(settings(), matrices(TINY_LAYERS))
    want = streamed(untied, files)
    weights, model = Told(untied, files), Model()
    loader.fill_model(model, configured(), weights, sliced=sliced)
    assert all(torch.equal(model.found[name], tensor) for name, tensor in want.items())
    assert [is_wiped(adapter) for adapter in staged] == [True]
    ((tensors, size, read),) = weights.told
    assert tensors == len(want)
    assert size == sum(tensor.nbytes for tensor in want.values())
    assert read == weights.files.asked + weights.adapter.asked
    assert weights.adapter.asked == sum(map(len, files.values()))


@pytest.mark.parametrize("sliced", [False, True])
def test_a_worker_that_fails_wipes_as_well(
    untied: Path,
    staged: list[StagedAdapter],
    sliced: bool,  # noqa: FBT001
) -> None:
    weights = Told(untied, adapter_files(settings(), matrices(TINY_LAYERS)))
    with pytest.raises(ValueError, match="the test says so"):
        loader.fill_model(Model(fails=True), configured(), weights, sliced=sliced)
    assert [is_wiped(adapter) for adapter in staged] == [True]
    assert [type(told) for told in weights.told] == [ValueError]


def test_nothing_is_handed_out_before_the_adapter_fits(
    untied: Path, staged: list[StagedAdapter]
) -> None:
    odd = matrices(TINY_LAYERS) | matrices({"model.layers.1.mlp.down_proj": (64, 127)})
    weights, model = Told(untied, adapter_files(settings(), odd)), Model()
    with pytest.raises(RegaliaError):
        loader.fill_model(model, configured(), weights, sliced=False)
    assert model.found == {}
    (error,) = weights.told
    assert error.code is MISFIT
    assert [is_wiped(adapter) for adapter in staged] == [True]


def test_what_vllm_says_of_a_base_counts(untied: Path) -> None:
    files = adapter_files(settings(), matrices(TINY_LAYERS))
    inner = SimpleNamespace(model_type="llama", tie_word_embeddings=False)
    outer = SimpleNamespace(model_type="llava", tie_word_embeddings=True)
    config = configured(hf_config=outer, hf_text_config=inner, get_vocab_size=lambda: 128)
    assert BaseFacts.of(config) == BaseFacts("llama", None, True, 128)  # noqa: FBT003
    weights = Told(untied, files)
    with pytest.raises(RegaliaError, match="awq"):
        loader.fill_model(Model(), configured(quantization="awq"), weights, sliced=True)
    assert weights.adapter.asked == 0, "not even read"


def test_the_head_of_an_adapter_is_read_strictly(untied: Path) -> None:
    files = adapter_files(settings(), matrices(TINY_LAYERS))
    start = 8 + int.from_bytes(files[WEIGHTS][:8], "little")
    table = json.loads(files[WEIGHTS][8:start])
    table[next(iter(table))]["data_offsets"] = [0, 1 << 60]
    head = json.dumps(table).encode()
    odd = len(head).to_bytes(8, "little") + head + files[WEIGHTS][start:]
    assert refusal(untied, files | {WEIGHTS: odd}).code is CoreCode.MALFORMED
