"""Chooses the next token from a model's logits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from regalia.engines.base import GREEDY_BELOW

if TYPE_CHECKING:
    from regalia.engines.base import GenerationRequest


class Sampler:
    """Greedy decoding, or temperature and nucleus sampling with its own random generator."""

    def __init__(self, request: GenerationRequest) -> None:
        self._temperature = request.temperature
        self._top_p = request.top_p
        self._random = torch.Generator(device="cpu")
        if request.seed is None:
            self._random.seed()
        else:
            self._random.manual_seed(request.seed)

    def choose(self, logits: torch.Tensor) -> int:
        """Choose a token from the logits of one position, a vector of the vocabulary's size."""
        if self._temperature < GREEDY_BELOW:
            return int(logits.argmax())
        chances = torch.softmax(logits.float() / self._temperature, dim=-1)
        if self._top_p < 1:
            ordered, order = chances.sort(descending=True)
            # Keep a token if the probabilities before it sum up to less than top_p. The first one
            # is always kept.
            beyond = ordered.cumsum(-1) - ordered >= self._top_p
            beyond[0] = False
            ordered[beyond] = 0
            chances = torch.zeros_like(chances).scatter_(0, order, ordered)
        return int(torch.multinomial(chances, 1, generator=self._random))
