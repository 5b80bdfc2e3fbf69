"""A model's architecture without weights: built on the meta device, then filled with views."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import torch

from regalia.core.errors import IntegrityError, UsageError
from regalia.engines.codes import EngineCode
from regalia.engines.tokenizer import read_object, refuse_remote_code

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from regalia.core.weights import ModelFiles
    from regalia.engines.tensors import MappedTensors

CONFIG = "config.json"
_SHOWN = 5  # names in a message


def _unsupported(what: str) -> UsageError:
    return UsageError(EngineCode.ENGINE_MODEL_UNSUPPORTED, what)


def _incomplete(what: str, names: Iterable[str]) -> IntegrityError:
    listed = sorted(names)
    return IntegrityError(
        EngineCode.ENGINE_MODEL_INCOMPLETE, f"{len(listed)} {what}: {listed[:_SHOWN]}"
    )


def read_config(files: ModelFiles) -> Any:  # noqa: ANN401 - a transformers configuration
    """The model's configuration, of a class that is installed.

    Raises:
        ParseError: config.json is malformed.
        UsageError: ENGINE_MODEL_UNSUPPORTED.
    """
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    settings = read_object(files, CONFIG)
    if settings is None:
        raise _unsupported(f"the model has no {CONFIG}")
    refuse_remote_code(settings, CONFIG)
    if settings.get("quantization_config"):
        raise _unsupported("quantized weights need an engine that unpacks them")
    kind = settings.get("model_type")
    if not isinstance(kind, str) or kind not in CONFIG_MAPPING:
        raise _unsupported(f"model type {str(kind)[:80]!r} is not known")
    try:
        return CONFIG_MAPPING[kind].from_dict(settings)
    except Exception as exc:  # the library checks its settings with exceptions of every kind
        raise _unsupported(f"{CONFIG} is not a configuration of a {kind} model") from exc


def build_skeleton(config: Any, dtype: torch.dtype) -> Any:  # noqa: ANN401 - untyped library
    """Build the causal language model that ``config`` describes, with parameters on meta.

    Args:
        config: a configuration of transformers.
        dtype: of the parameters.

    Raises:
        UsageError: ENGINE_MODEL_UNSUPPORTED.
    """
    from transformers import AutoModelForCausalLM
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING,
    )

    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise _unsupported(f"{config.model_type} is no causal language model")
    want = str(getattr(MODEL_FOR_CAUSAL_LM_MAPPING[type(config)], "__name__", "several"))
    if config.architectures not in (None, [want]):
        raise _unsupported(f"architectures is {config.architectures}, this engine runs {want}")
    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call] # untyped library
                config, dtype=dtype, trust_remote_code=False
            )
    except Exception as exc:  # as above
        raise _unsupported(f"a {config.model_type} model of this shape cannot be built") from exc
    model.requires_grad_(requires_grad=False)
    model.eval()
    _compute_buffers(model)
    return model


def _computed_buffers(model: Any) -> Iterator[tuple[str, Any, str]]:  # noqa: ANN401
    """Buffers that no checkpoint holds, such as rotary frequencies: name, owner, attribute."""
    for prefix, module in model.named_modules():
        for name in module._non_persistent_buffers_set:  # noqa: SLF001 - torch has no public word for it
            if getattr(module, name) is not None:
                yield f"{prefix}.{name}", module, name


def _get(module: Any, name: str) -> torch.Tensor:  # noqa: ANN401 - untyped library
    tensor: torch.Tensor = getattr(module, name)
    return tensor


def _mark(tensor: torch.Tensor) -> torch.Tensor:
    """A buffer full of a value that no architecture computes, to see that it was computed."""
    if tensor.is_floating_point():
        return torch.full_like(tensor, torch.nan, device="cpu")
    if tensor.dtype == torch.bool:
        # One bit has no room for a mark.
        raise _unsupported("the architecture computes a boolean buffer")
    return torch.full_like(tensor, torch.iinfo(tensor.dtype).min, device="cpu")


def _marked(tensor: torch.Tensor) -> bool:
    if tensor.is_floating_point():
        return bool(torch.isnan(tensor).any())
    return bool((tensor == torch.iinfo(tensor.dtype).min).any())


def _compute_buffers(model: Any) -> None:  # noqa: ANN401
    """Give computed buffers memory and values, by the architecture's own initialization.

    Parameters are on meta now, where initialization does nothing.
    """
    for _, module, name in _computed_buffers(model):
        module._buffers[name] = _mark(_get(module, name))  # noqa: SLF001 - keeps it non-persistent
    model.initialize_weights()
    left = [full for full, module, name in _computed_buffers(model) if _marked(_get(module, name))]
    if left:
        raise _unsupported(f"buffers that this engine cannot compute: {left[:_SHOWN]}")


def _check_fit(model: Any, mapped: MappedTensors) -> None:  # noqa: ANN401
    places = dict(model.state_dict())
    ignored = [re.compile(item) for item in model._keys_to_ignore_on_load_unexpected or ()]  # noqa: SLF001
    for name in [*mapped.tensors]:
        if name not in places and any(pattern.search(name) for pattern in ignored):
            del mapped.tensors[name]
    unknown = mapped.tensors.keys() - places.keys()
    if unknown:
        raise _incomplete("tensors that the architecture does not know", unknown)
    wrong = [n for n, tensor in mapped.tensors.items() if tensor.shape != places[n].shape]
    if wrong:
        raise _incomplete("tensors of another shape", wrong)
    cast = [n for n, tensor in mapped.tensors.items() if tensor.dtype != places[n].dtype]
    if cast:
        raise UsageError(
            EngineCode.ENGINE_COPY_NEEDED,
            f"{len(cast)} tensors of another type than the architecture wants: {cast[:_SHOWN]}",
        )


def fill(model: Any, mapped: MappedTensors) -> int:  # noqa: ANN401
    """Make the mapped tensors the model's parameters, without a copy.

    Args:
        model: on meta, as ``build_skeleton`` made it.
        mapped: tensors in locked memory, by name.

    Returns:
        The number of parameters and buffers that lie in the model's memory.

    Raises:
        IntegrityError: ENGINE_MODEL_INCOMPLETE.
        UsageError: ENGINE_COPY_NEEDED or ENGINE_MODEL_UNSUPPORTED.
    """
    _check_fit(model, mapped)
    result = model.load_state_dict(mapped.tensors, strict=False, assign=True)
    missing = set(result.missing_keys)
    model.tie_weights(missing_keys=missing)
    if missing:
        raise _incomplete("tensors are missing", missing)
    on_meta = [n for n, t in [*model.named_parameters(), *model.named_buffers()] if t.is_meta]
    if on_meta:
        raise _unsupported(f"values that this engine cannot compute: {on_meta[:_SHOWN]}")
    loaded = model.state_dict(keep_vars=True).items()
    return mapped.check_inside((name, t) for name, t in loaded if t.numel())
