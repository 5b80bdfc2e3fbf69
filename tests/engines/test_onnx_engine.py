"""Embeddings on onnxruntime: the library's numbers, weights where they were, misfits named."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from regalia.core.errors import IntegrityError, ParseError, UsageError
from regalia.engines.base import ChecksOptions, Embedder
from regalia.engines.codes import EngineCode
from regalia.engines.onnx import build_engine
from regalia_testing.needles import NEEDLE_SIZE, Needles
from tests.engines.memory_scan import memory_blocks
from tests.engines.onnx_models import (
    WIDTH,
    minilm_folder,
    minilm_onnx,
    modules,
    tiny_onnx,
    tokenizer,
)

if TYPE_CHECKING:
    from pathlib import Path

    from regalia.core.errors import RegaliaError
    from regalia.engines.onnx.embedder import OnnxEmbedder
    from regalia_testing.models import FilesInMemory

pytest.importorskip("onnxruntime", reason="the engine runs on it")


def engine_of(files: FilesInMemory, **options: object) -> OnnxEmbedder:
    return build_engine(files, model_name="m", options=options)


def vectors(engine: OnnxEmbedder, *inputs: tuple[int, ...]) -> list[np.ndarray]:
    return [np.array(vector, np.float32) for vector in engine.embed(inputs)]


def unit(vector: np.ndarray) -> np.ndarray:
    found: np.ndarray = vector / np.linalg.norm(vector)
    return found


@pytest.mark.parametrize("external", [False, True])
def test_same_vectors_as_by_hand(external: bool) -> None:  # noqa: FBT001
    tiny = tiny_onnx(external=external)
    engine = engine_of(tiny.files())
    assert isinstance(engine, Embedder)
    assert isinstance(build_engine, ChecksOptions)
    assert (engine.model_name, engine.dimensions, engine.context_length) == ("m", WIDTH, 16)
    tokens = engine.encode_text("w3 w1 w4 w1 w5")
    assert tokens == (3, 1, 4, 1, 5)
    found = vectors(engine, tokens, (7,))
    np.testing.assert_allclose(found[0], unit(tiny.hidden(tokens).mean(axis=0)), atol=1e-6)
    np.testing.assert_allclose(found[1], unit(tiny.hidden((7,))[0]), atol=1e-6)
    for vector in engine.embed((tokens,)):
        assert vector.typecode == "f"


def test_a_text_has_the_same_vector_in_every_batch() -> None:
    engine = engine_of(tiny_onnx().files())
    alone = vectors(engine, (3, 1, 4))
    among = vectors(engine, (9,), (3, 1, 4), tuple(range(16)))
    assert (alone[0] == among[1]).all()


@pytest.mark.parametrize("lead", [0, 1, 4])
def test_weights_are_used_where_they_lie(lead: int) -> None:
    """Aligned ones do not move; others move once, and their first copy is overwritten."""
    tiny = tiny_onnx(external=True, lead=lead)
    files = tiny.files()
    engine = engine_of(files)
    before = vectors(engine, (3, 1, 4))[0]
    whole = np.frombuffer(files.memory, np.uint8)
    low = whole.__array_interface__["data"][0]
    moved = lead % 4 != 0
    for array in engine._session._weights.values():
        at = array.__array_interface__["data"][0]
        assert (low <= at < low + len(whole)) is not moved
        assert at % 4 == 0
    assert len(files.extra) == moved
    kept = bytes(files.view("weights.bin"))
    assert (tiny.matrix.tobytes() in kept) is not moved
    # They are not only there, they are used: zeros in the memory are zeros in the model.
    for memory in (files.memory, *files.extra):
        memory[:] = bytes(len(memory))
    after = vectors(engine, (3, 1, 4))[0]
    assert before.any()
    assert not after.any()


def test_cls_pooling_and_length() -> None:
    tiny = tiny_onnx()
    pooling = json.dumps({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False})
    changes = {
        "1_Pooling__config_DOT_json": pooling.encode(),
        "modules_DOT_json": modules("Transformer", "Pooling"),
    }
    (found,) = vectors(engine_of(tiny.files(**changes)), (5, 6))
    np.testing.assert_allclose(found, tiny.hidden((5, 6))[0], atol=1e-5)
    (found,) = vectors(engine_of(tiny.files(**changes), pooling="mean", normalize=True), (5, 6))
    np.testing.assert_allclose(found, unit(tiny.hidden((5, 6)).mean(axis=0)), atol=1e-6)


def test_without_modules_the_operator_says_how() -> None:
    bare = {"modules_DOT_json": None, "1_Pooling__config_DOT_json": None}
    tiny = tiny_onnx()
    with pytest.raises(UsageError, match="pooling = ") as caught:
        engine_of(tiny.files(**bare))
    assert caught.value.code is EngineCode.ENGINE_MODEL_UNSUPPORTED
    (found,) = vectors(engine_of(tiny.files(**bare), pooling="cls"), (5, 6))
    np.testing.assert_allclose(found, unit(tiny.hidden((5, 6))[0]), atol=1e-6)


def test_texts_out_of_bounds() -> None:
    engine = engine_of(tiny_onnx().files())
    assert len(engine.encode_text("w1 " * 16)) == 16
    for text in ("w1 " * 17, "x" * 10_000_000):
        with pytest.raises(UsageError) as caught:
            engine.encode_text(text)
        assert caught.value.code is EngineCode.PROMPT_TOO_LONG
    with pytest.raises(UsageError) as caught:
        engine.encode_text("   ")
    assert caught.value.code is EngineCode.PROMPT_UNUSABLE
    for tokens in ((), (-1,), (259,), (1 << 70,)):
        with pytest.raises(UsageError) as caught:
            engine.check_tokens(tokens)
        assert caught.value.code is EngineCode.PROMPT_UNUSABLE
    with pytest.raises(UsageError) as caught:
        engine.embed(((1,), tuple(range(17))))
    assert caught.value.code is EngineCode.PROMPT_TOO_LONG


def test_closing_ends_the_work() -> None:
    found = engine_of(tiny_onnx().files()).embed(((1,),) * 100)
    next(found)
    found.close()  # type: ignore[attr-defined]
    assert next(found, None) is None


@pytest.mark.parametrize(
    ("options", "word"),
    [({"thread": 2}, "thread"), ({"threads": 0}, "positive"), ({"threads": "2"}, "threads"),
     ({"context_max": 0}, "positive"), ({"pooling": "max"}, "pooling")],
)  # fmt: skip
def test_options_are_checked_before_there_is_a_key(options: dict[str, Any], word: str) -> None:
    with pytest.raises(UsageError, match=word) as caught:
        build_engine.check(options)
    assert caught.value.code is EngineCode.ENGINE_OPTION_UNKNOWN
    build_engine.check({"threads": 2})


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UsageError) as caught:
        build_engine.check({})
    assert caught.value.code is EngineCode.ENGINE_NOT_INSTALLED
    assert "onnxruntime" in str(caught.value)


def test_several_files_need_a_name() -> None:
    data = tiny_onnx().model.SerializeToString()
    files = tiny_onnx().files(onnx__model_quantized_DOT_onnx=data)
    assert engine_of(files).dimensions == WIDTH, "one of them has the usual name"
    files = tiny_onnx().files(model_DOT_onnx=None, a_DOT_onnx=data, b_DOT_onnx=data)
    assert engine_of(files, file="b.onnx").dimensions == WIDTH
    for given in (files, tiny_onnx().files(model_DOT_onnx=None)):
        for options in ({}, {"file": "absent.onnx"}, {"file": "config.json"}):
            with pytest.raises(UsageError) as caught:
                engine_of(given, **options)
            assert caught.value.code is EngineCode.ENGINE_FORMAT_MISSING


def output_renamed(model: Any) -> None:  # noqa: ANN401
    model.graph.output[0].type.tensor_type.shape.dim.add().dim_value = 1


def input_unknown(model: Any) -> None:  # noqa: ANN401
    model.graph.input[1].name = "pixel_values"


def domain_unknown(model: Any) -> None:  # noqa: ANN401
    model.graph.node[0].domain = "com.example.custom"


@pytest.mark.parametrize("spoil", [output_renamed, input_unknown, domain_unknown])
def test_graphs_that_do_not_fit(spoil: Any) -> None:  # noqa: ANN401
    tiny = tiny_onnx()
    spoil(tiny.model)
    with pytest.raises(UsageError) as caught:
        engine_of(tiny.files())
    assert caught.value.code is EngineCode.ENGINE_MODEL_UNSUPPORTED


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"tokenizer_DOT_json": None}, UsageError),
        ({"tokenizer_DOT_json": b"{}"}, ParseError),
        ({"modules_DOT_json": b"{}"}, ParseError),
        ({"modules_DOT_json": b"[1]"}, ParseError),
        ({"modules_DOT_json": b"["}, ParseError),
        ({"modules_DOT_json": b"[{}]"}, ParseError),
        ({"modules_DOT_json": modules("Transformer", "Pooling", "Dense")}, UsageError),
        ({"1_Pooling__config_DOT_json": None}, ParseError),
        ({"1_Pooling__config_DOT_json": b'{"pooling_mode_max_tokens": true}'}, UsageError),
        ({"1_Pooling__config_DOT_json": b"{}"}, UsageError),
    ],
    ids=lambda item: str(item)[:60],
)
def test_files_that_do_not_fit(changes: dict[str, Any], kind: type[RegaliaError]) -> None:
    with pytest.raises(kind):
        engine_of(tiny_onnx().files(**changes))


def test_numbers_that_are_none_are_not_served() -> None:
    tiny = tiny_onnx(external=True)
    nan = np.full(tiny.matrix.size, np.nan, np.float32).tobytes()
    data = tiny.external[: -len(nan)] + nan
    with pytest.raises(UsageError, match="finite"):
        engine_of(tiny.files(weights_DOT_bin=data))


def test_positions_of_roberta_begin_later() -> None:
    config = {"max_position_embeddings": 16, "model_type": "roberta", "pad_token_id": 1}
    changes = {"config_DOT_json": json.dumps(config).encode()}
    assert engine_of(tiny_onnx().files(**changes)).context_length == 14
    assert engine_of(tiny_onnx().files(**changes), context_max=5).context_length == 5


def test_a_truncated_external_file() -> None:
    with pytest.raises(IntegrityError):
        engine_of(tiny_onnx(external=True).files(weights_DOT_bin=b""))


def test_nothing_of_the_tokenizer_is_padded() -> None:
    value = json.loads(tokenizer())
    value["padding"] = {"strategy": {"Fixed": 12}, "direction": "Right", "pad_to_multiple_of": None,
                        "pad_id": 0, "pad_type_id": 0, "pad_token": "w0"}  # fmt: skip
    value["truncation"] = {"direction": "Right", "max_length": 2, "strategy": "LongestFirst",
                           "stride": 0}  # fmt: skip
    engine = engine_of(tiny_onnx().files(tokenizer_DOT_json=json.dumps(value).encode()))
    assert engine.encode_text("w1 w2 w3") == (1, 2, 3)


TEXTS = (
    "The cat sits outside.",
    "A kitten.",
    "Tax law of 1986, amended",
    "ä😀 [SEP] x",
    "word " * 200,
)


@pytest.mark.slow
def test_minilm_computes_the_same_as_the_library() -> None:
    import torch  # noqa: PLC0415 - takes seconds
    from transformers import AutoModel, AutoTokenizer  # noqa: PLC0415

    from regalia_testing.models import FilesInMemory  # noqa: PLC0415

    torch.set_num_threads(1)
    engine = engine_of(FilesInMemory(minilm_onnx()))
    assert (engine.dimensions, engine.context_length) == (384, 256)
    folder = minilm_folder()
    library, reader = (
        AutoModel.from_pretrained(folder).eval(),
        AutoTokenizer.from_pretrained(folder),
    )
    found = vectors(engine, *map(engine.encode_text, TEXTS))
    for text, vector in zip(TEXTS, found, strict=True):
        given = reader([text], return_tensors="pt")
        assert tuple(given["input_ids"][0].tolist()) == engine.encode_text(text)
        with torch.inference_mode():
            wanted = library(**given).last_hidden_state[0].mean(0)
        np.testing.assert_allclose(vector, unit(wanted.numpy()), atol=2e-6)
    cat, kitten, tax = found[:3]
    assert cat @ kitten > 0.4
    assert cat @ tax < 0.2


VICTIM = """
    import ctypes, sys
    from pathlib import Path
    from regalia.engines.onnx import build_engine
    from regalia_testing.models import FilesInMemory
    files = FilesInMemory.of(Path(sys.argv[1]))
    engine = build_engine(files, model_name="m", options={"pooling": "mean"})
    list(engine.embed((engine.encode_text("Tell me about kings."),) * 3))
    for memory in (files.memory, *files.extra):
        print(ctypes.addressof(ctypes.c_char.from_buffer(memory)), len(memory))
    print("ready", flush=True)
    sys.stdin.read()
"""


@pytest.mark.slow
@pytest.mark.skipif(os.getuid() != 0, reason="needs to read another process's memory")
def test_running_the_model_makes_no_second_copy(tmp_path: Path) -> None:
    """After an answer, large weights lie in the given memory and nowhere else."""
    onnx = pytest.importorskip("onnx")
    data = minilm_onnx()
    for name, content in data.items():
        if "/" not in name:
            (tmp_path / name).write_bytes(content)
    (tmp_path / "modules.json").unlink()
    model = onnx.load_from_string(data["model.onnx"])
    raws = [item.raw_data for item in model.graph.initializer if len(item.raw_data) > 100_000]
    needles = Needles(tuple(raw[len(raw) // 2 :][:NEEDLE_SIZE] for raw in raws))
    assert len(needles.pieces) > 30
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(VICTIM), str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        ranges = []
        while (line := process.stdout.readline().split())[0] != "ready":
            ranges.append((int(line[0]), int(line[1])))
        inside, outside = memory_blocks(process.pid, ranges)
        assert needles.found_in(inside) == len(raws), "the control: they are where they are"
        assert needles.found_in(outside) == 0
