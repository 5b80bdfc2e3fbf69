"""Answers in OpenAI's wire form: whole, and as server-sent events."""

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
    """Counts of tokens."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }


@dataclass(frozen=True, slots=True)
class Shape:
    """Builds the bodies of one answer.

    Attributes:
        chat: chat completion, or plain text completion.
        model: the served name.
        fingerprint: names the backend; here the model id.
        created: Unix time, seconds.
        identity: of this answer.
        with_usage: every chunk of a stream has a ``usage`` member, null but in the last.
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
        """The answer to a request without ``stream``.

        Args:
            text: of the answer.
            finish: why it ends.
            usage: numbers of tokens.
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
        """One event with text; the last of them says why the answer ends.

        Args:
            text: the next part of the answer.
            finish: why the answer ends; None while it goes on.
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
        """The first event of a chat stream, which names the role."""
        delta = {"role": "assistant", "content": "", "refusal": None}
        return self._chunk(
            [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}], None
        )

    def counts(self, usage: Usage) -> bytes:
        """The event after the last choice, if the client asked for it."""
        return self._chunk([], usage)


def new_shape(*, chat: bool, model: str, fingerprint: str, created: int, with_usage: bool) -> Shape:
    """A shape with a fresh identity.

    Args:
        chat: whether chat completions were asked for, or plain ones.
        model: the served name.
        fingerprint: of the system that answers.
        created: seconds since 1970.
        with_usage: whether a stream ends with numbers of tokens.
    """
    prefix = "chatcmpl-" if chat else "cmpl-"
    return Shape(chat, model, fingerprint, created, prefix + secrets.token_hex(12), with_usage)


def pad_event(event: bytes, multiple: int) -> bytes:
    """Bring an event to a multiple of ``multiple`` bytes by a comment behind it.

    Sizes of sealed records would otherwise tell the length of every token to whoever watches
    the network. Readers of server-sent events skip comments. 0 pads nothing.

    Args:
        event: one server-sent event.
        multiple: bytes; 0 pads nothing.
    """
    if not multiple or len(event) % multiple == 0:
        return event
    room = -len(event) % multiple
    if room < _COMMENT_MIN:
        room += multiple
    return event + b":" + b" " * (room - _COMMENT_MIN) + b"\n\n"
