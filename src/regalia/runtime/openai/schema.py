"""Requests as OpenAI's clients send them, checked strictly.

Three kinds of parameters: those that are honored; those that change nothing about the answer
(``user``, ``metadata``, …), which are ignored; and those that would change what the answer
means and are not supported, which are refused unless they hold their neutral value.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta

from regalia.engines.base import Message
from regalia.runtime.codes import RequestCode
from regalia.runtime.openai.errors import ApiError

STOP_MAX = 4  # strings, as with OpenAI
MESSAGES_MAX = 4096
_SEED_MASK = (1 << 63) - 1

_T = TypeVar("_T", bound="Common")
_Stop = Annotated[str, Meta(min_length=1, max_length=256)]


class _Doc(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of all request parts."""


class StreamOptions(_Doc, frozen=True, kw_only=True):
    """``stream_options``."""

    include_usage: bool = False
    include_obfuscation: bool | None = None  # our streams are padded by the sealed channel


class TextPart(_Doc, frozen=True, kw_only=True):
    """One part of a message's content. Images and sound are not supported."""

    type: Literal["text"]
    text: str


class ChatMessage(_Doc, frozen=True, kw_only=True):
    """One message. Fields of OpenAI's answers are accepted while they are empty."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart] | None = None
    name: str | None = None
    refusal: None = None
    audio: None = None
    function_call: None = None
    tool_calls: Annotated[list[object], Meta(max_length=0)] | None = None
    annotations: Annotated[list[object], Meta(max_length=0)] | None = None


class Common(_Doc, frozen=True, kw_only=True):
    """What both kinds of completion share."""

    model: str
    max_tokens: Annotated[int, Meta(ge=1)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    seed: int | None = None
    stop: _Stop | Annotated[list[_Stop], Meta(max_length=STOP_MAX)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    # Neutral values only.
    n: Literal[1] | None = None
    presence_penalty: Annotated[float, Meta(ge=0, le=0)] | None = None
    frequency_penalty: Annotated[float, Meta(ge=0, le=0)] | None = None
    logit_bias: Annotated[dict[str, object], Meta(max_length=0)] | None = None
    # Ignored: they change nothing about the answer.
    user: object = None
    metadata: object = None
    store: object = None
    service_tier: object = None
    safety_identifier: object = None
    prompt_cache_key: object = None
    prompt_cache_retention: object = None

    @property
    def stops(self) -> tuple[str, ...]:
        """Stop strings, in one form."""
        if self.stop is None:
            return ()
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)

    @property
    def wants_usage(self) -> bool:
        """Whether a stream ends with the counts."""
        return self.stream_options is not None and self.stream_options.include_usage

    @property
    def seed_value(self) -> int | None:
        """A seed within what the engine takes; any integer is accepted from clients."""
        return None if self.seed is None else self.seed & _SEED_MASK


class _JustText(_Doc, frozen=True, kw_only=True):
    type: Literal["text"]


class ChatRequest(Common, frozen=True, kw_only=True):
    """POST /v1/chat/completions."""

    messages: Annotated[list[ChatMessage], Meta(min_length=1, max_length=MESSAGES_MAX)]
    max_completion_tokens: Annotated[int, Meta(ge=1)] | None = None
    logprobs: Literal[False] | None = None
    top_logprobs: None = None
    response_format: _JustText | None = None
    modalities: list[Literal["text"]] | None = None
    tools: Annotated[list[object], Meta(max_length=0)] | None = None
    tool_choice: Literal["none", "auto"] | None = None
    parallel_tool_calls: object = None

    def turns(self) -> tuple[Message, ...]:
        """Messages for the engine. OpenAI's newer word for system is developer."""
        return tuple(
            Message("system" if item.role == "developer" else item.role, _text(item.content))
            for item in self.messages
        )

    @property
    def limit(self) -> int | None:
        """Most new tokens, by the newer name or the older one."""
        return self.max_completion_tokens or self.max_tokens


class CompletionRequest(Common, frozen=True, kw_only=True):
    """POST /v1/completions."""

    prompt: str | list[str | int]
    echo: Literal[False] | None = None
    best_of: Literal[1] | None = None
    logprobs: None = None
    suffix: Literal[""] | None = None


def _text(content: str | list[TextPart] | None) -> str:
    if isinstance(content, list):
        return "".join(part.text for part in content)
    return content or ""


_UNKNOWN = re.compile(r"unknown field `([^`]*)`")
_PLACE = re.compile(r" - at `\$\.?([^`]*)`")


def parse_request(data: bytes, kind: type[_T]) -> _T:
    """Decode a request body.

    Args:
        data: raw, untrusted.
        kind: the request's type.

    Raises:
        ApiError: REQUEST_INVALID, with the parameter's name.
    """
    try:
        request = msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError as exc:
        raise _explain(str(exc)) from exc
    except (msgspec.DecodeError, UnicodeError, RecursionError) as exc:
        raise ApiError(RequestCode.REQUEST_INVALID, "The body is not valid JSON.") from exc
    if request.stream_options is not None and not request.stream:
        raise ApiError(
            RequestCode.REQUEST_INVALID,
            "stream_options is only allowed when stream is true.",
            param="stream_options",
        )
    return request


def _explain(text: str) -> ApiError:
    """Put msgspec's words into OpenAI's form. They name types and places, never values."""
    place = _PLACE.search(text)
    where = place.group(1) if place else ""
    unknown = _UNKNOWN.search(text)
    if unknown:
        name = ".".join(part for part in (where, unknown.group(1)) if part)
        message = f"Unrecognized request argument supplied: {name[:200]}"
        return ApiError(RequestCode.REQUEST_INVALID, message, param=name[:200])
    what = _PLACE.sub("", text)
    message = f"Unsupported value for {where!r}: {what}" if where else what
    return ApiError(RequestCode.REQUEST_INVALID, message[:500], param=where[:200] or None)
