"""Builds answers in OpenAI's wire format: complete bodies, and server-sent events."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from regalia.engines.base import Finish, Usage

EVENT_STREAM = "text/event-stream; charset=utf-8"
DONE = b"data: [DONE]\n\n"
_COMMENT_MIN = 3  # bytes of the shortest event that is only a comment, ":\n\n"


def usage_body(usage: Usage) -> dict[str, int]:
    """Token counts in OpenAI's ``usage`` object."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }


@dataclass(frozen=True, slots=True)
class Shape:
    """Builds the bodies of one answer.

    Attributes:
        chat: whether it is a chat completion rather than a plain text completion.
        model: name that the model is served under.
        fingerprint: OpenAI's ``system_fingerprint``, which identifies the backend; the model id.
        created: Unix time in seconds.
        identity: unique identifier of this answer.
        with_usage: whether the chunks of a stream have a ``usage`` member, which is null in all
            but the last chunk.
    """

    chat: bool
    model: str
    fingerprint: str
    created: int
    identity: str
    with_usage: bool

    def _body(self, kind: str, choices: list[object]) -> dict[str, object]:
        return {
            "id": self.identity,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
            "choices": choices,
        }

    def whole(self, text: str, finish: Finish, usage: Usage) -> bytes:
        """Body of the answer to a request without ``stream``.

        Args:
            text: the complete generated text.
            finish: why the generation ended.
            usage: token counts of prompt and answer.
        """
        choice: dict[str, object] = {"index": 0, "logprobs": None, "finish_reason": str(finish)}
        if self.chat:
            choice["message"] = {"role": "assistant", "content": text, "refusal": None}
        else:
            choice["text"] = text
        kind = "chat.completion" if self.chat else "text_completion"
        body = self._body(kind, [choice])
        body["usage"] = usage_body(usage)
        return msgspec.json.encode(body)

    def _chunk(self, choices: list[object], usage: Usage | None) -> bytes:
        kind = "chat.completion.chunk" if self.chat else "text_completion"
        body = self._body(kind, choices)
        if self.with_usage:
            body["usage"] = None if usage is None else usage_body(usage)
        return b"data: " + msgspec.json.encode(body) + b"\n\n"

    def piece(self, text: str, finish: Finish | None) -> bytes:
        """One event of a stream. The last one with a choice tells why the answer ended.

        Args:
            text: next part of the generated text; may be empty.
            finish: why the generation ended; None while it continues.
        """
        choice: dict[str, object] = {
            "index": 0,
            "logprobs": None,
            "finish_reason": None if finish is None else str(finish),
        }
        if self.chat:
            choice["delta"] = {"content": text} if text else {}
        else:
            choice["text"] = text
        return self._chunk([choice], None)

    def opening(self) -> bytes:
        """The first event of a chat stream, which carries the role."""
        delta = {"role": "assistant", "content": "", "refusal": None}
        return self._chunk(
            [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}], None
        )

    def counts(self, usage: Usage) -> bytes:
        """The event with the token counts, sent after the last choice if the client asked."""
        return self._chunk([], usage)


def new_shape(*, chat: bool, model: str, fingerprint: str, created: int, with_usage: bool) -> Shape:
    """A shape with a fresh identifier.

    Args:
        chat: whether the client asked for a chat completion rather than a plain one.
        model: name that the model is served under.
        fingerprint: identifies the backend.
        created: Unix time in seconds.
        with_usage: whether a stream ends with an event of token counts.
    """
    prefix = "chatcmpl-" if chat else "cmpl-"
    return Shape(chat, model, fingerprint, created, prefix + secrets.token_hex(12), with_usage)


def pad_event(event: bytes, multiple: int) -> bytes:
    """Pad an event to a multiple of ``multiple`` bytes with a comment event after it.

    Without padding, the sizes of the sealed chunks would reveal the length of every token to an
    observer of the network. Parsers of server-sent events ignore comments.

    Args:
        event: one server-sent event, complete with its blank line.
        multiple: number of bytes; 0 turns padding off.
    """
    if not multiple or len(event) % multiple == 0:
        return event
    room = -len(event) % multiple
    if room < _COMMENT_MIN:
        room += multiple
    return event + b":" + b" " * (room - _COMMENT_MIN) + b"\n\n"
