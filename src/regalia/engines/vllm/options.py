"""``[engine.options]`` for vLLM."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

import msgspec

from regalia.core.errors import UsageError
from regalia.engines.codes import EngineCode
from regalia.engines.options import read_options

if TYPE_CHECKING:
    from collections.abc import Mapping

WORKERS_MAX = 1024  # processes that load weights
NUMBER_MAX = 1 << 31  # of any of the numbers
NAME_MAX = 64  # characters


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Settings of one group of vLLM's processes. vLLM's own names, where it has them."""

    tensor_parallel_size: int = 1
    pipeline_parallel_size: int = 1
    max_model_len: int | None = None  # tokens; the model's own limit without it
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    kv_cache_dtype: str = "auto"
    gpu_memory_utilization: float = 0.9  # share of the GPU's memory
    cpu_kv_cache_gib: int = 1  # GiB of memory for what is read of prompts, on CPUs
    cpu_omp_threads_bind: str = "auto"  # CPUs of each worker, on CPUs: "0-3|4-7", or "nobind"
    enforce_eager: bool = False  # do not compile; always so on CPUs here
    tool_call_parser: str | None = None  # vLLM's name; turns on automatic choice of tools
    reasoning_parser: str | None = None  # vLLM's name

    @property
    def workers(self) -> int:
        """Number of processes that load weights."""
        return self.tensor_parallel_size * self.pipeline_parallel_size


_BINDING = re.compile(r"auto|nobind|[0-9][0-9,|-]{0,999}")
_NAMES = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_.-")


def parse_options(given: Mapping[str, object]) -> Options:
    """Check the options. Raises UsageError ENGINE_OPTION_UNKNOWN.

    Args:
        given: ``[engine.options]``, not validated.
    """
    options = read_options(given, Options)
    numbers = (
        options.tensor_parallel_size,
        options.pipeline_parallel_size,
        options.max_model_len or 1,
        options.cpu_kv_cache_gib,
    )
    names = (options.kv_cache_dtype, options.tool_call_parser, options.reasoning_parser)
    in_range = max(numbers) <= NUMBER_MAX and options.workers <= WORKERS_MAX
    if not in_range or not 0 < options.gpu_memory_utilization <= 1:
        raise UsageError(EngineCode.ENGINE_OPTION_UNKNOWN, "engine.options: out of range")
    if not _BINDING.fullmatch(options.cpu_omp_threads_bind):
        raise UsageError(EngineCode.ENGINE_OPTION_UNKNOWN, "engine.options: cpu_omp_threads_bind")
    # They become arguments of a command line: a name must not look like another option.
    if any(name is not None and not _is_name(name) for name in names):
        raise UsageError(EngineCode.ENGINE_OPTION_UNKNOWN, "engine.options: not a name")
    return options


def _is_name(text: str) -> bool:
    return 0 < len(text) <= NAME_MAX and text[0].isalnum() and set(text.lower()) <= _NAMES
