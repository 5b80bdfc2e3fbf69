"""Adds an adapter to the weights of a model of torch's, in place."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from regalia.engines.lora.fit import fitting_change, require_whole
from regalia.engines.lora.products import Workspace, apply_change, reserve_for
from regalia.engines.lora.settings import read_settings, unsupported
from regalia.engines.lora.tensors import misfit, read_tensors

if TYPE_CHECKING:
    from regalia.core.weights import ModelFiles
    from regalia.engines.lora.products import Change
    from regalia.engines.lora.settings import LoraSettings
    from regalia.engines.lora.tensors import LoraTensors
    from regalia.engines.tensors import MappedTensors


@dataclass(frozen=True, slots=True)
class _Target:
    """A weight, and what becomes of it.

    Attributes:
        weight: outputs times inputs; a transposed view where the module stores it transposed.
        change: in the same form.
    """

    weight: torch.Tensor
    change: Change


def merge_adapter(
    model: Any,  # noqa: ANN401 - untyped library
    mapped: MappedTensors,
    base: ModelFiles,
    adapter: ModelFiles,
) -> int:
    """Merge an adapter into a model whose weights are in place.

    Nothing is written before all of the adapter is known to fit.

    Args:
        model: model of transformers, whose parameters lie in the base's memory.
        mapped: the base's tensors and memory.
        base: the base's files. Their memory is written to.
        adapter: the adapter's files in locked memory, untrusted. The caller wipes them.

    Returns:
        The number of weights that were changed or replaced.

    Raises:
        IntegrityError: ENGINE_ADAPTER_MISFIT, it does not fit the model.
        ParseError: a file of the adapter is malformed.
        UsageError: ENGINE_ADAPTER_UNSUPPORTED, it is not plain LoRA.
        LocalError: there is no memory for it.
    """
    settings, tensors = read_settings(adapter), read_tensors(adapter)
    parameters = dict(model.named_parameters(remove_duplicate=False))
    require_whole(settings, tensors, parameters, [name for name, _ in model.named_modules()])
    targets = [_target(model, settings, tensors, module) for module in sorted(tensors.pairs)]
    for name in sorted(tensors.whole):
        _replace(model, name, tensors.whole[name], mapped, base)
    _apply_all(targets, adapter)
    return len(targets) + len(tensors.whole)


def _target(
    model: Any,  # noqa: ANN401
    settings: LoraSettings,
    tensors: LoraTensors,
    module: str,
) -> _Target:
    """The weight of a module that has matrices, with both checked against it."""
    from transformers.pytorch_utils import Conv1D

    where = repr(module[:120])
    try:
        layer = model.get_submodule(module)
    except AttributeError as exc:
        raise misfit(f"the model has no module {where}") from exc
    if not isinstance(layer, torch.nn.Linear | Conv1D):
        raise unsupported(f"{where} is a {type(layer).__name__}: only linear layers are merged")
    stored = layer.weight.data
    transposed = isinstance(layer, Conv1D)
    weight = stored.t() if transposed else stored
    change = fitting_change(settings, tensors, module, stored, weight)
    if transposed and change.new is not None:
        change = replace(change, new=change.new.t())
    return _Target(weight, change)


def _replace(
    model: Any,  # noqa: ANN401
    name: str,
    tensor: torch.Tensor,
    mapped: MappedTensors,
    base: ModelFiles,
) -> None:
    """Put the adapter's tensor in place of a parameter, which may be shared with another one."""
    place, _, attribute = name.rpartition(".")
    module = model.get_submodule(place)
    old = getattr(module, attribute)
    shared = sum(each is old for _, each in model.named_parameters(remove_duplicate=False)) > 1
    if not shared:
        old.data.copy_(tensor)
        return
    new = mapped.allocate(base, old.shape, old.dtype).copy_(tensor)
    setattr(module, attribute, torch.nn.Parameter(new, requires_grad=False))


def _apply_all(targets: list[_Target], adapter: ModelFiles) -> None:
    """Change every weight, in memory that was reserved for the largest of them."""
    space = Workspace(adapter)
    pairs = [(each.weight, each.change.pair) for each in targets]
    reserve_for(space, [(weight, pair) for weight, pair in pairs if pair is not None])
    for target in targets:
        apply_change(target.change, target.weight, space)
