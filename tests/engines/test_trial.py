"""Whether the steps of several generations may alternate is tried, and not assumed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch

from regalia.engines.transformers import build_engine, vocabulary_of
from regalia.engines.trial import try_out
from regalia_testing.models import FilesInMemory

if TYPE_CHECKING:
    from pathlib import Path


class Forgetful(torch.nn.Module):
    """A model that keeps a part of its state in itself: who reads next sees who read before."""

    def __init__(self, model: Any) -> None:  # noqa: ANN401 - untyped library
        super().__init__()
        self.model = model
        self.config = model.config
        self.last = 0.0

    def forward(self, input_ids: torch.Tensor, past_key_values: Any, use_cache: bool) -> Any:  # noqa: ANN401, FBT001
        logits = self.model(
            input_ids=input_ids, past_key_values=past_key_values, use_cache=use_cache
        ).logits
        logits = logits.float()
        logits[..., 0] += self.last / 1000
        self.last = float(input_ids[0, -1]) + 10 * past_key_values.get_seq_length()
        return SimpleNamespace(logits=logits)


def test_models_with_state_in_their_cache_may_alternate(tiny: Path) -> None:
    engine = build_engine(FilesInMemory.of(tiny), model_name="m", options={})
    model = engine._model
    assert engine.interleaves
    assert try_out(model, vocabulary_of(model)) is True
    assert try_out(Forgetful(model), vocabulary_of(model)) is False


def test_frequencies_that_depend_on_what_was_read_last_do_not_alternate(tiny: Path) -> None:
    engine = build_engine(FilesInMemory.of(tiny), model_name="m", options={})
    engine._model.model.rotary_emb.rope_type = "dynamic"
    assert try_out(engine._model, vocabulary_of(engine._model)) is False
