"""Random LoRA adapters, written as PEFT saves them, without PEFT.

``adapter_files`` writes any adapter, also ones that no trainer would save. ``tiny_adapter`` makes
one that fits ``models.tiny_llama``.
"""

from __future__ import annotations

import json
import random
from array import array
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
PREFIX = "base_model.model."
# Outputs and inputs of some layers of ``tiny_llama``, whatever the number of its heads.
TINY_LAYERS = {
    f"model.layers.{layer}.{name}": shape
    for layer in range(2)
    for name, shape in {
        "self_attn.q_proj": (64, 64),
        "mlp.gate_proj": (128, 64),
        "mlp.down_proj": (64, 128),
    }.items()
}

Tensors = dict[str, tuple[tuple[int, ...], bytes]]  # shape and 32-bit floats, by name


def settings(**changes: object) -> dict[str, object]:
    """Settings of a plain adapter of rank 4, some of them changed."""
    plain: dict[str, object] = {
        "base_model_name_or_path": "tiny",
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "lora_alpha": 16,
        "lora_dropout": 0.0,
        "modules_to_save": None,
        "peft_type": "LORA",
        "r": 4,
        "target_modules": ["q_proj", "gate_proj", "down_proj"],
        "task_type": "CAUSAL_LM",
        "use_dora": False,
        "use_rslora": False,
    }
    return plain | changes


def matrices(
    layers: Mapping[str, tuple[int, int]], *, rank: int = 4, seed: int = 1, scale: float = 0.3
) -> Tensors:
    """Random matrices of layers.

    Args:
        layers: outputs and inputs of each layer, by its name.
        rank: of all of them.
        seed: of the random numbers.
        scale: standard deviation of the numbers.
    """
    source = random.Random(seed)  # noqa: S311 - no secret
    found: Tensors = {}
    for name, (outputs, inputs) in layers.items():
        for which, shape in (("A", (rank, inputs)), ("B", (outputs, rank))):
            numbers = array("f", (source.gauss(0, scale) for _ in range(shape[0] * shape[1])))
            found[f"{PREFIX}{name}.lora_{which}.weight"] = (shape, numbers.tobytes())
    return found


def adapter_files(config: Mapping[str, object], tensors: Tensors) -> dict[str, bytes]:
    """The two files of an adapter, by their names.

    Args:
        config: settings.
        tensors: shapes and bytes of the tensors by their full names.
    """
    header, end = {}, 0
    for name, (shape, data) in tensors.items():
        offsets = [end, end + len(data)]
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": offsets}
        end += len(data)
    table = json.dumps(header).encode()
    table += b" " * (-len(table) % 8)
    body = b"".join(data for _, data in tensors.values())
    return {
        CONFIG: json.dumps(config).encode(),
        WEIGHTS: len(table).to_bytes(8, "little") + table + body,
    }


def tiny_adapter(directory: Path, *, seed: int = 1) -> Path:
    """Have a random adapter of ``tiny_llama`` in ``directory``.

    Args:
        directory: where to put it.
        seed: of the random numbers.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for name, data in adapter_files(settings(), matrices(TINY_LAYERS, seed=seed)).items():
        (directory / name).write_bytes(data)
    return directory
