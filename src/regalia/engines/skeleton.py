"""Builds a model's architecture on the meta device, then fills it with views on its weights.

Tensors on torch's meta device have shapes but no memory, so the weights exist only once.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import torch

from regalia.core.errors import IntegrityError, UsageError
from regalia.engines.codes import EngineCode
from regalia.engines.layout import arrange
from regalia.engines.model_files import read_object
from regalia.engines.tokenizer import refuse_remote_code

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from regalia.core.weights import ModelFiles
    from regalia.engines.tensors import MappedTensors

CONFIG = "config.json"
_SHOWN = 5  # names that an error message lists

# Buffers that older versions of the library wrote into checkpoints, and that are computed today.
_IGNORED = (
    r"\.rotary_emb\.inv_freq$",
    r"\.attn\.(masked_)?bias$",
    r"\.attention\.(masked_)?bias$",
    r"\.position_ids$",
)


def _unsupported(what: str) -> UsageError:
    return UsageError(EngineCode.ENGINE_MODEL_UNSUPPORTED, what)


def _incomplete(what: str, names: Iterable[str]) -> IntegrityError:
    listed = sorted(names)
    return IntegrityError(
        EngineCode.ENGINE_MODEL_INCOMPLETE, f"{len(listed)} {what}: {listed[:_SHOWN]}"
    )


def read_config(files: ModelFiles) -> Any:  # noqa: ANN401 - a transformers configuration
    """Parse the model's configuration with a class of the installed library.

    Raises:
        ParseError: config.json is malformed.
        UsageError: ENGINE_MODEL_UNSUPPORTED.
    """
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    settings = read_object(files, CONFIG)
    if settings is None:
        raise _unsupported(f"the model has no {CONFIG}")
    if settings.get("quantization_config"):
        raise _unsupported("quantized weights need an engine that unpacks them")
    kind = settings.get("model_type")
    if not isinstance(kind, str) or kind not in CONFIG_MAPPING:
        refuse_remote_code(settings, CONFIG)  # the better reason, where it is one
        raise _unsupported(f"model type {str(kind)[:80]!r} is not known")
    config = CONFIG_MAPPING[kind]
    try:
        # The library writes infinity as an object, because JSON has no word for it.
        return config.from_dict(config._decode_special_floats(settings))  # noqa: SLF001
    except Exception as exc:  # the library checks its settings with exceptions of every kind
        raise _unsupported(f"{CONFIG} is not a configuration of a {kind} model") from exc


def build_skeleton(config: Any, dtype: torch.dtype) -> Any:  # noqa: ANN401 - untyped library
    """Build the causal language model of ``config``, with parameters on the meta device.

    Args:
        config: a configuration of transformers.
        dtype: type of the parameters.

    Raises:
        UsageError: ENGINE_MODEL_UNSUPPORTED.
    """
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise _unsupported(f"{config.model_type} is no causal language model")
    want = str(getattr(MODEL_FOR_CAUSAL_LM_MAPPING[type(config)], "__name__", "several"))
    if config.architectures not in (None, [want]):
        raise _unsupported(f"architectures is {config.architectures}, this engine runs {want}")
    model, booleans = _build(config, dtype, boolean=False)
    if booleans:
        # Both values of a boolean may be computed ones, so none can serve as a mark. What is
        # computed comes out the same, whatever it was before.
        again = _build(config, dtype, boolean=True)[1]
        left = [name for name, value in booleans.items() if not torch.equal(value, again[name])]
        if left:
            raise _unsupported(f"buffers that this engine cannot compute: {left[:_SHOWN]}")
    return model


def _build(
    config: Any,  # noqa: ANN401
    dtype: torch.dtype,
    *,
    boolean: bool,
) -> tuple[Any, dict[str, torch.Tensor]]:
    """The model with computed buffers, and the boolean ones of them.

    Args:
        config: a configuration of transformers.
        dtype: type of the parameters.
        boolean: what boolean buffers hold before they are computed.
    """
    from transformers import AutoModelForCausalLM

    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call] # untyped library
                config, dtype=dtype, trust_remote_code=False
            )
    except Exception as exc:  # as above
        raise _unsupported(f"a {config.model_type} model of this shape cannot be built") from exc
    model.requires_grad_(requires_grad=False)
    model.eval()
    return model, _compute_buffers(model, boolean=boolean)


def _computed_buffers(model: Any) -> Iterator[tuple[str, Any, str]]:  # noqa: ANN401
    """Yield full name, module and attribute of buffers that are not in checkpoints.

    An example are the frequencies of rotary embeddings.
    """
    for prefix, module in model.named_modules():
        for name in module._non_persistent_buffers_set:  # noqa: SLF001 - torch has no public word for it
            if getattr(module, name) is not None:
                yield f"{prefix}.{name}", module, name


def _get(module: Any, name: str) -> torch.Tensor:  # noqa: ANN401 - untyped library
    tensor: torch.Tensor = getattr(module, name)
    return tensor


def _mark(tensor: torch.Tensor, *, boolean: bool) -> torch.Tensor:
    """A buffer filled with a value that no architecture computes, to detect missing values."""
    if tensor.is_floating_point():
        return torch.full_like(tensor, torch.nan, device="cpu")
    if tensor.dtype == torch.bool:
        return torch.full_like(tensor, boolean, device="cpu")
    return torch.full_like(tensor, torch.iinfo(tensor.dtype).min, device="cpu")


def _marked(tensor: torch.Tensor) -> bool:
    if tensor.is_floating_point():
        return bool(torch.isnan(tensor).any())
    return tensor.dtype != torch.bool and bool((tensor == torch.iinfo(tensor.dtype).min).any())


def _compute_buffers(model: Any, *, boolean: bool) -> dict[str, torch.Tensor]:  # noqa: ANN401
    """Allocate computed buffers, and let the architecture's initialization fill them.

    The parameters are still on the meta device, where initialization has no effect. Returns the
    boolean buffers by name.
    """
    for _, module, name in _computed_buffers(model):
        mark = _mark(_get(module, name), boolean=boolean)
        module._buffers[name] = mark  # noqa: SLF001 - keeps it non-persistent
    model.initialize_weights()
    found = {full: _get(module, name) for full, module, name in _computed_buffers(model)}
    left = [full for full, tensor in found.items() if _marked(tensor)]
    if left:
        raise _unsupported(f"buffers that this engine cannot compute: {left[:_SHOWN]}")
    return {full: tensor for full, tensor in found.items() if tensor.dtype == torch.bool}


def _check_fit(model: Any, mapped: MappedTensors, files: ModelFiles) -> None:  # noqa: ANN401
    """Check names, shapes and types, and give every tensor a type that is wide enough."""
    # Checked here because load_state_dict, as it is called below, ignores unknown tensors and
    # accepts tensors of any type.
    places = dict(model.state_dict())
    ignored = [re.compile(item) for item in _IGNORED]
    ignored += [re.compile(item) for item in model._keys_to_ignore_on_load_unexpected or ()]  # noqa: SLF001
    for name in [*mapped.tensors]:
        if name not in places and any(pattern.search(name) for pattern in ignored):
            del mapped.tensors[name]
    unknown = mapped.tensors.keys() - places.keys()
    if unknown:
        raise _incomplete("tensors that the architecture does not know", unknown)
    wrong = [n for n, tensor in mapped.tensors.items() if tensor.shape != places[n].shape]
    if wrong:
        raise _incomplete("tensors of another shape", wrong)
    for name, tensor in [*mapped.tensors.items()]:
        want = places[name].dtype
        if tensor.dtype == want:
            continue
        if not (tensor.is_floating_point() and want.is_floating_point):
            raise _copy_needed(f"{name} is {tensor.dtype}, and the architecture wants {want}")
        if torch.promote_types(tensor.dtype, want) == want:
            # The architecture computes with more digits here than the file has.
            wider = mapped.allocate(files, tensor.shape, want)
            mapped.tensors[name] = wider.copy_(tensor)


def _copy_needed(what: str) -> UsageError:
    return UsageError(EngineCode.ENGINE_COPY_NEEDED, what)


def fill(model: Any, mapped: MappedTensors, files: ModelFiles) -> int:  # noqa: ANN401
    """Use the mapped tensors as the model's parameters, without a copy where that is possible.

    Args:
        model: model on the meta device, from ``build_skeleton``.
        mapped: tensors in locked memory, by name; renamed and stacked as the model wants them.
        files: the model's files, for more locked memory.

    Returns:
        The number of parameters and buffers in the locked memory.

    Raises:
        IntegrityError: ENGINE_MODEL_INCOMPLETE.
        UsageError: ENGINE_COPY_NEEDED or ENGINE_MODEL_UNSUPPORTED.
    """
    arrange(model, mapped, files)
    _check_fit(model, mapped, files)
    result = model.load_state_dict(mapped.tensors, strict=False, assign=True)
    # Tied weights, such as an output layer that shares the embedding, are not in the files.
    missing = set(result.missing_keys)
    model.tie_weights(missing_keys=missing)
    if missing:
        raise _incomplete("tensors are missing", missing)
    # Where the library ties an output layer, it replaces its bias by a padded copy, even if there
    # is nothing to pad. The copy lies in ordinary memory, so it is overwritten.
    for name, value in model.state_dict(keep_vars=True).items():
        given = mapped.tensors.get(name)
        if given is not None and not value.is_meta and not mapped.holds(value):
            value.data.zero_()
            value.data = given
    on_meta = [n for n, t in [*model.named_parameters(), *model.named_buffers()] if t.is_meta]
    if on_meta:
        raise _unsupported(f"values that this engine cannot compute: {on_meta[:_SHOWN]}")
    return check_places(model, mapped)


def check_places(model: Any, mapped: MappedTensors) -> int:  # noqa: ANN401 - untyped library
    """Check that all parameters and buffers lie in the locked memory.

    Args:
        model: model whose parameters are in place.
        mapped: the locked memory.

    Returns:
        Their number.

    Raises:
        UsageError: ENGINE_COPY_NEEDED.
    """
    loaded = model.state_dict(keep_vars=True).items()
    return mapped.check_inside((name, t) for name, t in loaded if t.numel())
