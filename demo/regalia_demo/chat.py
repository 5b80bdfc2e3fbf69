"""Three turns with the stock openai client, through the sealed path."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
from openai import APIConnectionError

from regalia.client.errors import RuntimeNotVerifiedError, SealedChannelError
from regalia_demo.deployment import SERVED_NAME

if TYPE_CHECKING:
    from openai import OpenAI

    from regalia_demo.screen import Screen

QUESTIONS = (
    "What is the capital of France?",
    "Which river flows through it?",
    "Name one famous building there, in one sentence.",
)
EXPECTED_WORD = "paris"
_MAX_TOKENS = 40


@dataclass(frozen=True, slots=True)
class Conversation:
    """What was answered."""

    answers: tuple[str, ...]
    streamed_events: int  # of the last turn

    @property
    def sensible(self) -> bool:
        """The model knows the capital, and the stream was a stream."""
        return EXPECTED_WORD in self.answers[0].lower() and self.streamed_events > 2  # noqa: PLR2004


def converse(client: OpenAI, model: str, screen: Screen) -> Conversation:
    """Two plain turns and a streamed one; each sees what was said before."""
    messages: list[Any] = []
    answers: list[str] = []
    events = 0
    for number, question in enumerate(QUESTIONS):
        screen.turn("you  ", question)
        messages.append({"role": "user", "content": question})
        if number < len(QUESTIONS) - 1:
            answer = _plain(client, model, messages)
        else:
            answer, events = _streamed(client, model, messages)
        screen.turn("model", answer)
        messages.append({"role": "assistant", "content": answer})
        answers.append(answer)
    return Conversation(tuple(answers), events)


def _plain(client: OpenAI, model: str, messages: list[Any]) -> str:
    done = client.chat.completions.create(
        model=model,
        messages=messages,
        max_tokens=_MAX_TOKENS,
        temperature=0,
    )
    return (done.choices[0].message.content or "").strip()


def _streamed(client: OpenAI, model: str, messages: list[Any]) -> tuple[str, int]:
    stream: Any = client.chat.completions.create(
        model=model,
        messages=messages,
        max_tokens=_MAX_TOKENS,
        temperature=0,
        stream=True,
    )
    pieces = [c.choices[0].delta.content or "" for c in stream if c.choices]
    return "".join(pieces).strip(), len(pieces)


def ask_once(client: OpenAI, prompt: str) -> str:
    """One short answer."""
    return _plain(client, SERVED_NAME, [{"role": "user", "content": prompt}])


def stream_once(client: OpenAI, prompt: str) -> tuple[str, str | None]:
    """One streamed answer: what came, and the code of the error that ended it, if any."""
    text = ""
    try:
        stream: Any = client.chat.completions.create(
            model=SERVED_NAME,
            messages=[{"role": "user", "content": prompt}],
            max_tokens=_MAX_TOKENS,
            temperature=0,
            stream=True,
        )
        for chunk in stream:
            text += (chunk.choices[0].delta.content or "") if chunk.choices else ""
    except (APIConnectionError, httpx.TransportError) as failed:
        return text, code_of(failed)
    return text, None


def code_of(failed: BaseException | None) -> str | None:
    """Regalia's code behind an HTTP library's exception."""
    while failed is not None:
        if isinstance(failed, RuntimeNotVerifiedError | SealedChannelError):
            return failed.code.name
        failed = failed.__cause__
    return None
