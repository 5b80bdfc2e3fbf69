"""Control tokens in messages are found by searches of bounded length, and stay text."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regalia.core.errors import UsageError
from regalia.engines import quoting
from regalia.engines.quoting import ControlTokens, Quoted

TOKENS = ["<|a|>", "<|ab|>", "<|", "|>x", "["]
_TEXT = st.text(st.sampled_from("<|ab>x[\U000f0000\U000f0001"), max_size=60)


@given(_TEXT, st.integers(1, 9))
def test_windows_find_what_one_search_does(text: str, window: int) -> None:
    longest_first = sorted(TOKENS, key=len, reverse=True)
    whole = [m.span() for m in re.finditer("|".join(map(re.escape, longest_first)), text)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quoting, "_WINDOW", window)
        assert list(ControlTokens(TOKENS).find(text)) == whole


@given(st.lists(_TEXT, max_size=3), st.integers(1, 9))
def test_pieces_are_the_text_with_each_token_in_two(texts: list[str], window: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quoting, "_WINDOW", window)
        quoted = Quoted(ControlTokens(["<|a|>", "["]), texts, most=1000)
        assert not any("<|a|>" in text or "[" in text for text in quoted.texts)
        pieces = list(quoted.pieces("-".join(quoted.texts)))
    assert "".join(pieces) == "-".join(texts)
    assert "<|a|>" not in pieces


RESERVED = [f">>RESERVED_{number}<<" for number in range(1900)]


@given(st.lists(st.text(st.sampled_from("ab>"), min_size=1, max_size=5), max_size=9), _TEXT)
def test_a_pattern_of_many_texts_finds_the_longest(texts: list[str], text: str) -> None:
    text = text.replace("x", ">")
    longest_first = sorted(texts, key=len, reverse=True)
    whole = re.compile("|".join(map(re.escape, longest_first)))
    found = [match.span() for match in whole.finditer(text)] if texts else []
    assert list(ControlTokens(texts).find(text)) == found


def test_many_tokens_that_begin_alike_are_compared_once() -> None:
    """As alternatives, each of them was tried at each ``>`` of a prompt."""
    controls = ControlTokens([*RESERVED, ">", "<|im_end|>"])
    assert controls._pattern.pattern.count("RESERVED") == 1
    text = "x>>RESERVED_12<<y>>RESERVED_1899<<>"
    assert [text[a:b] for a, b in controls.find(text)] == [RESERVED[12], RESERVED[1899], ">"]


def test_tokens_that_nest_without_end_are_no_model_to_serve() -> None:
    with pytest.raises(UsageError, match="ENGINE_MODEL_UNSUPPORTED"):
        ControlTokens(["a" * length for length in range(1, 3000)])


class Spy:
    """A pattern that records how much of a text each search looks at."""

    def __init__(self, pattern: re.Pattern[str]) -> None:
        self.pattern = pattern
        self.longest = 0

    def _look(self, text: str, begin: int, end: int) -> None:
        self.longest = max(self.longest, min(end, len(text)) - begin)

    def search(self, text: str, begin: int, end: int) -> re.Match[str] | None:
        self._look(text, begin, end)
        return self.pattern.search(text, begin, end)

    def findall(self, text: str, begin: int, end: int) -> list[Any]:
        self._look(text, begin, end)
        return self.pattern.findall(text, begin, end)


def test_no_search_is_long_and_none_has_a_pattern_that_grows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One search stops every thread, so nobody else may choose how long it takes.

    Stand-ins were once searched as a set of as many characters as there were, one by one for each
    character of the text: a request of 4 MiB stopped a runtime for minutes.
    """
    spy = Spy(quoting._PRIVATE_USE)
    monkeypatch.setattr(quoting, "_PRIVATE_USE", spy)
    compiled: list[str] = []
    compile_ = re.compile
    monkeypatch.setattr(
        re, "compile", lambda text, *more: compiled.append(text) or compile_(text, *more)
    )
    monkeypatch.setattr(re, "split", lambda *_: pytest.fail("a search of its own"))
    controls = ControlTokens(["<|im_end|>"])
    controls._pattern = controls_spy = Spy(controls._pattern)  # type: ignore[assignment] # a double
    text = "<|im_end|>" * 10_000 + "a" * 1_000_000
    quoted = Quoted(controls, [text], most=20_000)
    assert "".join(quoted.pieces(quoted.texts[0])) == text
    assert max(map(len, compiled)) < 100
    assert 60_000 < spy.longest <= quoting._WINDOW
    assert 60_000 < controls_spy.longest <= quoting._WINDOW + len("<|im_end|>")


def test_more_control_tokens_than_the_model_reads() -> None:
    controls = ControlTokens(["["])
    assert Quoted(controls, ["[" * 7], most=7).texts != ["[" * 7]
    with pytest.raises(UsageError, match="PROMPT_TOO_LONG"):
        Quoted(controls, ["[" * 8], most=7)


def test_more_control_tokens_than_stand_ins() -> None:
    everything = "".join(map(chr, range(0xF0000, 0xFFFFE)))
    with pytest.raises(UsageError, match="PROMPT_UNUSABLE"):
        Quoted(ControlTokens(["["]), [everything, "["], most=7)


def test_a_model_without_control_tokens() -> None:
    quoted = Quoted(ControlTokens([" ", ""]), ["a b"], most=1)
    assert list(quoted.pieces(quoted.texts[0])) == ["a b"]
