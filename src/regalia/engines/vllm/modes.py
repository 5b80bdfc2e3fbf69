"""How vLLM may be started: a closed list of arguments and variables, and what never stands there.

vLLM has some three hundred arguments. Those below the first two lists move, replace, copy or show
weights or prompts, or run code that was not measured. ``scripts/make_engine_surfaces.py`` names
new ones of the installed version that sound as if they did.
"""

from __future__ import annotations

import re
from typing import Final

# Every argument that ``VllmEngine.command`` may give.
ARGUMENTS: Final = frozenset(
    [
        "--disable-fastapi-docs",
        "--disable-log-stats",
        "--disable-uvicorn-access-log",
        "--dtype",
        "--enable-auto-tool-choice",
        "--enforce-eager",
        "--gpu-memory-utilization",
        "--kv-cache-dtype",
        "--load-format",
        "--max-model-len",
        "--max-num-seqs",
        "--model",
        "--model-loader-extra-config",
        "--no-enable-log-requests",
        "--no-trust-remote-code",
        "--pipeline-parallel-size",
        "--reasoning-parser",
        "--served-model-name",
        "--tensor-parallel-size",
        "--tool-call-parser",
        "--uds",
    ]
)

# Arguments that are never given, and why.
CLOSED_ARGUMENTS: Final[dict[str, str]] = {
    **dict.fromkeys(
        (
            "--cpu-offload-gb",
            "--cpu-offload-params",
            "--enable-cumem-allocator",
            "--enable-sleep-mode",
            "--offload-backend",
            "--offload-group-size",
            "--offload-num-in-group",
            "--offload-params",
            "--offload-prefetch-step",
            "--sleep-mode-offload-cudagraph",
            "--sleep-preserve-parameter-names",
        ),
        "copies weights to memory that nobody wipes",
    ),
    **dict.fromkeys(
        (
            "--download-dir",
            "--elastic-ep-max-dp-size",
            "--enable-elastic-ep",
            "--engram-config",
            "--hf-config-path",
            "--ignore-patterns",
            "--mm-encoder-fp8-scale-path",
            "--mm-encoder-fp8-scale-save-margin",
            "--mm-encoder-fp8-scale-save-path",
            "--pt-load-map-location",
            "--safetensors-load-strategy",
            "--safetensors-prefetch-block-size",
            "--safetensors-prefetch-num-threads",
            "--spec-method",
            "--spec-model",
            "--spec-tokens",
            "--speculative-config",
            "--use-tqdm-on-load",
            "--weight-transfer-config",
        ),
        "reads, receives, sends or writes weights past the sealed loader",
    ),
    **dict.fromkeys(
        (
            "--default-mm-loras",
            "--enable-lora",
            "--enable-mixed-moe-lora-format",
            "--enable-moe-shared-loras",
            "--enable-tower-connector-lora",
            "--fully-sharded-loras",
            "--lora-dtype",
            "--lora-modules",
            "--lora-target-modules",
            "--max-cpu-loras",
            "--max-lora-cls-labels",
            "--max-lora-rank",
            "--max-loras",
            "--specialize-active-lora",
        ),
        "adds weights that nobody has measured",
    ),
    **dict.fromkeys(
        (
            "--ec-manager-config",
            "--ec-transfer-config",
            "--enable-mamba-shared-prefix-checkpoint",
            "--kv-events-config",
            "--kv-offloading-backend",
            "--kv-offloading-size",
            "--kv-transfer-config",
        ),
        "moves what was read of prompts out of the workers, or tells others about it",
    ),
    **dict.fromkeys(
        (
            "--collect-detailed-traces",
            "--enable-layerwise-nvtx-tracing",
            "--enable-log-deltas",
            "--enable-log-outputs",
            "--enable-log-requests",
            "--enable-trace-replay",
            "--log-config-file",
            "--logging-config",
            "--otlp-traces-endpoint",
            "--profiler-config",
            "--ray-workers-use-nsight",
        ),
        "writes down or sends what is computed, prompts included",
    ),
    **dict.fromkeys(
        (
            "--io-processor-plugin",
            "--logits-processors",
            "--middleware",
            "--model-class-overrides",
            "--reasoning-parser-plugin",
            "--scheduler-cls",
            "--tool-parser-plugin",
            "--tool-server",
            "--trust-remote-code",
            "--trust-request-chat-template",
            "--trust-request-mm-kwargs",
            "--worker-cls",
            "--worker-extension-cls",
        ),
        "runs code that nobody has measured",
    ),
    **dict.fromkeys(
        (
            "--allowed-local-media-path",
            "--allowed-media-domains",
            "--enable-mm-embeds",
            "--enable-prompt-embeds",
            "--media-io-kwargs",
        ),
        "reads files or addresses that a request names, or takes what is no text",
    ),
    **dict.fromkeys(
        (
            "--enable-offline-docs",
            "--enable-return-routed-experts",
            "--enable-scale-out",
            "--enable-server-load-tracking",
            "--enable-tokenizer-info-endpoint",
            "--grpc",
            "--headless",
            "--host",
            "--logprobs-mode",
            "--max-logprobs",
            "--port",
            "--return-sampling-mask",
            "--return-tokens-as-token-ids",
            "--tokens-only",
        ),
        "opens routes or ports, or shows more of the model",
    ),
}

# Values of --load-format other than Regalia's own, and why.
CLOSED_LOAD_FORMATS: Final[dict[str, str]] = {
    **dict.fromkeys(
        (
            "auto",
            "dummy",
            "fastsafetensors",
            "hf",
            "instanttensor",
            "mistral",
            "modelexpress",
            "npcache",
            "pt",
            "runai_streamer",
            "runai_streamer_sharded",
            "safetensors",
            "sharded_state",
            "tensorizer",
        ),
        "reads plaintext weights from files",
    ),
    **dict.fromkeys(("ipc_cache",), "takes weights from, and gives them to, other processes"),
}

# Every variable that ``VllmEngine.command`` may set or inherit.
VARIABLES: Final = frozenset(
    [
        "CUDA_HOME",
        "CUDA_VISIBLE_DEVICES",
        "DO_NOT_TRACK",
        "HF_HOME",
        "HF_HUB_DISABLE_TELEMETRY",
        "HF_HUB_OFFLINE",
        "HOME",
        "LC_ALL",
        "LD_LIBRARY_PATH",
        "NVIDIA_VISIBLE_DEVICES",
        "PATH",
        "PYTHONDONTWRITEBYTECODE",
        "PYTHONNOUSERSITE",
        "PYTHONSAFEPATH",
        "TMPDIR",
        "TRANSFORMERS_OFFLINE",
        "VLLM_ALLOW_INSECURE_SERIALIZATION",
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING",
        "VLLM_CACHE_ROOT",
        "VLLM_CONFIG_ROOT",
        "VLLM_CPU_KVCACHE_SPACE",
        "VLLM_CPU_OMP_THREADS_BIND",
        "VLLM_DO_NOT_TRACK",
        "VLLM_LOGGING_LEVEL",
        "VLLM_NO_USAGE_STATS",
        "VLLM_PLUGINS",
        "VLLM_RPC_BASE_PATH",
        "VLLM_SERVER_DEV_MODE",
        "VLLM_WORKER_MULTIPROC_METHOD",
        "XDG_CACHE_HOME",
        "XDG_CONFIG_HOME",
    ]
)

# Variables that open something, and the value that keeps it closed; None is never set.
CLOSED_VARIABLES: Final[dict[str, tuple[str | None, str]]] = {
    "LD_PRELOAD": (None, "runs code that nobody has measured"),
    "PYTHONPATH": (None, "runs code that nobody has measured"),
    "VLLM_ALLOW_INSECURE_SERIALIZATION": ("0", "lets messages between processes run code"),
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING": ("0", "adds weights at run time"),
    "VLLM_CUDART_SO_PATH": (None, "runs code that nobody has measured"),
    "VLLM_DEBUG_DUMP_PATH": (None, "writes down what is computed"),
    "VLLM_DEBUG_LOG_API_SERVER_RESPONSE": (None, "writes down answers"),
    "VLLM_ENABLE_RESPONSES_API_STORE": (None, "keeps answers for whoever knows their name"),
    "VLLM_LOGGING_CONFIG_PATH": (None, "writes requests where the file says"),
    "VLLM_MEDIA_CONNECTOR": (None, "reads addresses that a request names"),
    "VLLM_MODEL_REDIRECT_PATH": (None, "reads a model from elsewhere"),
    "VLLM_NCCL_SO_PATH": (None, "runs code that nobody has measured"),
    "VLLM_PLUGINS": ("regalia", "loads whatever else is installed, endpoints included"),
    "VLLM_RUST_FRONTEND_PATH": (None, "runs another server, with other routes"),
    "VLLM_SERVER_DEV_MODE": ("0", "opens routes that move weights and run code"),
    "VLLM_TEST_FORCE_LOAD_FORMAT": (None, "loads weights past the sealed loader"),
    "VLLM_TRACE_FUNCTION": (None, "records what is computed"),
    "VLLM_USAGE_STATS_SERVER": (None, "tells somebody what is served"),
    "VLLM_USE_MODELSCOPE": (None, "reads a model from elsewhere"),
    "VLLM_USE_RUST_FRONTEND": (None, "runs another server, with other routes"),
}

# What a new argument sounds like that somebody should look at.
SUSPICIOUS: Final = re.compile(
    r"lora|weight|sleep|profil|transfer|offload|trust|plugin|-cls\b|class|middleware|endpoint"
    r"|remote|embeds|media|trace|tracing|load|save|event|log-|logit|logprob|spec-|speculative"
    r"|download|path|domains|elastic|processors|tokens-only|scale-out|return-|tool-server"
)
# Arguments that sound so, and do none of it.
HARMLESS: Final = frozenset(
    [
        "--disable-access-log-for-endpoints",
        "--enable-ep-weight-filter",
        "--enable-per-request-metrics",
        "--h11-max-incomplete-event-size",
        "--language-model-only",
        "--log-error-stack",
        "--log-level",
        "--max-log-len",
        "--max-parallel-loading-workers",
        "--per-request-spec-decode-metrics",
        "--root-path",
        "--skip-mm-profiling",
        "--uvicorn-log-level",
    ]
)


def argument_state(name: str) -> str | None:
    """What becomes of one of vLLM's arguments; None if somebody should look at it.

    Args:
        name: with its dashes, without ``no-`` for what is switched off.
    """
    if name in ARGUMENTS or name.replace("--", "--no-", 1) in ARGUMENTS:
        return "given by the runtime"
    if name in CLOSED_ARGUMENTS:
        return f"never given: {CLOSED_ARGUMENTS[name]}"
    if name in HARMLESS or SUSPICIOUS.search(name) is None:
        return "never given"
    return None
