"""An embedder on onnxruntime. Implements ``engines.base.Embedder``."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Any

from regalia.core.errors import UsageError
from regalia.engines.codes import EngineCode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regalia.engines.onnx.pooling import Pooling
    from regalia.engines.onnx.session import Session

_LONGEST_MIN = 32  # characters that a token may stand for: some tokenizers drop white space
_TRIAL = 2  # tokens


class OnnxEmbedder:
    """One vector for each text, computed one text at a time.

    Texts are not padded to a common length, so a text has the same vector in every batch.
    """

    interleaves = True  # nothing is kept from one text to the next

    def __init__(  # noqa: PLR0913 - each is one property of the engine
        self,
        session: Session,
        tokenizer: Any,  # noqa: ANN401 - untyped library
        pooling: Pooling | None,
        *,
        model_name: str,
        context_length: int,
        vocabulary: int,
    ) -> None:
        """Try the model out. Raises UsageError ENGINE_MODEL_UNSUPPORTED."""
        self._session = session
        self._tokenizer = tokenizer
        self._pooling = pooling
        self._name = model_name
        self._context = context_length
        self._vocabulary = vocabulary
        self._longest = max([_LONGEST_MIN, *map(len, tokenizer.get_vocab())])
        if pooling is None and not session.whole_text:
            raise _unsupported(
                'nothing says how vectors of tokens become one; set pooling = "mean" or "cls" in'
                " [engine.options]"
            )
        self._dimensions = self._try_out()

    def _try_out(self) -> int:
        import numpy as np

        tokens = tuple(number % self._vocabulary for number in range(_TRIAL))[: self._context]
        try:
            vector = self._vector(tokens)
        except Exception as exc:  # the library has one class for each of its status codes
            raise _unsupported(f"a trial ended with {type(exc).__name__}") from exc
        if vector.ndim != 1 or not vector.size or not np.isfinite(vector).all():
            raise _unsupported("a trial gave no vector of finite numbers")
        return int(vector.size)

    @property
    def model_name(self) -> str:
        """Name that the model is served under."""
        return self._name

    @property
    def context_length(self) -> int:
        """Maximum number of tokens of one text."""
        return self._context

    @property
    def dimensions(self) -> int:
        """Number of components of each vector."""
        return self._dimensions

    def encode_text(self, text: str) -> tuple[int, ...]:
        """Tokenize a text; see ``engines.base.ReadsText``.

        Raises:
            UsageError: PROMPT_UNUSABLE or PROMPT_TOO_LONG.
        """
        room = self._context * self._longest
        if len(text) > room:  # counting costs much less than tokenizing
            raise _too_long(f"{len(text)} characters; {self._context} tokens hold {room} at most")
        # Of the library's functions only those for batches let other threads run meanwhile.
        (encoded,) = self._tokenizer.encode_batch_fast([text], add_special_tokens=True)
        if len(encoded) > self._context:
            raise _too_long(f"{len(encoded)} tokens in a context of {self._context}")
        return self.check_tokens(tuple(encoded.ids))

    def check_tokens(self, tokens: tuple[int, ...]) -> tuple[int, ...]:
        """Check that the model knows the tokens. Raises UsageError PROMPT_UNUSABLE."""
        if not tokens or not all(0 <= token < self._vocabulary for token in tokens):
            raise UsageError(
                EngineCode.PROMPT_UNUSABLE, "the input is empty or has tokens out of range"
            )
        return tokens

    def embed(self, inputs: tuple[tuple[int, ...], ...]) -> Iterator[array[float]]:
        """Compute one vector for each input; see ``engines.base.Embedder``.

        Raises:
            UsageError: PROMPT_TOO_LONG.
        """
        # Not a generator itself: it must raise when it is called, before the first vector.
        longest = max(map(len, inputs), default=0)
        if longest > self._context:
            raise _too_long(f"{longest} tokens in a context of {self._context}")
        return self._vectors(inputs)

    def _vectors(self, inputs: tuple[tuple[int, ...], ...]) -> Iterator[array[float]]:
        import numpy as np

        for tokens in inputs:
            yield array("f", self._vector(tokens).astype(np.float32).tobytes())

    def _vector(self, tokens: tuple[int, ...]) -> Any:  # noqa: ANN401 - numpy comes late
        output = self._session.run(tokens)
        if self._pooling is None:
            return output
        if self._session.whole_text:
            return self._pooling.scaled(output)
        return self._pooling.apply(output)


def _too_long(what: str) -> UsageError:
    return UsageError(EngineCode.PROMPT_TOO_LONG, what)


def _unsupported(what: str) -> UsageError:
    return UsageError(EngineCode.ENGINE_MODEL_UNSUPPORTED, what)
