"""The interfaces of inference engines: tokens in, text out incrementally, or vectors out."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from array import array
    from collections.abc import Iterator, Mapping

    from regalia.core.weights import ModelFiles


# A temperature below this is greedy decoding: the probabilities of all tokens but the best vanish,
# and dividing by it would overflow.
GREEDY_BELOW = 1e-5


class Finish(StrEnum):
    """Reason why a generation ended, in OpenAI's terms."""

    STOP = "stop"  # an end-of-text token or a stop string
    LENGTH = "length"  # max_tokens or the context's length was reached


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a chat."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One generation. The prompt is already tokenized, so a bad prompt is refused beforehand.

    Attributes:
        tokens: the prompt, at least one token and fewer than the engine's context length.
        max_tokens: maximum number of new tokens, at least 1.
        stop: strings that end the answer and are not part of it.
        temperature: sampling temperature; 0 is greedy decoding.
        top_p: probability mass of nucleus sampling, 0 to 1.
        seed: seed that makes sampling repeatable on one machine; None uses fresh randomness.
    """

    tokens: tuple[int, ...]
    max_tokens: int
    stop: tuple[str, ...]
    temperature: float
    top_p: float
    seed: int | None


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts, for the answer and for billing."""

    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class TextDelta:
    """A piece of the answer. Only the last one has ``finish`` and ``usage``.

    ``text`` may be empty, which gives the caller an opportunity to stop the generation.
    """

    text: str
    finish: Finish | None = None
    usage: Usage | None = None


class ReadsText(Protocol):
    """What both kinds of engines have: a name, bounds, and a tokenizer.

    Tokenizing may run in several threads at once. The model itself is used from one thread only.
    """

    @property
    def model_name(self) -> str:
        """Name that the model is served under."""

    @property
    def context_length(self) -> int:
        """Maximum number of tokens that the model reads: prompt and answer together."""

    @property
    def interleaves(self) -> bool:
        """Whether the steps of several requests may alternate.

        An engine that keeps in one place what it has read answers False; then a request ends
        before the next begins.
        """

    def encode_text(self, text: str) -> tuple[int, ...]:
        """Tokenize a plain prompt. Raises UsageError PROMPT_UNUSABLE or PROMPT_TOO_LONG."""

    def check_tokens(self, tokens: tuple[int, ...]) -> tuple[int, ...]:
        """Check that the model knows the tokens. Raises UsageError PROMPT_UNUSABLE."""


class Engine(ReadsText, Protocol):
    """A language model that is ready to run. Generations are used from one thread only."""

    def encode_chat(self, messages: tuple[Message, ...]) -> tuple[int, ...]:
        """Render and tokenize a chat by the model's template.

        Raises:
            UsageError: PROMPT_UNUSABLE or PROMPT_TOO_LONG.
        """

    def generate(self, request: GenerationRequest) -> Iterator[TextDelta]:
        """Generate an answer. Closing the iterator stops the work and discards its state.

        Raises:
            UsageError: PROMPT_TOO_LONG, before the first delta.
        """


@runtime_checkable
class Embedder(ReadsText, Protocol):
    """A model that turns texts into vectors and is ready to run, from one thread only."""

    @property
    def dimensions(self) -> int:
        """Number of components of each vector."""

    def embed(self, inputs: tuple[tuple[int, ...], ...]) -> Iterator[array[float]]:
        """Compute one vector of 32-bit floats (typecode ``f``) for each input, in their order.

        Each step computes one vector, so that others have their turn in between. Closing the
        iterator stops the work.

        Args:
            inputs: tokens of each text, from ``encode_text`` or ``check_tokens``.

        Raises:
            UsageError: PROMPT_TOO_LONG, before the first vector.
        """


# What a plug-in of the group ``regalia.engines`` builds. A runtime serves the routes of its kind.
ServedModel = Engine | Embedder


@runtime_checkable
class ChecksOptions(Protocol):
    """What a plug-in has as well if it can refuse before there is a key and a model."""

    def check(self, options: Mapping[str, object]) -> None:
        """Check the options, and that the engine's libraries are installed. Raises UsageError."""


@runtime_checkable
class MergesAdapters(Protocol):
    """What a plug-in has as well if it can merge a LoRA adapter into its model."""

    def with_adapter(
        self,
        files: ModelFiles,
        adapter: ModelFiles,
        *,
        model_name: str,
        options: Mapping[str, object],
    ) -> ServedModel:
        """Build an engine as ``BuildEngine`` does, on weights that the adapter has changed.

        Args:
            files: the model's plaintext files in locked memory, which is written to.
            adapter: the adapter's plaintext files in locked memory; not used after the return.
            model_name: name that the model is served under.
            options: ``[engine.options]`` of the configuration, not validated.

        Raises:
            As ``BuildEngine``, and
            IntegrityError: ENGINE_ADAPTER_MISFIT.
            UsageError: ENGINE_ADAPTER_UNSUPPORTED.
        """


class BuildEngine(Protocol):
    """A plug-in of the group ``regalia.engines``."""

    def __call__(
        self, files: ModelFiles, *, model_name: str, options: Mapping[str, object]
    ) -> ServedModel:
        """Build an engine that uses the files' memory, and is valid until that memory is wiped.

        Args:
            files: the model's plaintext files in locked memory.
            model_name: name that the model is served under.
            options: ``[engine.options]`` of the configuration, not validated.

        Raises:
            ParseError: a file of the model is malformed.
            IntegrityError: ENGINE_MODEL_INCOMPLETE.
            UsageError: the model or an option is not supported.
        """
