"""What the runtime knows of an engine: tokens in, text out, a little at a time."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from regalia.core.weights import ModelFiles


class Finish(StrEnum):
    """Why a generation ended; the words are OpenAI's."""

    STOP = "stop"  # end-of-text token or a stop string
    LENGTH = "length"  # max_tokens or the end of the context


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One generation. Prompts are token ids already, so that a refusal precedes the answer.

    Attributes:
        tokens: the prompt, at least one token and fewer than the engine's context.
        max_tokens: most new tokens, at least 1.
        stop: strings that end the answer and are not part of it.
        temperature: 0 is greedy.
        top_p: nucleus sampling, over 0 and at most 1.
        seed: makes sampling repeatable on one machine; None takes fresh randomness.
    """

    tokens: tuple[int, ...]
    max_tokens: int
    stop: tuple[str, ...]
    temperature: float
    top_p: float
    seed: int | None


@dataclass(frozen=True, slots=True)
class Usage:
    """Counts of tokens, for the answer and for billing."""

    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class TextDelta:
    """A piece of the answer. ``text`` may be empty: the engine is alive and can be stopped here.

    The last delta has ``finish`` and ``usage``; no other has.
    """

    text: str
    finish: Finish | None = None
    usage: Usage | None = None


class Engine(Protocol):
    """A model that is ready to run. One generation at a time; the caller sees to that."""

    @property
    def model_name(self) -> str:
        """The name that clients use."""

    @property
    def context_length(self) -> int:
        """Most tokens of prompt and answer together."""

    def encode_chat(self, messages: tuple[Message, ...]) -> tuple[int, ...]:
        """Render with the model's own chat template. Raises UsageError PROMPT_UNUSABLE."""

    def encode_text(self, text: str) -> tuple[int, ...]:
        """Tokens of a plain prompt. Raises UsageError PROMPT_UNUSABLE."""

    def check_tokens(self, tokens: tuple[int, ...]) -> tuple[int, ...]:
        """Return tokens that the model knows. Raises UsageError PROMPT_UNUSABLE."""

    def generate(self, request: GenerationRequest) -> Iterator[TextDelta]:
        """Generate. Closing the iterator stops the work; nothing of it is kept.

        Raises:
            UsageError: PROMPT_TOO_LONG, before the first delta.
        """


class BuildEngine(Protocol):
    """A plug-in of the group ``regalia.engines``."""

    def __call__(
        self, files: ModelFiles, *, model_name: str, options: Mapping[str, object]
    ) -> Engine:
        """Build an engine on the files' memory; it stays valid until that memory is wiped.

        Raises:
            ParseError: a file of the model is malformed.
            IntegrityError: ENGINE_MODEL_INCOMPLETE.
            UsageError: the model or an option is not supported.
        """
