"""Tries a model before it is served: does it run, and does its cache say what it read before?

The library knows almost two hundred architectures. Some need inputs that this engine does not
give, keep their state in another way, or compute with one type of weights only. Without a trial
such a model would answer with errors, or with noise.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import torch
from transformers import DynamicCache

from regalia.core.errors import UsageError
from regalia.engines.codes import EngineCode

if TYPE_CHECKING:
    from collections.abc import Sequence

# The names under which architectures take what they computed for the tokens before.
_CACHE_NAMES = ("past_key_values", "cache_params")
_TOKENS = 5  # of the trial
# Cosine of the angle between logits with and without the cache. Rounding leaves more than 0.999;
# a cache that is not used leaves two answers that have little to do with each other.
_SAME = 0.99


class CachedModel:
    """A model, and its memory of the tokens that it has read."""

    def __init__(self, model: Any) -> None:  # noqa: ANN401 - untyped library
        """Begin with nothing read. Raises UsageError ENGINE_MODEL_UNSUPPORTED."""
        known = inspect.signature(model.forward).parameters
        name = next((name for name in _CACHE_NAMES if name in known), None)
        if name is None:
            raise _unsupported(model, "it keeps its state in a way of its own")
        self._model = model
        self._extra: dict[str, Any] = {name: DynamicCache(config=model.config), "use_cache": True}
        if "logits_to_keep" in known:
            self._extra["logits_to_keep"] = 1

    @torch.inference_mode()
    def read(self, tokens: Sequence[int]) -> torch.Tensor:
        """Read more tokens. Returns the logits after the last of them, one for each token."""
        ids = torch.tensor([tokens], dtype=torch.long)
        logits: torch.Tensor = self._model(input_ids=ids, **self._extra).logits[0, -1]
        return logits


def try_out(model: Any, vocabulary: int) -> bool:  # noqa: ANN401
    """Read a few tokens at once and one by one, and compare what the model says.

    Args:
        model: the model, with its weights.
        vocabulary: number of tokens that it knows.

    Returns:
        Whether other tokens may be read between those of one generation. A model that keeps its
        state in itself, and not in the cache, would mix them up.

    Raises:
        UsageError: ENGINE_MODEL_UNSUPPORTED or ENGINE_COPY_NEEDED.
    """
    tokens = [number % vocabulary for number in range(3, 3 + _TOKENS)]
    try:
        at_once = CachedModel(model).read(tokens)
        stepwise = CachedModel(model)
        stepwise.read(tokens[:-2])
        for token in tokens[-2:]:
            last = stepwise.read([token])
        between = _read_between(model, tokens)
    except UsageError:
        raise
    except Exception as exc:  # the architectures' code raises whatever it likes
        kinds = {str(tensor.dtype) for tensor in model.state_dict().values()}
        if len(kinds) > 1 and "dtype" in str(exc):
            names = sorted(kind.removeprefix("torch.") for kind in kinds)
            raise UsageError(
                EngineCode.ENGINE_COPY_NEEDED,
                f"weights of several types, {names}, which do not go together",
            ) from exc
        raise _unsupported(model, f"a trial ended with {type(exc).__name__}") from exc
    if not (torch.isfinite(at_once).all() and torch.isfinite(last).all()):
        raise _unsupported(model, "a trial gave numbers that are not finite")
    likeness = torch.cosine_similarity(at_once.float(), last.float(), dim=0)
    if not likeness >= _SAME:
        raise _unsupported(model, "token by token it answers otherwise than at once")
    # Frequencies of this kind depend on the longest text that was read last, whose ever it was.
    dynamic = any(getattr(module, "rope_type", None) == "dynamic" for module in model.modules())
    return bool(torch.equal(last, between)) and not dynamic


def _read_between(model: Any, tokens: list[int]) -> torch.Tensor:  # noqa: ANN401
    """As token by token, with the tokens of another generation in between."""
    ours, other = CachedModel(model), CachedModel(model)
    ours.read(tokens[:-2])
    other.read(tokens[1:2])
    ours.read([tokens[-2]])
    other.read(tokens[2:])
    return ours.read([tokens[-1]])


def _unsupported(model: Any, why: str) -> UsageError:  # noqa: ANN401
    what = f"{model.config.model_type} does not run on this engine: {why}"
    return UsageError(EngineCode.ENGINE_MODEL_UNSUPPORTED, what)
