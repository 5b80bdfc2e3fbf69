"""The engine on llama.cpp. Implements ``engines.base.Engine``."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from regalia.core.errors import UnavailableError, UsageError
from regalia.engines.codes import EngineCode
from regalia.engines.generate import deltas

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from regalia.engines.base import GenerationRequest, Message, TextDelta
    from regalia.engines.llama_cpp.codec import GgufCodec
    from regalia.engines.llama_cpp.native import Model


class LlamaCppEngine:
    """Each generation has a context of its own, as long as its prompt and answer can be.

    llama.cpp could keep several sequences in one context instead. But then all of them would hold
    memory for the longest from the start, and a generation that ends would leave what it has read
    to the next one's cells. A context costs a few milliseconds to make, and is freed.
    """

    interleaves = True

    def __init__(  # noqa: PLR0913 - each is one property of the engine
        self,
        model: Model,
        codec: GgufCodec,
        *,
        model_name: str,
        context_length: int,
        prefill_step: int,
        threads: int,
    ) -> None:
        self._model = model
        self._codec = codec
        self._name = model_name
        self._context = context_length
        self._prefill_step = prefill_step
        self._threads = threads

    def try_out(self) -> None:
        """Read one token. Raises UsageError ENGINE_MODEL_UNSUPPORTED."""
        import numpy as np

        try:
            with closing(self._model.context(1, step=1, threads=self._threads)) as context:
                logits = context.read((0,))
        except (RuntimeError, UnavailableError) as exc:
            raise _unsupported(f"a trial ended with {exc}") from exc
        if not np.isfinite(logits).all():
            raise _unsupported("a trial gave numbers that are not finite")

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
        size = self._model.vocabulary.size
        if not tokens or not all(0 <= token < size for token in tokens):
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
        return deltas(request, tokens, self._codec.decode, self._model.vocabulary.ends)

    def _tokens(self, request: GenerationRequest, limit: int) -> Generator[int | None]:
        """Yield new tokens, and None after every part of the prompt except the last."""
        from regalia.engines.llama_cpp.sampling import Sampler

        sampler = Sampler(request)
        length, step = len(request.tokens) + limit, self._prefill_step
        with closing(self._model.context(length, step=step, threads=self._threads)) as context:
            starts = range(0, len(request.tokens), step)
            for start in starts[:-1]:
                context.read(request.tokens[start : start + step])
                yield None
            logits = context.read(request.tokens[starts[-1] :])
            for number in range(1, limit + 1):
                token = sampler.choose(logits)
                yield token
                if number < limit:  # the logits after the last token are not needed
                    logits = context.read((token,))


def _unsupported(why: str) -> UsageError:
    return UsageError(EngineCode.ENGINE_MODEL_UNSUPPORTED, why)
