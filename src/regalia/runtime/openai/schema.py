"""Schemas of OpenAI's requests, and their strict validation.

There are three kinds of parameters. Supported ones are honored. Those that do not change the
answer (``user``, ``metadata``, …) are ignored. Unsupported ones that would change the meaning of
the answer are refused unless they have their neutral value. A parameter that is null is absent,
whether it is known or not: several client libraries send every parameter they know.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta

from regalia.engines.base import Message
from regalia.runtime.codes import RequestCode
from regalia.runtime.openai.errors import ApiError

STOP_MAX = 4  # stop strings in one request, OpenAI's own limit
MESSAGES_MAX = 4096
VALUES_MAX = 1 << 16  # lists, objects and members in one body
_SEED_MASK = (1 << 63) - 1

INPUTS_MAX = 2048  # inputs in one request for embeddings, OpenAI's own limit

_T = TypeVar("_T", bound="Request")
_Stop = Annotated[str, Meta(min_length=1, max_length=256)]


class _Doc(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of all request objects: immutable, and unknown fields are an error."""


class StreamOptions(_Doc, frozen=True, kw_only=True):
    """The ``stream_options`` object."""

    include_usage: bool = False
    include_obfuscation: bool | None = None  # ignored: the sealed channel pads streams itself


class TextPart(msgspec.Struct, frozen=True, kw_only=True):
    """A text part of a message's content. Images and audio are not supported."""

    type: Literal["text"]
    text: str


class ChatMessage(msgspec.Struct, frozen=True, kw_only=True):
    """One message of a conversation.

    Clients keep conversations with fields of their own or of other servers (``id``,
    ``reasoning_content``, …), and send them back. The model reads role and content, so the others
    are ignored, but for those that would change the meaning of the conversation.
    """

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart] | None = None
    name: str | None = None
    audio: None = None
    function_call: None = None
    tool_calls: Annotated[list[object], Meta(max_length=0)] | None = None


class Request(_Doc, frozen=True, kw_only=True):
    """Parameters that all requests share."""

    model: str
    # Ignored: they change nothing about the answer.
    user: object = None
    metadata: object = None
    store: object = None
    service_tier: object = None
    safety_identifier: object = None


class Common(Request, frozen=True, kw_only=True):
    """Parameters that chat and text completions share."""

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
    # Neutral values of other servers' parameters.
    top_k: Literal[-1, 0] | None = None
    min_p: Annotated[float, Meta(ge=0, le=0)] | None = None
    repetition_penalty: Annotated[float, Meta(ge=1, le=1)] | None = None
    # Ignored: they change nothing about the answer.
    prompt_cache_key: object = None
    prompt_cache_retention: object = None

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop strings as a tuple, whichever form the client used."""
        if self.stop is None:
            return ()
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)

    @property
    def wants_usage(self) -> bool:
        """Whether a stream shall end with the token counts."""
        return self.stream_options is not None and self.stream_options.include_usage

    @property
    def seed_value(self) -> int | None:
        """The seed reduced to 63 bits, as engines take no more; clients may send any integer."""
        return None if self.seed is None else self.seed & _SEED_MASK


class _JustText(_Doc, frozen=True, kw_only=True):
    type: Literal["text"]


class ChatRequest(Common, frozen=True, kw_only=True):
    """POST /v1/chat/completions."""

    messages: Annotated[list[ChatMessage], Meta(min_length=1, max_length=MESSAGES_MAX)]
    max_completion_tokens: Annotated[int, Meta(ge=1)] | None = None
    logprobs: Literal[False] | None = None
    top_logprobs: Literal[0] | None = None
    response_format: _JustText | None = None
    modalities: list[Literal["text"]] | None = None
    tools: Annotated[list[object], Meta(max_length=0)] | None = None
    tool_choice: Literal["none", "auto"] | None = None
    functions: Annotated[list[object], Meta(max_length=0)] | None = None
    function_call: Literal["none", "auto"] | None = None
    parallel_tool_calls: object = None

    def turns(self) -> tuple[Message, ...]:
        """The messages for the engine. ``developer`` is OpenAI's newer name of ``system``."""
        return tuple(
            Message("system" if item.role == "developer" else item.role, _text(item.content))
            for item in self.messages
        )

    @property
    def limit(self) -> int | None:
        """Maximum of new tokens, from the newer parameter or else the older one."""
        return self.max_completion_tokens or self.max_tokens


class CompletionRequest(Common, frozen=True, kw_only=True):
    """POST /v1/completions."""

    prompt: str | list[str | int | list[int]]
    echo: Literal[False] | None = None
    best_of: Literal[1] | None = None
    logprobs: None = None
    suffix: Literal[""] | None = None


class EmbeddingRequest(Request, frozen=True, kw_only=True):
    """POST /v1/embeddings."""

    input: str | list[str | int | list[int]]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Meta(ge=1)] | None = None


def _text(content: str | list[TextPart] | None) -> str:
    if isinstance(content, list):
        return "".join(part.text for part in content)
    return content or ""


# msgspec reports the parameter only in its message, in these forms.
_UNKNOWN = re.compile(r"unknown field `([^`]*)`")
_PLACE = re.compile(r" - at `\$\.?([^`]*)`")


def count_values(data: bytes) -> int:
    """At least the number of values in a JSON text, counted much faster than they are decoded.

    Decoding holds up all other threads, and each value takes a hundred times the memory of its
    two bytes in the text.
    """
    bare = data.replace(b"\\\\", b"").replace(b'\\"', b"")
    quotes = bare.count(b'"')
    if quotes > 2 * VALUES_MAX:
        return quotes
    outside = b"".join(bare.split(b'"')[::2])
    return sum(outside.count(mark) for mark in (b",", b"[", b"{"))


def parse_request(data: bytes, kind: type[_T]) -> _T:
    """Decode and validate a request body.

    Args:
        data: the body, raw and untrusted.
        kind: type of the request.

    Raises:
        ApiError: REQUEST_INVALID, with the name of the parameter that is at fault.
    """
    if count_values(data) > VALUES_MAX:
        raise ApiError(
            RequestCode.REQUEST_INVALID, f"The body has more than {VALUES_MAX} lists and values."
        )
    try:
        given = msgspec.json.decode(data)
        if isinstance(given, dict):
            given = {name: value for name, value in given.items() if value is not None}
        request = msgspec.convert(given, type=kind)
    except msgspec.ValidationError as exc:
        raise _explain(str(exc)) from exc
    except (msgspec.DecodeError, UnicodeError, RecursionError) as exc:
        raise ApiError(RequestCode.REQUEST_INVALID, "The body is not valid JSON.") from exc
    if isinstance(request, Common) and request.stream_options is not None and not request.stream:
        raise ApiError(
            RequestCode.REQUEST_INVALID,
            "stream_options is only allowed when stream is true.",
            param="stream_options",
        )
    return request


def _explain(text: str) -> ApiError:
    """Convert a message of msgspec, which names types and paths but never values."""
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
