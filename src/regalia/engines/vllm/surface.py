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
        "top_k",
        "top_p",
        "truncate_prompt_tokens",
        "truncation_side",
        "user",
    ]
)
_OPENED: Final[dict[str, Surface]] = {
    **dict.fromkeys(
        ("logprobs", "top_logprobs", "prompt_logprobs", "logprob_token_ids"), Surface.LOGPROBS
    ),
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
            "thinking_token_budget",
            "tool_choice",
            "tools",
            "metadata",
            "store",
            "service_tier",
        ]
    ),
    COMPLETIONS: _SAMPLING | frozenset(("prompt",)),
    EMBEDDINGS: frozenset(["input", "model", "encoding_format", "dimensions", "user"]),
    TOKENIZE: frozenset(
        ["model", "prompt", "messages", "add_generation_prompt", "return_token_strs"]
    ),
    DETOKENIZE: frozenset(["model", "tokens"]),
}

# Parameters that a surface opens.
OPENED: Final[dict[str, dict[str, Surface]]] = {
    CHAT: _OPENED,
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
    "stream_interval": "one piece for each token, so that padding covers each",
}
# Parameters of OpenAI's clients that mean nothing here, and are left out.
DROPPED: Final = frozenset(("metadata", "store", "service_tier", "user"))

# Routes of vLLM that are never passed on, and why.
CLOSED_ROUTES: Final[dict[str, str]] = {
    **dict.fromkeys(
        (
            "/collective_rpc",
            "/sleep",
            "/wake_up",
            "/is_sleeping",
            "/pause",
            "/resume",
            "/is_paused",
        ),
        "runs methods of the workers, or moves weights",
    ),
}
