"""Reads ``adapter_model.safetensors`` strictly: pairs of matrices, and tensors that are whole."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from regalia.core.errors import IntegrityError
from regalia.engines.codes import EngineCode
from regalia.engines.lora.settings import unsupported
from regalia.engines.tensors import map_file

if TYPE_CHECKING:
    from regalia.core.weights import ModelFiles

ADAPTER_WEIGHTS = "adapter_model.safetensors"
FLOATS = (torch.float32, torch.bfloat16, torch.float16)
_PREFIX = "base_model.model."  # of every name that PEFT writes
_MATRIX = re.compile(r"(?P<module>.+)\.lora_(?P<which>[AB])\.weight")
_UNDER = ".base_layer.weight"
_OTHERS = ("lora_embedding_A", "lora_embedding_B", "lora_magnitude_vector", "lora_A", "lora_B")


@dataclass(frozen=True, slots=True)
class Pair:
    """The matrices of one module.

    Attributes:
        a: rank times inputs.
        b: outputs times rank.
    """

    a: torch.Tensor
    b: torch.Tensor

    @property
    def rank(self) -> int:
        """Number of rows of ``a``, and of columns of ``b``."""
        return int(self.a.shape[0])


@dataclass(frozen=True, slots=True)
class LoraTensors:
    """The adapter's tensors, views on its memory.

    Attributes:
        pairs: by names of the base's modules.
        whole: by names of the base's parameters, what stands in their place.
        under: by names of modules that have a pair, their weights below it. PEFT saves those of
            embeddings and output layers, which training may have resized.
    """

    pairs: dict[str, Pair]
    whole: dict[str, torch.Tensor]
    under: dict[str, torch.Tensor]


def misfit(what: str) -> IntegrityError:
    """The refusal of an adapter whose tensors do not belong together, or not to the base."""
    return IntegrityError(EngineCode.ENGINE_ADAPTER_MISFIT, f"{ADAPTER_WEIGHTS}: {what}")


def read_tensors(adapter: ModelFiles) -> LoraTensors:
    """Map the adapter's tensors in place.

    Args:
        adapter: the adapter's files in locked memory, untrusted.

    Raises:
        IntegrityError: ENGINE_ADAPTER_MISFIT.
        ParseError: the file is malformed.
        UsageError: ENGINE_ADAPTER_UNSUPPORTED or ENGINE_MODEL_UNSUPPORTED.
    """
    if ADAPTER_WEIGHTS not in adapter.paths():
        raise misfit("the adapter has no such file")
    halves: dict[str, dict[str, torch.Tensor]] = {}
    whole: dict[str, torch.Tensor] = {}
    under: dict[str, torch.Tensor] = {}
    for full, tensor in map_file(adapter, ADAPTER_WEIGHTS).tensors.items():
        if not full.startswith(_PREFIX):
            raise misfit(f"{full[:120]!r} does not begin with {_PREFIX}")
        name = full.removeprefix(_PREFIX)
        if tensor.dtype not in FLOATS:
            raise unsupported(f"{name[:120]!r} is of type {tensor.dtype}")
        if matched := _MATRIX.fullmatch(name):
            halves.setdefault(matched["module"], {})[matched["which"]] = tensor
        elif name.endswith(_UNDER):
            under[name.removesuffix(_UNDER)] = tensor
        elif kinds := [kind for kind in _OTHERS if f".{kind}" in f".{name}"]:
            raise unsupported(f"{name[:120]!r} is a {kinds[0]}, which is not merged here")
        else:
            whole[name] = tensor
    if not halves and not whole:
        raise misfit("the adapter has no tensors")
    if lone := sorted(under.keys() - halves.keys()):
        raise misfit(f"{lone[0][:120]!r} has a weight of its own, and no matrices")
    pairs = {module: _pair(module, parts) for module, parts in halves.items()}
    return LoraTensors(pairs, whole, under)


def _pair(module: str, parts: dict[str, torch.Tensor]) -> Pair:
    """Both matrices of a module, which have one rank."""
    if parts.keys() != {"A", "B"}:
        raise misfit(f"{module[:120]!r} has one matrix of two")
    a, b = parts["A"], parts["B"]
    if a.dim() != 2 or b.dim() != 2:  # noqa: PLR2004 - matrices
        raise unsupported(f"the tensors of {module[:120]!r} are no matrices")
    if a.shape[0] != b.shape[1] or a.shape[0] < 1:
        raise misfit(f"the matrices of {module[:120]!r} have no rank in common")
    return Pair(a, b)
