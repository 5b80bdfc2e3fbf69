"""Reads ``adapter_config.json`` strictly, and refuses by name what is not plain LoRA.

PEFT adds settings with every version. One that is not known here and is not empty may change how
the matrices are meant, so it is refused.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from regalia.core.errors import IntegrityError, UsageError
from regalia.engines.codes import EngineCode
from regalia.engines.model_files import read_object

if TYPE_CHECKING:
    from collections.abc import Mapping

    from regalia.core.weights import ModelFiles

ADAPTER_CONFIG = "adapter_config.json"
RANK_MAX = 1 << 16
PATTERNS_MAX = 10_000
_SHOWN = 80  # characters of a value that an error message quotes

# What PEFT reads as a regular expression is compared as text here. A dot is the only character of
# a module's name that means something else in the two readings.
_PATTERN = re.compile(r"\^?[A-Za-z0-9_.]+")

# How the matrices were initialized. All other ways change the base's weights as well.
_INITIALIZED = (True, False, "gaussian", "eva", "orthogonal")

_READ = frozenset(
    {
        "peft_type",
        "task_type",
        "r",
        "lora_alpha",
        "use_rslora",
        "rank_pattern",
        "alpha_pattern",
        "target_modules",
        "modules_to_save",
        "bias",
        "init_lora_weights",
    }
)
# What mattered for training, or follows from the tensors: which layers have matrices, and which
# of the base's matrices are stored transposed.
_NOT_NEEDED = frozenset(
    {
        "auto_mapping",
        "base_model_name_or_path",
        "corda_config",
        "eva_config",
        "exclude_modules",
        "fan_in_fan_out",
        "inference_mode",
        "layers_pattern",
        "layers_to_transform",
        "loftq_config",
        "lora_dropout",
        "lora_ga_config",
        "megatron_core",
        "peft_version",
        "qalora_group_size",
        "revision",
        "runtime_config",
    }
)


@dataclass(frozen=True, slots=True)
class LoraSettings:
    """How the matrices of an adapter are meant.

    Attributes:
        rank: rank of the matrices of modules that no pattern names.
        alpha: likewise, the numerator of the scale.
        root: whether the scale is divided by the root of the rank (rsLoRA) instead of the rank.
        ranks: ranks of other modules, by pattern, in the order of the file.
        alphas: likewise, numerators of scales.
        targets: names of modules that may have matrices; None if a pattern chose them.
        replaced: endings of names of modules that the adapter holds whole.
    """

    rank: int
    alpha: float
    root: bool
    ranks: Mapping[str, int]
    alphas: Mapping[str, float]
    targets: frozenset[str] | None
    replaced: tuple[str, ...]

    def rank_of(self, module: str) -> int:
        """Rank of a module's matrices."""
        return next((r for name, r in self.ranks.items() if _names(name, module)), self.rank)

    def scale_of(self, module: str) -> float:
        """What the product of a module's matrices is multiplied by."""
        alpha = next((a for name, a in self.alphas.items() if _names(name, module)), self.alpha)
        rank = self.rank_of(module)
        return alpha / math.sqrt(rank) if self.root else alpha / rank

    def may_target(self, module: str) -> bool:
        """Whether the settings allow matrices for a module."""
        return self.targets is None or any(_ends(module, name) for name in self.targets)


def _names(pattern: str, module: str) -> bool:
    """Whether a pattern of ranks or scales names a module."""
    if pattern.startswith("^"):
        return module == pattern[1:]
    return _ends(module, pattern)


def _ends(module: str, name: str) -> bool:
    return module == name or module.endswith(f".{name}")


def read_settings(adapter: ModelFiles) -> LoraSettings:
    """Read the adapter's settings.

    Args:
        adapter: the adapter's files, untrusted.

    Raises:
        IntegrityError: ENGINE_ADAPTER_MISFIT, there are none.
        ParseError: they are no JSON object.
        UsageError: ENGINE_ADAPTER_UNSUPPORTED, they are not those of plain LoRA.
    """
    found = read_object(adapter, ADAPTER_CONFIG)
    if found is None:
        raise IntegrityError(
            EngineCode.ENGINE_ADAPTER_MISFIT, f"the adapter has no {ADAPTER_CONFIG}"
        )
    _refuse_other_kinds(found)
    targets = found.get("target_modules")
    return LoraSettings(
        rank=_rank("r", found.get("r", 8)),
        alpha=_number("lora_alpha", found.get("lora_alpha", 8)),
        root=_boolean(found, "use_rslora"),
        ranks={name: _rank(name, each) for name, each in _patterns(found, "rank_pattern")},
        alphas={name: _number(name, each) for name, each in _patterns(found, "alpha_pattern")},
        targets=frozenset(_words(found, "target_modules")) if isinstance(targets, list) else None,
        replaced=_words(found, "modules_to_save"),
    )


def _refuse_other_kinds(found: dict[str, Any]) -> None:
    kind = found.get("peft_type")
    if kind != "LORA":
        raise unsupported(f"peft_type is {_quoted(kind)}, and only LORA can be merged here")
    if found.get("task_type") not in {None, "CAUSAL_LM"}:
        raise unsupported(f"task_type is {_quoted(found['task_type'])}, and not CAUSAL_LM")
    if found.get("bias", "none") != "none":
        raise unsupported(f"bias is {_quoted(found['bias'])}: trained biases are not merged")
    start = found.get("init_lora_weights", True)
    if not any(
        start is each or (start == each and isinstance(start, str)) for each in _INITIALIZED
    ):
        raise unsupported(
            f"init_lora_weights is {_quoted(start)}, which changes the base's weights too; save the"
            " adapter with path_initial_model_for_weight_conversion"
        )
    for name, value in found.items():
        if name not in _READ | _NOT_NEEDED and value not in (None, False, [], {}):
            raise unsupported(f"{name[:_SHOWN]!r} is {_quoted(value)}, which is not plain LoRA")


def unsupported(what: str) -> UsageError:
    """The refusal of an adapter of another kind."""
    return UsageError(EngineCode.ENGINE_ADAPTER_UNSUPPORTED, f"{ADAPTER_CONFIG}: {what}")


def _quoted(value: object) -> str:
    return repr(value)[:_SHOWN]


def _rank(name: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= RANK_MAX:
        raise unsupported(f"the rank {name[:_SHOWN]!r} is {_quoted(value)}, want 1 to {RANK_MAX}")
    return value


def _number(name: str, value: object) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(cast("float", value)):
        raise unsupported(f"the scale {name[:_SHOWN]!r} is {_quoted(value)}, which is no number")
    return cast("float", value)


def _boolean(found: dict[str, Any], name: str) -> bool:
    value = found.get(name, False)
    if not isinstance(value, bool):
        raise unsupported(f"{name} is {_quoted(value)}, want true or false")
    return value


def _words(found: dict[str, Any], name: str) -> tuple[str, ...]:
    value = found.get(name)
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
        raise unsupported(f"{name} is {_quoted(value)}, want a list of names")
    return tuple(value)


def _patterns(found: dict[str, Any], name: str) -> list[tuple[str, object]]:
    value = found.get(name) or {}
    if not isinstance(value, dict) or len(value) > PATTERNS_MAX:
        raise unsupported(f"{name} is no object of at most {PATTERNS_MAX} names")
    for pattern in value:
        if _PATTERN.fullmatch(pattern) is None:
            raise unsupported(
                f"{name} has {_quoted(pattern)}: only names of modules are read, no patterns"
            )
    return list(value.items())
