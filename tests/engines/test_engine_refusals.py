"""What the engine does not run, it refuses by name: formats, shapes, remote code, copies."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import pytest
from safetensors.torch import load, save

from regalia.core.errors import CoreCode, IntegrityError, ParseError, UsageError
from regalia.engines.base import Message
from regalia.engines.codes import EngineCode
from regalia.engines.transformers import build_engine
from regalia_testing.models import FilesInMemory

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import torch

    from regalia.core.errors import RegaliaError
    from regalia.engines.transformers import TransformersEngine

HELLO = (Message("user", "Hello"),)


def engine_of(files: FilesInMemory, **options: object) -> TransformersEngine:
    return build_engine(files, model_name="m", options=options)


def files_with(folder: Path, **changes: Callable[[bytes], bytes] | bytes | None) -> FilesInMemory:
    """The model with some files replaced; ``_`` stands for the dot before the ending."""
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    for key, change in changes.items():
        stem, _, ending = key.rpartition("_")
        name = f"{stem}.{ending}"
        if change is None:
            del files[name]
        else:
            files[name] = change(files[name]) if callable(change) else change
    return FilesInMemory(files)


def edit(**members: object) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        return json.dumps(json.loads(data) | members).encode()

    return change


def retensor(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[bytes], bytes]:
    def rewrite(data: bytes) -> bytes:
        tensors = load(data)
        change(tensors)
        return save(tensors)

    return rewrite


def misalign(data: bytes) -> bytes:
    size = int.from_bytes(data[:8], "little")
    return (size + 1).to_bytes(8, "little") + data[8 : 8 + size] + b" " + data[8 + size :]


NORM = "model.norm.weight"
Changes = dict[str, Any]
REFUSED: dict[str, tuple[type[RegaliaError], object, Changes]] = {
    "gguf": (
        UsageError,
        EngineCode.ENGINE_NEEDS_SAFETENSORS,
        {"model_safetensors": None, "model_gguf": b"GGUF"},
    ),
    "pickle": (
        UsageError,
        EngineCode.ENGINE_NEEDS_SAFETENSORS,
        {"model_safetensors": None, "pytorch_model_bin": b"\x80\x02."},
    ),
    "no weights": (UsageError, EngineCode.ENGINE_NEEDS_SAFETENSORS, {"model_safetensors": None}),
    "damaged weights": (ParseError, CoreCode.MALFORMED, {"model_safetensors": lambda d: d[:-1]}),
    "no config": (UsageError, EngineCode.ENGINE_MODEL_UNSUPPORTED, {"config_json": None}),
    "config is no object": (ParseError, CoreCode.MALFORMED, {"config_json": b"[]"}),
    "config is not UTF-8": (ParseError, CoreCode.MALFORMED, {"config_json": b"\xff"}),
    "remote code": (
        UsageError,
        EngineCode.ENGINE_MODEL_UNSUPPORTED,
        {"config_json": edit(auto_map={"AutoModelForCausalLM": "evil.Model"}, model_type="evil")},
    ),
    "remote tokenizer": (
        UsageError,
        EngineCode.ENGINE_MODEL_UNSUPPORTED,
        {
            "tokenizer_config_json": edit(
                auto_map={"AutoTokenizer": ["evil.T", None]}, tokenizer_class="EvilTokenizer"
            )
        },
    ),
    "quantized": (
        UsageError,
        EngineCode.ENGINE_MODEL_UNSUPPORTED,
        {"config_json": edit(quantization_config={"quant_method": "gptq", "bits": 4})},
    ),
    "unknown type": (
        UsageError,
        EngineCode.ENGINE_MODEL_UNSUPPORTED,
        {"config_json": edit(model_type="frobnicator")},
    ),
    "no language model": (
        UsageError,
        EngineCode.ENGINE_MODEL_UNSUPPORTED,
        {"config_json": edit(model_type="vit", architectures=["ViTModel"])},
    ),
    "other architecture": (
        UsageError,
        EngineCode.ENGINE_MODEL_UNSUPPORTED,
        {"config_json": edit(architectures=["LlamaForSequenceClassification"])},
    ),
    "absurd shape": (
        UsageError,
        EngineCode.ENGINE_MODEL_UNSUPPORTED,
        {"config_json": edit(num_attention_heads=0)},
    ),
    "settings of a wrong kind": (
        UsageError,
        EngineCode.ENGINE_MODEL_UNSUPPORTED,
        {"config_json": edit(hidden_size="many")},
    ),
    "more layers than tensors": (
        IntegrityError,
        EngineCode.ENGINE_MODEL_INCOMPLETE,
        {"config_json": edit(num_hidden_layers=3)},
    ),
    "fewer layers than tensors": (
        IntegrityError,
        EngineCode.ENGINE_MODEL_INCOMPLETE,
        {"config_json": edit(num_hidden_layers=1)},
    ),
    "missing tensor": (
        IntegrityError,
        EngineCode.ENGINE_MODEL_INCOMPLETE,
        {"model_safetensors": retensor(lambda t: t.pop(NORM))},
    ),
    "tied and both missing": (
        IntegrityError,
        EngineCode.ENGINE_MODEL_INCOMPLETE,
        {"model_safetensors": retensor(lambda t: t.pop("model.embed_tokens.weight"))},
    ),
    "other shape": (
        IntegrityError,
        EngineCode.ENGINE_MODEL_INCOMPLETE,
        {"model_safetensors": retensor(lambda t: t.update({NORM: t[NORM][:8].clone()}))},
    ),
    "two types": (
        UsageError,
        EngineCode.ENGINE_COPY_NEEDED,
        {"model_safetensors": retensor(lambda t: t.update({NORM: t[NORM].float()}))},
    ),
    "no floating point": (
        UsageError,
        EngineCode.ENGINE_MODEL_UNSUPPORTED,
        {"model_safetensors": retensor(lambda t: t.update({n: x.char() for n, x in t.items()}))},
    ),
    "no tokenizer": (UsageError, EngineCode.ENGINE_NEEDS_FAST_TOKENIZER, {"tokenizer_json": None}),
    "a token of two numbers": (
        UsageError,
        EngineCode.ENGINE_TOKENIZER_INCONSISTENT,
        {"tokenizer_config_json": edit(added_tokens_decoder={"7": {"content": "<think>"}})},
    ),
    "an added token without a number": (
        ParseError,
        CoreCode.MALFORMED,
        {"tokenizer_config_json": edit(added_tokens_decoder={"x": {"content": "<think>"}})},
    ),
    "an added token with a number of many digits": (
        ParseError,
        CoreCode.MALFORMED,
        {"tokenizer_config_json": edit(added_tokens_decoder={"9" * 5000: {"content": "<think>"}})},
    ),
    "an added token without text": (
        ParseError,
        CoreCode.MALFORMED,
        {"tokenizer_config_json": edit(added_tokens_decoder={"259": {"special": True}})},
    ),
    "git lfs pointer": (
        IntegrityError,
        EngineCode.ENGINE_MODEL_INCOMPLETE,
        {"model_safetensors": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n"},
    ),
    "damaged tokenizer": (ParseError, CoreCode.MALFORMED, {"tokenizer_json": b"{}"}),
    "template is no text": (
        ParseError,
        CoreCode.MALFORMED,
        {"chat_template_jinja": None, "tokenizer_config_json": edit(chat_template=7)},
    ),
    "token is no text": (
        ParseError,
        CoreCode.MALFORMED,
        {"tokenizer_config_json": edit(eos_token=[1])},
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses(name: str, tiny: Path) -> None:
    kind, code, changes = REFUSED[name]
    with pytest.raises(kind) as caught:
        engine_of(files_with(tiny, **changes))
    assert caught.value.code is code


def test_moves_what_is_not_aligned(tiny: Path) -> None:
    files = {path.name: path.read_bytes() for path in tiny.iterdir()}
    memory = FilesInMemory(files)
    # One byte further, as if the sealed model had been laid out without regard for tensors.
    start, stop = memory._places["model.safetensors"]
    shifted = FilesInMemory(files | {"model.safetensors.z": bytes(64)})
    shifted.memory[start + 1 : stop + 1] = files["model.safetensors"]
    shifted._places["model.safetensors"] = (start + 1, stop + 1)
    moved = engine_of(shifted)
    assert moved.encode_chat(HELLO) == engine_of(memory).encode_chat(HELLO)
    assert moved.tensors_inside == engine_of(memory).tensors_inside
    size = int.from_bytes(files["model.safetensors"][:8], "little") + 8
    assert not any(shifted.view("model.safetensors")[size:]), "there is one copy"


@pytest.mark.parametrize("defect", ["absent file", "tensor elsewhere"])
def test_refuses_index(defect: str, sharded: Path) -> None:
    def change(data: bytes) -> bytes:
        index = json.loads(data)
        places = index["weight_map"]
        first, *_, last = sorted(places, key=places.get)
        if defect == "absent file":
            places[first] = "model-00009-of-00003.safetensors"
        else:
            places[first] = places[last]
        return json.dumps(index).encode()

    with pytest.raises(IntegrityError) as caught:
        engine_of(files_with(sharded, **{"model.safetensors.index_json": change}))
    assert caught.value.code is EngineCode.ENGINE_MODEL_INCOMPLETE


@pytest.mark.parametrize("options", [{"thread": 1}, {"threads": "two"}, {"threads": 0}])
def test_refuses_options(options: dict[str, object], tiny: Path) -> None:
    with pytest.raises(UsageError) as caught:
        engine_of(FilesInMemory.of(tiny), **options)
    assert caught.value.code is EngineCode.ENGINE_OPTION_UNKNOWN


def test_older_ways_to_say_things(tiny: Path) -> None:
    engine = engine_of(FilesInMemory.of(tiny))
    template = (tiny / "chat_template.jinja").read_text()
    files = files_with(
        tiny,
        chat_template_jinja=None,
        tokenizer_config_json=edit(
            chat_template=[
                {"name": "tool_use", "template": "no"},
                {"name": "default", "template": template},
            ],
            eos_token={"content": "<|im_end|>", "lstrip": False},
        ),
    )  # fmt: skip
    assert engine_of(files).encode_chat(HELLO) == engine.encode_chat(HELLO)


@pytest.mark.parametrize(
    "template",
    [
        "{{ nothing.at.all }}",
        "{{ 1 / 0 }}",
        "{{ messages[0]['content'] | int('x') + [] }}",
        "{{ 'x' * 10 ** 40 }}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    ],
)
def test_a_template_that_fails_is_the_clients_fault(template: str, tiny: Path) -> None:
    engine = engine_of(files_with(tiny, chat_template_jinja=template.encode()))
    with pytest.raises(UsageError) as caught:
        engine.encode_chat(HELLO)
    assert caught.value.code is EngineCode.PROMPT_UNUSABLE
    assert caught.value.what == "the model's chat template refuses these messages"


def test_a_template_that_does_not_end_is_stopped(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("regalia.engines.chat_template.TEMPLATE_SECONDS", 0.2)
    loops = "{% for a in r %}" * 4 + "{% set x = 1 %}" + "{% endfor %}" * 4
    template = "{% set r = range(10000) | list %}" + loops
    engine = engine_of(files_with(tiny, chat_template_jinja=template.encode()))
    before = sys.gettrace()
    with pytest.raises(UsageError) as caught:
        engine.encode_chat(HELLO)
    assert caught.value.code is EngineCode.PROMPT_UNUSABLE
    assert "too long" in caught.value.what
    assert sys.gettrace() is before


def test_a_template_that_refuses_says_so_in_its_own_words(tiny: Path) -> None:
    words = "roles must alternate\\x1b[31m" + "!" * 1000
    template = "{{ raise_exception('" + words + "') }}"
    engine = engine_of(files_with(tiny, chat_template_jinja=template.encode()))
    with pytest.raises(UsageError) as caught:
        engine.encode_chat(HELLO)
    assert caught.value.code is EngineCode.PROMPT_UNUSABLE
    assert "refuses these messages: roles must alternate [31m!!!" in caught.value.what
    assert len(caught.value.what) < 400


def test_a_template_cannot_leave_its_sandbox(tiny: Path) -> None:
    template = b"{{ ''.__class__.__mro__[1].__subclasses__() }}"
    engine = engine_of(files_with(tiny, chat_template_jinja=template))
    with pytest.raises(UsageError):
        engine.encode_chat(HELLO)
