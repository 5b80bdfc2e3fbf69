from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regalia.core.errors import ParseError
from regalia.core.types import Digest, KeyFingerprint, ModelId, PolicyId

KINDS = [Digest, ModelId, PolicyId, KeyFingerprint]


@given(st.sampled_from(KINDS), st.binary(min_size=32, max_size=32))
def test_text_form_round_trips(kind: type[Digest], raw: bytes) -> None:
    assert kind.parse(str(kind(raw))) == kind(raw)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "00" * 32,
        "model:" + "00" * 31,
        "model:" + "00" * 33,
        "model:" + "0G" * 32,
        "policy:" + "00" * 32,
        "model:" + "AA" * 32,
        ":model:" + "00" * 32,
    ],
)
def test_a_model_id_has_one_spelling(text: str) -> None:
    with pytest.raises(ParseError):
        ModelId.parse(text)


@given(st.binary(max_size=80).filter(lambda raw: len(raw) != 32))
def test_the_size_is_exact(raw: bytes) -> None:
    with pytest.raises(ParseError):
        ModelId(raw)


def test_ids_of_different_kinds_are_never_equal() -> None:
    assert ModelId(bytes(32)) != PolicyId(bytes(32))
