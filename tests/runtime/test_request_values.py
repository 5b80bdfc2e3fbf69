"""The values of a body are counted before it is decoded, whatever it looks like."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regalia.runtime.openai.errors import ApiError
from regalia.runtime.openai.schema import VALUES_MAX, ChatRequest, count_values, parse_request

_LEAF = st.none() | st.booleans() | st.integers() | st.text(st.sampled_from('a",[{\\'), max_size=6)
_JSON = st.recursive(
    _LEAF,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=20,
)


def members(value: Any) -> int:  # noqa: ANN401 - any JSON
    """Values inside of others."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return sum(1 + members(each) for each in inner)


@given(_JSON)
def test_no_document_has_more_values_than_are_counted(value: Any) -> None:  # noqa: ANN401
    for text in (
        json.dumps(value),
        json.dumps(value, indent=1),
        json.dumps(value, ensure_ascii=False),
    ):
        assert count_values(text.encode()) >= members(value)


@pytest.mark.parametrize(
    "body",
    [
        b"[" + b"[]," * VALUES_MAX + b"[]]",  # no quote in it
        b"[" + b"{}," * VALUES_MAX + b"{}]",
        b"[" + b"0," * VALUES_MAX + b"0]",
        b"[" * (VALUES_MAX + 1),
        b'{"messages":[' + b"[]," * VALUES_MAX + b"[]]}",
        b'{"messages":[' + b'"",' * VALUES_MAX + b'""]}',
        b'{"a":"' + b'\\"' * 9 + b'","messages":[' + b"[]," * VALUES_MAX + b"[]]}",
    ],
    ids=["lists", "objects", "numbers", "deep", "inside", "texts", "quotes in text"],
)
def test_too_many_values_are_refused_before_they_are_decoded(
    body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("msgspec.json.decode", lambda _: pytest.fail("decoded"))
    with pytest.raises(ApiError) as caught:
        parse_request(body, ChatRequest)
    assert b"more than 65536 lists and values" in caught.value.encode()
