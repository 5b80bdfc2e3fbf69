"""The mutants are what they say, and a verifier that accepts one is found out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from regalia.core.errors import CoreCode, ParseError
from regalia_testing.mutation import (
    dropped,
    duplicated,
    every_flip,
    none_accepted,
    reordered,
    truncated,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


def mutants(found: Iterator[tuple[str, Any]]) -> list[Any]:
    return [mutant for _, mutant in found]


def test_every_flip_alters_each_byte_once() -> None:
    data = bytes(range(20))
    flips = mutants(every_flip(data))
    assert len(set(flips)) == len(data)
    for at, flip in enumerate(flips):
        assert [i for i in range(20) if flip[i] != data[i]] == [at]
        assert (flip[at] ^ data[at]).bit_count() == 1
    assert mutants(every_flip(data, start=3, end=5)) == flips[3:5]


def test_sequences() -> None:
    assert mutants(dropped("abc")) == [("b", "c"), ("a", "c"), ("a", "b")]
    assert mutants(duplicated("ab")) == [("a", "a", "b"), ("a", "b", "b")]
    assert mutants(reordered("abc")) == [("b", "a", "c"), ("c", "b", "a"), ("a", "c", "b")]
    assert mutants(reordered("aa")) == []
    assert mutants(truncated(b"ab")) == [b"", b"a", b"ab\x00"]


def test_acceptance_and_emptiness_are_failures() -> None:
    def refuse_all_but_b(data: bytes) -> None:
        if data != b"b":
            raise ParseError(CoreCode.MALFORMED, "not b")

    assert none_accepted(refuse_all_but_b, [("x", b"a")]) == {"MALFORMED"}
    with pytest.raises(AssertionError, match="accepted with the b"):
        none_accepted(refuse_all_but_b, [("the a", b"a"), ("the b", b"b")])
    with pytest.raises(AssertionError, match="nothing to try"):
        none_accepted(refuse_all_but_b, [])
    with pytest.raises(ZeroDivisionError):
        none_accepted(lambda _: 1 // 0, [("x", b"a")])
