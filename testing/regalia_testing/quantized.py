"""Quantized checkpoints of a small model, in the layouts that vLLM reads, written by hand.

Each is made of the same safetensors model: the matrices of its decoder are replaced, and
``config.json`` names the scheme. The numbers are quantized without calibration, which is enough to
compare two ways of serving one checkpoint, and nothing else.
"""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Tensors = dict[str, torch.Tensor]

GROUP = 32  # input channels that share a scale, in GPTQ and AWQ
BITS = 4
_PER_WORD = 32 // BITS
_ZERO = 1 << (BITS - 1)
_FP8_MAX = 448.0  # largest number of float8_e4m3fn
_INT8_MAX = 127.0
# AWQ interleaves the eight numbers of a word: number i of the word is channel _AWQ_ORDER[i].
_AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)


def _packed(numbers: torch.Tensor, dim: int, order: tuple[int, ...]) -> torch.Tensor:
    """Numbers of four bits, eight to a word along one dimension."""
    groups = torch.unflatten(numbers.to(torch.int64), dim, (-1, _PER_WORD))
    words = torch.zeros_like(groups.select(dim + 1, 0))
    for i, channel in enumerate(order):
        words |= groups.select(dim + 1, channel) << (BITS * i)
    wrapped = torch.where(words >= 1 << 31, words - (1 << 32), words)
    return wrapped.to(torch.int32).contiguous()


def _grouped(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Numbers 0 to 15 by input and output channel, and their scales by group."""
    rows = torch.unflatten(weight.float().t(), 0, (-1, GROUP))
    scales = (rows.abs().amax(1) / (_ZERO - 1)).clamp(min=1e-6).half()
    numbers = (rows / scales.float()[:, None]).round() + _ZERO
    return numbers.clamp(0, 2 * _ZERO - 1).flatten(0, 1), scales


def _gptq(name: str, weight: torch.Tensor) -> Tensors:
    numbers, scales = _grouped(weight)
    # GPTQ stores zero points less one.
    zeros = torch.full(scales.shape, _ZERO - 1)
    plain = tuple(range(_PER_WORD))
    return {
        f"{name}.qweight": _packed(numbers, 0, plain),
        f"{name}.qzeros": _packed(zeros, 1, plain),
        f"{name}.scales": scales,
        f"{name}.g_idx": torch.arange(len(numbers), dtype=torch.int32) // GROUP,
    }


def _awq(name: str, weight: torch.Tensor) -> Tensors:
    numbers, scales = _grouped(weight)
    zeros = torch.full(scales.shape, _ZERO)
    return {
        f"{name}.qweight": _packed(numbers, 1, _AWQ_ORDER),
        f"{name}.qzeros": _packed(zeros, 1, _AWQ_ORDER),
        f"{name}.scales": scales,
    }


def _fp8(name: str, weight: torch.Tensor) -> Tensors:
    scale = (weight.float().abs().max() / _FP8_MAX).reshape(1)
    return {
        f"{name}.weight": (weight.float() / scale).to(torch.float8_e4m3fn),
        f"{name}.weight_scale": scale,
    }


def _fp8_channels(name: str, weight: torch.Tensor) -> Tensors:
    scale = weight.float().abs().amax(1, keepdim=True) / _FP8_MAX
    return {
        f"{name}.weight": (weight.float() / scale).to(torch.float8_e4m3fn),
        f"{name}.weight_scale": scale,
    }


def _int8_channels(name: str, weight: torch.Tensor) -> Tensors:
    scale = weight.float().abs().amax(1, keepdim=True) / _INT8_MAX
    return {
        f"{name}.weight": (weight.float() / scale).round().to(torch.int8),
        f"{name}.weight_scale": scale,
    }


def _compressed(kind: str, form: str) -> dict[str, Any]:
    number = {"num_bits": 8, "type": kind, "symmetric": True}
    return {
        "quant_method": "compressed-tensors",
        "format": form,
        "quantization_status": "compressed",
        "ignore": ["lm_head"],
        "config_groups": {
            "group_0": {
                "targets": ["Linear"],
                "weights": {**number, "strategy": "channel", "dynamic": False},
                "input_activations": {**number, "strategy": "token", "dynamic": True},
            }
        },
    }


_FOUR_BITS: dict[str, Any] = {"bits": BITS, "group_size": GROUP}
_SCHEMES: dict[str, tuple[Callable[[str, torch.Tensor], Tensors], dict[str, Any]]] = {
    "gptq": (
        _gptq,
        {"quant_method": "gptq", **_FOUR_BITS, "desc_act": False, "sym": True},
    ),
    "awq": (
        _awq,
        {"quant_method": "awq", **_FOUR_BITS, "zero_point": True, "version": "gemm"},
    ),
    "fp8": (_fp8, {"quant_method": "fp8", "activation_scheme": "dynamic"}),
    "compressed-tensors-fp8": (_fp8_channels, _compressed("float", "float-quantized")),
    "compressed-tensors-int8": (_int8_channels, _compressed("int", "int-quantized")),
}
SCHEMES = tuple(_SCHEMES)


def quantized(model: Path, directory: Path, scheme: str) -> Path:
    """Write a quantized copy of a model.

    Args:
        model: folder with safetensors files and a configuration.
        directory: that is made.
        scheme: one of ``SCHEMES``.
    """
    quantize, described = _SCHEMES[scheme]
    directory.mkdir(parents=True)
    tensors: Tensors = {}
    for path in sorted(model.iterdir()):
        if path.suffix == ".safetensors":
            tensors |= load_file(path)
        elif not path.name.endswith(".index.json"):
            shutil.copy(path, directory)
    made: Tensors = {}
    for name, tensor in tensors.items():
        is_matrix = name.endswith("_proj.weight")
        made |= quantize(name.removesuffix(".weight"), tensor) if is_matrix else {name: tensor}
    save_file(made, directory / "model.safetensors")
    config = json.loads((directory / "config.json").read_text())
    config["quantization_config"] = described
    (directory / "config.json").write_text(json.dumps(config))
    return directory
