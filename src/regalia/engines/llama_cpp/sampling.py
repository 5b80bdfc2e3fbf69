"""Chooses the next token from a model's logits, without torch. As ``engines.sampling`` does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from regalia.engines.base import GREEDY_BELOW

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from regalia.engines.base import GenerationRequest


class Sampler:
    """Greedy decoding, or temperature and nucleus sampling with its own random generator."""

    def __init__(self, request: GenerationRequest) -> None:
        self._temperature = request.temperature
        self._top_p = request.top_p
        self._random = np.random.default_rng(request.seed)  # None takes fresh randomness

    def choose(self, logits: NDArray[np.float32]) -> int:
        """Choose a token from the logits of one position, a vector of the vocabulary's size."""
        if self._temperature < GREEDY_BELOW:
            return int(logits.argmax())
        scaled = logits.astype(np.float64) / self._temperature
        chances = np.exp(scaled - scaled.max())
        chances /= chances.sum()
        if self._top_p < 1:
            order = np.argsort(-chances, kind="stable")
            ordered = chances[order]
            # Keep a token if the probabilities before it sum up to less than top_p. The first one
            # is always kept.
            beyond = ordered.cumsum() - ordered >= self._top_p
            beyond[0] = False
            chances[order[beyond]] = 0
            chances /= chances.sum()
        return int(self._random.choice(len(chances), p=chances))
