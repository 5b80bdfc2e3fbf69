"""What of vLLM's API is open: an allow-list of routes and parameters, and named surfaces.

vLLM accepts parameters that nobody has defined, and each release adds some. So whatever does not
stand here is refused. ``scripts/make_engine_surfaces.py`` compares these lists with the routes and
parameters of the installed version, and docs/reference/engine-surfaces.md shows all of them.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Surface(StrEnum):
    """What the measured configuration may open, by name."""

    LOGPROBS = "logprobs"  # probabilities of tokens, from which weights can be estimated
    LOGIT_BIAS = "logit-bias"  # pushes tokens; with many requests it shows probabilities too
    SHARED_PREFIX_CACHE = "shared-prefix-cache"  # timing shows what others have asked
    TOKENIZE = "tokenize"  # the vocabulary, and the chat template


CHAT: Final = "/v1/chat/completions"
COMPLETIONS: Final = "/v1/completions"
EMBEDDINGS: Final = "/v1/embeddings"
TOKENIZE: Final = "/tokenize"
DETOKENIZE: Final = "/detokenize"

# Routes that requests are passed on to, and the surface that opens them; None is open.
ROUTES: Final[dict[str, Surface | None]] = {
    CHAT: None,
    COMPLETIONS: None,
    EMBEDDINGS: None,
    TOKENIZE: Surface.TOKENIZE,
    DETOKENIZE: Surface.TOKENIZE,
}

_SAMPLING = frozenset(
    [
        "frequency_penalty",
        "ignore_eos",
        "include_stop_str_in_output",
        "length_penalty",
        "max_tokens",
        "min_p",
        "min_tokens",
        "model",
        "n",
        "presence_penalty",
        "repetition_penalty",
        "response_format",
        "seed",
        "skip_special_tokens",
        "spaces_between_special_tokens",
        "stop",
        "stop_token_ids",
        "stream",
        "stream_options",
        "structured_outputs",
        "temperature",
        "thinking_token_budget",
        "top_k",
        "top_p",
        "truncate_prompt_tokens",
        "truncation_side",
        "user",
    ]
)
_OPENED: Final[dict[str, Surface]] = {
    **dict.fromkeys(("logprobs", "prompt_logprobs", "logprob_token_ids"), Surface.LOGPROBS),
    **dict.fromkeys(("logit_bias", "allowed_token_ids", "bad_words"), Surface.LOGIT_BIAS),
}

# Parameters that are passed on as they are.
OPEN: Final[dict[str, frozenset[str]]] = {
    CHAT: _SAMPLING
    | frozenset(
        [
            "include_reasoning",
            "max_completion_tokens",
            "messages",
            "parallel_tool_calls",
            "reasoning_effort",
            "tool_choice",
            "tools",
            "metadata",
            "store",
            "service_tier",
        ]
    ),
    COMPLETIONS: _SAMPLING | frozenset(("prompt",)),
    EMBEDDINGS: frozenset(
        [
            "dimensions",
            "encoding_format",
            "input",
            "model",
            "truncate_prompt_tokens",
            "truncation_side",
            "user",
        ]
    ),
    TOKENIZE: frozenset(
        ["add_generation_prompt", "messages", "model", "prompt", "return_token_strs", "tools"]
    ),
    DETOKENIZE: frozenset(["model", "tokens"]),
}

# Parameters that a surface opens.
OPENED: Final[dict[str, dict[str, Surface]]] = {
    CHAT: {**_OPENED, "top_logprobs": Surface.LOGPROBS},
    COMPLETIONS: {**_OPENED, "echo": Surface.LOGPROBS},
    EMBEDDINGS: {},
    TOKENIZE: {},
    DETOKENIZE: {},
}

# Parameters that nothing opens, and why. They are listed to tell them from new ones.
CLOSED: Final[dict[str, str]] = {
    **dict.fromkeys(
        ("kv_transfer_params", "ec_transfer_params"), "moves what was read of prompts elsewhere"
    ),
    **dict.fromkeys(
        ("cache_salt", "session_id", "priority", "request_id"),
        "the runtime decides who shares what with whom, and whose turn it is",
    ),
    **dict.fromkeys(
        ("mm_payload", "mm_processor_kwargs", "media_io_kwargs", "return_mm_kwargs"),
        "images and sounds are not served, and addresses of them would be fetched",
    ),
    **dict.fromkeys(
        ("chat_template", "chat_template_kwargs", "documents"),
        "a template is a program, and its variables are parts of one",
    ),
    **dict.fromkeys(
        ("add_generation_prompt", "continue_final_message", "add_special_tokens", "echo"),
        "the runtime decides where turns begin and end",
    ),
    **dict.fromkeys(
        ("return_token_ids", "return_token_offsets", "return_tokens_as_token_ids"),
        "shows the vocabulary",
    ),
    **dict.fromkeys(
        ("return_prompt_text", "routed_experts_prompt_start"), "shows the template or the model"
    ),
    **dict.fromkeys(("prompt_embeds", "suffix"), "is no text"),
    **dict.fromkeys(
        ("vllm_xargs", "use_beam_search", "watermarking", "repetition_detection"),
        "runs other code than what was tried",
    ),
    **dict.fromkeys(
        ("embed_dtype", "endianness", "padding", "use_activation"),
        "changes what the model computes, or the form of the answer",
    ),
    "messages": "a chat is asked for on its own route, where its turns are screened",
    "stream_interval": "one piece for each token, so that padding covers each",
}
# Parameters of OpenAI's clients that mean nothing here, and are left out.
DROPPED: Final = frozenset(("metadata", "store", "service_tier", "user"))

# Members of parameters that are objects. vLLM accepts others there, too.
MEMBERS: Final[dict[str, frozenset[str]]] = {
    "stream_options": frozenset(("include_usage", "continuous_usage_stats")),
    "response_format": frozenset(("type", "json_schema", "format", "structures", "triggers")),
    "structured_outputs": frozenset(
        [
            "choice",
            "disable_additional_properties",
            "disable_any_whitespace",
            "grammar",
            "json",
            "json_object",
            "regex",
            "structural_tag",
            "whitespace_pattern",
        ]
    ),
}
MESSAGE_MEMBERS: Final = frozenset(
    ["content", "name", "reasoning", "reasoning_content", "role", "tool_call_id", "tool_calls"]
)
# Members of messages that are refused unless they are empty, and why.
CLOSED_MESSAGE_MEMBERS: Final[dict[str, str]] = {
    **dict.fromkeys(("task", "tools"), "is no part of a conversation"),
    **dict.fromkeys(
        ("annotations", "audio", "function_call", "refusal"), "is not read by this engine"
    ),
}
PART_MEMBERS: Final = frozenset(("type", "text"))

# Routes of vLLM that are never passed on, and why.
CLOSED_ROUTES: Final[dict[str, str]] = {
    **dict.fromkeys(
        (
            "/finish_weight_update",
            "/init_weight_transfer_engine",
            "/release_kv_cache_memory",
            "/shutdown_weight_transfer_engine",
            "/sleep",
            "/start_draft_weight_update",
            "/start_weight_update",
            "/update_weight_version",
            "/update_weights",
            "/v1/load_lora_adapter",
            "/v1/unload_lora_adapter",
            "/adapters",
            "/adapters/{adapter_name}",
            "/wake_up",
        ),
        "moves or replaces weights",
    ),
    **dict.fromkeys(("/weight_checker", "/weight_info"), "shows what the weights are"),
    **dict.fromkeys(
        ("/collective_rpc", "/start_profile", "/stop_profile"),
        "runs methods of the workers, or records what they do",
    ),
    **dict.fromkeys(
        (
            "/kv_event_sources",
            "/load",
            "/metrics",
            "/v1/responses",
            "/v1/responses/{response_id}",
            "/v1/responses/{response_id}/cancel",
        ),
        "shows what others ask, how much they ask, or keeps it for whoever knows a name",
    ),
    **dict.fromkeys(
        (
            "/abort_requests",
            "/fault_tolerance/apply",
            "/fault_tolerance/status",
            "/get_world_size",
            "/inference/v1/abort_requests",
            "/is_paused",
            "/is_scaling_elastic_ep",
            "/is_sleeping",
            "/pause",
            "/reset_encoder_cache",
            "/reset_mm_cache",
            "/reset_prefix_cache",
            "/resume",
            "/scale_elastic_ep",
            "/server_info",
        ),
        "administers all requests, or shows settings: the runtime's business",
    ),
    **dict.fromkeys(
        ("/health", "/ping", "/v1/models", "/version"), "the runtime answers for itself"
    ),
    **dict.fromkeys(
        (
            "/docs",
            "/docs/oauth2-redirect",
            "/openapi.json",
            "/redoc",
            "/static",
            "/tokenizer_info",
        ),
        "shows the version's whole surface, or the chat template",
    ),
    **dict.fromkeys(
        (
            "/inference/v1/generate",
            "/v1/chat/completions/derender",
            "/v1/chat/completions/render",
            "/v1/completions/derender",
            "/v1/completions/render",
            "/v1/messages/render",
            "/v1/responses/render",
        ),
        "takes or shows tokens and templates, past the screening of turns",
    ),
    **dict.fromkeys(
        (
            "/classify",
            "/generative_scoring",
            "/invocations",
            "/pooling",
            "/rerank",
            "/score",
            "/v1/audio/transcriptions",
            "/v1/audio/translations",
            "/v1/chat/completions/batch",
            "/v1/messages",
            "/v1/messages/count_tokens",
            "/v1/realtime",
            "/v1/rerank",
            "/v1/score",
            "/v1/systemone",
            "/v2/embed",
            "/v2/rerank",
        ),
        "speaks a protocol that nothing here screens",
    ),
}


def parameter_state(route: str, name: str) -> str | None:
    """What becomes of a parameter, in words; None if nobody has looked at it.

    Args:
        route: one of ``ROUTES``.
        name: of the parameter.
    """
    if name in DROPPED:
        return "left out"
    if name in OPEN[route]:
        return "open"
    if (surface := OPENED[route].get(name)) is not None:
        return f"opened by `{surface}`"
    if name in CLOSED:
        return f"closed: {CLOSED[name]}"
    return None


def route_state(path: str) -> str | None:
    """What becomes of a request on one of vLLM's routes; None if nobody has looked at it.

    Args:
        path: as vLLM writes it, with names in braces.
    """
    if path in ROUTES:
        surface = ROUTES[path]
        return "open" if surface is None else f"opened by `{surface}`"
    if path in CLOSED_ROUTES:
        return f"never passed on: {CLOSED_ROUTES[path]}"
    return None
