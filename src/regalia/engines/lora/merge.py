"""Adds an adapter to the weights of its base, in place: W += scale * (B @ A).

The sums are those of PEFT's ``merge_and_unload`` on a CPU: the matrices are multiplied in 32 bits
whatever their type, and the result is rounded once, to the type of the weight. Everything that is
computed on the way lies in the adapter's memory, which is wiped afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from regalia.engines.lora.settings import read_settings, unsupported
from regalia.engines.lora.tensors import FLOATS, misfit, read_tensors

if TYPE_CHECKING:
    from regalia.core.weights import ModelFiles
    from regalia.engines.lora.settings import LoraSettings
    from regalia.engines.lora.tensors import LoraTensors, Pair
    from regalia.engines.tensors import MappedTensors

BLOCK = 16 << 20  # elements of a weight that are computed at a time, at least one row
_SHOWN = 5  # names that an error message lists


@dataclass(frozen=True, slots=True)
class _Target:
    """A weight, and what is added to it.

    Attributes:
        weight: outputs times inputs; a transposed view where the module stores it transposed.
        pair: the matrices.
        scale: of their product.
        under: what the product is added to instead of the base's own weight; None in most cases.
    """

    weight: torch.Tensor
    pair: Pair
    scale: float
    under: torch.Tensor | None

    @property
    def rows(self) -> int:
        """Outputs that are computed at a time."""
        return min(len(self.weight), max(1, BLOCK // self.weight.shape[1]))


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
    _check_whole(settings, tensors, parameters, [name for name, _ in model.named_modules()])
    targets = [_target(model, settings, tensors, module) for module in sorted(tensors.pairs)]
    for name in sorted(tensors.whole):
        _replace(model, name, tensors.whole[name], mapped, base)
    _add_all(targets, adapter)
    return len(targets) + len(tensors.whole)


# Checks -------------------------------------------------------------------------------------------


def _target(
    model: Any,  # noqa: ANN401
    settings: LoraSettings,
    tensors: LoraTensors,
    module: str,
) -> _Target:
    """The weight of a module that has matrices, with both checked against it."""
    from transformers.pytorch_utils import Conv1D

    where, pair = repr(module[:120]), tensors.pairs[module]
    try:
        layer = model.get_submodule(module)
    except AttributeError as exc:
        raise misfit(f"the model has no module {where}") from exc
    if not isinstance(layer, torch.nn.Linear | Conv1D):
        raise unsupported(f"{where} is a {type(layer).__name__}: only linear layers are merged")
    if not settings.may_target(module):
        raise misfit(f"{where} is not among target_modules")
    if f"{module}.weight" in tensors.whole:
        raise misfit(f"{where} is changed, and replaced too")
    weight = layer.weight.data
    weight = weight.t() if isinstance(layer, Conv1D) else weight
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
    if under is not None and under.shape != layer.weight.shape:
        raise misfit(f"{where} was resized to {list(under.shape)}, which is another model")
    under = under.t() if under is not None and isinstance(layer, Conv1D) else under
    return _Target(weight, pair, settings.scale_of(module), under)


def _check_whole(
    settings: LoraSettings,
    tensors: LoraTensors,
    parameters: dict[str, torch.Tensor],
    modules: list[str],
) -> None:
    """Check that exactly the parameters of the modules to save are there, each in its shape."""
    wanted: set[str] = set()
    for ending in settings.replaced:
        saved = tuple(f"{module}." for module in modules if module and module.endswith(ending))
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


# Arithmetic ---------------------------------------------------------------------------------------


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


def _add_all(targets: list[_Target], adapter: ModelFiles) -> None:
    """Add every product to its weight, a block of rows at a time."""
    if not targets:
        return
    sizes = (
        max(each.pair.a.numel() for each in targets),
        max(each.rows * each.pair.rank for each in targets),
        max(each.rows * each.weight.shape[1] for each in targets),
        max(each.rows * each.weight.shape[1] for each in targets),
    )
    space = [
        torch.frombuffer(adapter.allocate(4 * size), dtype=torch.float32, count=size)
        for size in sizes
    ]
    for target in targets:
        _add(target, *space)


def _add(
    target: _Target,
    space_a: torch.Tensor,
    space_b: torch.Tensor,
    space_product: torch.Tensor,
    space_weight: torch.Tensor,
) -> None:
    """Add one product to its weight. The spaces hold what is computed on the way."""
    if target.under is not None:
        target.weight.copy_(target.under)
    a = _shaped(space_a, target.pair.a).copy_(target.pair.a)
    for start in range(0, len(target.weight), target.rows):
        weight = target.weight[start : start + target.rows]
        part = target.pair.b[start : start + target.rows]
        b = _shaped(space_b, part).copy_(part)
        product = torch.mm(b, a, out=_shaped(space_product, weight)).mul_(target.scale)
        # Tensors of different types would be added in temporary memory of torch's own.
        wide = _shaped(space_weight, weight).copy_(weight)
        weight.copy_(wide.add_(product))


def _shaped(space: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """The beginning of a space, in the shape of a tensor."""
    return space[: like.numel()].view(like.shape)
