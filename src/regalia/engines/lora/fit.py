"""Whether an adapter fits its base: every name, shape and rank, before a weight is changed.

What the base has comes as tensors whose shapes and types count. They may be its weights, or stand
on torch's device "meta" for tensors that have not been decrypted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from regalia.engines.lora.products import Change
from regalia.engines.lora.settings import unsupported
from regalia.engines.lora.tensors import FLOATS, misfit

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import torch

    from regalia.engines.lora.settings import LoraSettings
    from regalia.engines.lora.tensors import LoraTensors

_SHOWN = 5  # names that an error message lists


def fitting_change(
    settings: LoraSettings,
    tensors: LoraTensors,
    module: str,
    stored: torch.Tensor,
    weight: torch.Tensor,
) -> Change:
    """What becomes of the weight of a module that has matrices, once both fit each other.

    Args:
        settings: of the adapter.
        tensors: of the adapter.
        module: name of a linear layer.
        stored: its weight, as the base stores it.
        weight: the same, outputs times inputs.

    Raises:
        IntegrityError: ENGINE_ADAPTER_MISFIT.
        UsageError: ENGINE_ADAPTER_UNSUPPORTED.
    """
    where, pair = repr(module[:120]), tensors.pairs[module]
    if not settings.may_target(module):
        raise misfit(f"{where} is not among target_modules")
    if f"{module}.weight" in tensors.whole:
        raise misfit(f"{where} is changed, and replaced too")
    if weight.dtype not in FLOATS:
        raise unsupported(f"the weight of {where} is of type {weight.dtype}")
    if (len(pair.b), pair.a.shape[1]) != tuple(weight.shape):
        raise misfit(
            f"{where} is changed by {len(pair.b)} by {pair.a.shape[1]} numbers, and has "
            f"{weight.shape[0]} by {weight.shape[1]}"
        )
    if pair.rank != settings.rank_of(module):
        raise misfit(f"{where} has rank {pair.rank}, and is to have {settings.rank_of(module)}")
    under = tensors.under.get(module)
    if under is not None and under.shape != stored.shape:
        raise misfit(f"{where} was resized to {list(under.shape)}, which is another model")
    return Change(under, pair, settings.scale_of(module))


def require_whole(
    settings: LoraSettings,
    tensors: LoraTensors,
    parameters: Mapping[str, torch.Tensor],
    modules: Iterable[str],
) -> None:
    """Check that exactly the parameters of the modules to save are there, each in its shape.

    Args:
        settings: of the adapter.
        tensors: of the adapter.
        parameters: the base's, by their names.
        modules: names of the base's modules.

    Raises:
        IntegrityError: ENGINE_ADAPTER_MISFIT.
    """
    wanted: set[str] = set()
    named = [module for module in modules if module]
    for ending in settings.replaced:
        saved = tuple(f"{module}." for module in named if module.endswith(ending))
        names = {name for name in parameters if saved and name.startswith(saved)}
        if not names:
            raise misfit(f"the model has no module {ending[:120]!r}, which modules_to_save names")
        wanted |= names
    if differing := sorted(wanted ^ tensors.whole.keys()):
        raise misfit(f"modules_to_save does not agree with the tensors {differing[:_SHOWN]}")
    for name, tensor in tensors.whole.items():
        if tensor.shape != parameters[name].shape or parameters[name].dtype not in FLOATS:
            raise misfit(
                f"{name[:120]!r} is {list(tensor.shape)}, and the model has"
                f" {list(parameters[name].shape)} of {parameters[name].dtype}"
            )
