"""The engine on llama.cpp. Implements ``engines.base.Engine``."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

from regalia.core.errors import UnavailableError, UsageError
from regalia.engines.codes import EngineCode
from regalia.engines.language_model import LanguageModel

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from regalia.engines.base import GenerationRequest
    from regalia.engines.llama_cpp.codec import GgufCodec
    from regalia.engines.llama_cpp.native import Context, Model
    from regalia.engines.llama_cpp.sampling import Sampler


class LlamaCppEngine(LanguageModel[Any]):
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
        super().__init__(
            codec,
            model_name=model_name,
            context_length=context_length,
            vocabulary=model.vocabulary.size,
            ends=model.vocabulary.ends,
            prefill_step=prefill_step,
        )
        self._model = model
        self._threads = threads

    def try_out(self) -> None:
        """Read one token. Raises UsageError ENGINE_MODEL_UNSUPPORTED."""
        import numpy as np

        try:
            with self._reader(1) as context:
                logits = context.read((0,))
        except (RuntimeError, UnavailableError) as exc:
            raise _unsupported(f"a trial ended with {exc}") from exc
        if not np.isfinite(logits).all():
            raise _unsupported("a trial gave numbers that are not finite")

    def _reader(self, length: int) -> AbstractContextManager[Context]:
        step, threads = self._prefill_step, self._threads
        return closing(self._model.context(length, step=step, threads=threads))

    def _sampler(self, request: GenerationRequest) -> Sampler:
        from regalia.engines.llama_cpp.sampling import Sampler

        return Sampler(request)


def _unsupported(why: str) -> UsageError:
    return UsageError(EngineCode.ENGINE_MODEL_UNSUPPORTED, why)
