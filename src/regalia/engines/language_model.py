"""What engines share that answer token by token: checks, and the loop that reads and chooses."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from regalia.core.errors import UsageError
from regalia.engines.codes import EngineCode
from regalia.engines.generate import deltas

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence
    from collections.abc import Set as AbstractSet
    from contextlib import AbstractContextManager

    from regalia.engines.base import GenerationRequest, Message, TextDelta
    from regalia.engines.chat import ChatCodec

Logits = TypeVar("Logits")  # of one position, one for each token: an array of the library's
Read_co = TypeVar("Read_co", covariant=True)
Chosen_contra = TypeVar("Chosen_contra", contravariant=True)


class ReadsTokens(Protocol[Read_co]):
    """A model, and its memory of the tokens that it has read for one generation."""

    def read(self, tokens: Sequence[int]) -> Read_co:
        """Read more tokens. Returns the logits after the last of them."""


class ChoosesToken(Protocol[Chosen_contra]):
    """Chooses the next token of one generation."""

    def choose(self, logits: Chosen_contra) -> int:
        """Choose a token from the logits of one position."""


class LanguageModel(ABC, Generic[Logits]):
    """The part of ``engines.base.Engine`` that does not depend on a library.

    Args:
        codec: tokenizer and chat template.
        model_name: name that the model is served under.
        context_length: maximum number of tokens in prompt and answer together.
        vocabulary: number of tokens that the model knows.
        ends: tokens that end an answer.
        prefill_step: tokens of a prompt that are read before others have their turn.
    """

    def __init__(  # noqa: PLR0913 - each is one property of the engine
        self,
        codec: ChatCodec,
        *,
        model_name: str,
        context_length: int,
        vocabulary: int,
        ends: AbstractSet[int],
        prefill_step: int,
    ) -> None:
        self._codec = codec
        self._name = model_name
        self._context = context_length
        self._vocabulary = vocabulary
        self._ends = ends
        self._prefill_step = prefill_step

    @abstractmethod
    def _reader(self, length: int) -> AbstractContextManager[ReadsTokens[Logits]]:
        """The model with nothing read, for as many tokens; what it has read ends with it."""

    @abstractmethod
    def _sampler(self, request: GenerationRequest) -> ChoosesToken[Logits]:
        """What chooses the tokens of one generation."""

    @property
    def model_name(self) -> str:
        """Name that the model is served under."""
        return self._name

    @property
    def context_length(self) -> int:
        """Maximum number of tokens in prompt and answer together."""
        return self._context

    def encode_chat(self, messages: tuple[Message, ...]) -> tuple[int, ...]:
        """Render and tokenize a chat by the model's template; see ``engines.base.Engine``."""
        return self.check_tokens(self._codec.encode_chat(messages, most=self._context))

    def encode_text(self, text: str) -> tuple[int, ...]:
        """Tokenize a plain prompt; see ``engines.base.ReadsText``."""
        return self.check_tokens(self._codec.encode_text(text, most=self._context))

    def check_tokens(self, tokens: tuple[int, ...]) -> tuple[int, ...]:
        """Check that the model knows the tokens. Raises UsageError PROMPT_UNUSABLE."""
        if not tokens or not all(0 <= token < self._vocabulary for token in tokens):
            raise UsageError(
                EngineCode.PROMPT_UNUSABLE, "the prompt is empty or has tokens out of range"
            )
        return tokens

    def generate(self, request: GenerationRequest) -> Iterator[TextDelta]:
        """Generate an answer; see ``engines.base.Engine.generate``.

        Raises:
            UsageError: PROMPT_TOO_LONG.
        """
        # Not a generator itself: it must raise when it is called, before the first delta.
        room = self._context - len(request.tokens)
        if room < 1:
            raise UsageError(
                EngineCode.PROMPT_TOO_LONG,
                f"{len(request.tokens)} tokens of prompt in a context of {self._context}",
            )
        tokens = self._tokens(request, min(room, request.max_tokens))
        return deltas(request, tokens, self._codec.decode, self._ends)

    def _tokens(self, request: GenerationRequest, limit: int) -> Generator[int | None]:
        """Yield new tokens, and None after every part of the prompt except the last."""
        sampler = self._sampler(request)
        step = self._prefill_step
        starts = range(0, len(request.tokens), step)
        with self._reader(len(request.tokens) + limit) as model:
            for start in starts[:-1]:
                model.read(request.tokens[start : start + step])
                yield None
            logits = model.read(request.tokens[starts[-1] :])
            for number in range(1, limit + 1):
                token = sampler.choose(logits)
                yield token
                if number < limit:  # the logits after the last token are not needed
                    logits = model.read((token,))
