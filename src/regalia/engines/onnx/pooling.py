"""How the vectors of a text's tokens become one vector, as sentence-transformers writes it down."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from regalia.core.errors import CoreCode, ParseError, UsageError
from regalia.engines.codes import EngineCode
from regalia.engines.model_files import read_text

if TYPE_CHECKING:
    from regalia.core.weights import ModelFiles

MODULES = "modules.json"
_KINDS: dict[str, Literal["mean", "cls"]] = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
}
_PREFIX = "pooling_mode_"
_LEAST_NORM = 1e-12  # torch.nn.functional.normalize has the same


@dataclass(frozen=True, slots=True)
class Pooling:
    """What is done with the output of the graph.

    Attributes:
        kind: the mean of all tokens' vectors, or the vector of the first token.
        normalize: whether the result is scaled to length 1.
    """

    kind: Literal["mean", "cls"]
    normalize: bool

    def apply(self, hidden: Any) -> Any:  # noqa: ANN401 - numpy comes late
        """Make one vector of one text's vectors, an array of (tokens, dimensions)."""
        return self.scaled(hidden.mean(axis=0) if self.kind == "mean" else hidden[0])

    def scaled(self, vector: Any) -> Any:  # noqa: ANN401
        """Scale a vector to length 1 if that is wanted."""
        import numpy as np

        if not self.normalize:
            return vector
        return vector / np.maximum(np.linalg.norm(vector), np.float32(_LEAST_NORM))


def read_pooling(
    files: ModelFiles, kind: Literal["mean", "cls"] | None, *, normalize: bool | None
) -> Pooling | None:
    """Read ``modules.json`` and what it names; None if nothing says how to pool.

    Args:
        files: the model's files.
        kind: the operator's choice, which counts more than the files.
        normalize: likewise.

    Raises:
        ParseError: a file is malformed.
        UsageError: ENGINE_MODEL_UNSUPPORTED, there are further steps.
    """
    found, scaled = None, True  # vectors of OpenAI's own models have length 1
    modules = _modules(files)
    if modules is not None:
        scaled = False
        for name, path in modules:
            if name == "Pooling":
                found = _pooling(files, f"{path}/config.json" if path else "config.json")
            elif name == "Normalize":
                scaled = True
            elif name != "Transformer":
                raise UsageError(
                    EngineCode.ENGINE_MODEL_UNSUPPORTED,
                    f"{MODULES}: {name[:80]} is a step that this engine does not compute",
                )
    chosen = kind or found
    if chosen is None:
        return None
    return Pooling(chosen, scaled if normalize is None else normalize)


def _modules(files: ModelFiles) -> list[tuple[str, str]] | None:
    """Names and folders of the steps; None if the model has no list of them."""
    value = _json(files, MODULES)
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise ParseError(CoreCode.MALFORMED, f"{MODULES}: not a list of objects")
    found = []
    for item in value:
        name, path = item.get("type"), item.get("path", "")
        if not isinstance(name, str) or not isinstance(path, str):
            raise ParseError(CoreCode.MALFORMED, f"{MODULES}: a step without type or path")
        found.append((name.rpartition(".")[2], path))
    return found


def _pooling(files: ModelFiles, path: str) -> Literal["mean", "cls"]:
    value = _json(files, path)
    if not isinstance(value, dict):
        raise ParseError(CoreCode.MALFORMED, f"{path}: missing, or not a JSON object")
    on = [name for name, is_on in value.items() if name.startswith(_PREFIX) and is_on is True]
    if len(on) != 1 or on[0] not in _KINDS:
        raise UsageError(
            EngineCode.ENGINE_MODEL_UNSUPPORTED,
            f"{path}: this engine pools by the mean or by the first token, not by {on}",
        )
    return _KINDS[on[0]]


def _json(files: ModelFiles, path: str) -> object:
    text = read_text(files, path)
    if text is None:
        return None
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise ParseError(CoreCode.MALFORMED, f"{path}: not JSON") from exc
    return value
