"""Text comes out in whole characters, and stop strings never come out at all."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import example, given, settings
from hypothesis import strategies as st

from regalia.engines.detokenize import Detokenizer, StopScanner


def decode(ids: list[int]) -> str:
    """A vocabulary of single bytes: 256 and above are special and give no text."""
    return bytes(item for item in ids if item < 256).decode("utf-8", "replace")


def stream(tokens: list[int], prompt: list[int]) -> list[str]:
    text = Detokenizer(decode, prompt)
    return [*(text.push(token) for token in tokens), text.flush()]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 257), max_size=40), st.lists(st.integers(0, 127), max_size=9))
@example([0xF0, 0x9F, 0x98, 0x80], [])
@example([0xE2, 0x82, 0x41], [0x20])
def test_pieces_join_to_the_whole(tokens: list[int], prompt: list[int]) -> None:
    assert "".join(stream(tokens, prompt)) == decode(tokens).rstrip("\ufffd")


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=20))
def test_no_piece_of_valid_text_is_half_a_character(text: str) -> None:
    clean = text.encode("utf-8", "surrogatepass").decode("utf-8", "ignore").replace("\ufffd", "")
    pieces = stream(list(clean.encode()), [])
    assert "".join(pieces) == clean
    assert not any("\ufffd" in piece for piece in pieces)


def test_a_character_comes_with_its_last_byte() -> None:
    assert stream(list("é€😀".encode()), []) == ["", "é", "", "", "€", "", "", "", "😀", ""]


def test_an_unfinished_character_at_the_end_is_not_shown() -> None:
    assert stream([0x41, 0xE2, 0x82], []) == ["A", "", "", ""]
    assert stream([0x41, 0xE2, 0x42], []) == ["A", "", "\ufffdB", ""]


def test_special_tokens_give_no_text() -> None:
    assert stream([0x41, 256, 0x42], []) == ["A", "", "B", ""]


def test_the_prompt_lends_its_context() -> None:
    # Decoders of the SentencePiece kind drop a leading space only at the very beginning.
    def metaspace(ids: list[int]) -> str:
        return "".join(f" w{item}" for item in ids).removeprefix(" ")

    text = Detokenizer(metaspace, [1, 2])
    assert [text.push(3), text.push(4)] == [" w3", " w4"]


def scan(pieces: list[str], stop: tuple[str, ...]) -> tuple[str, bool]:
    scanner = StopScanner(stop)
    shown = ""
    for piece in pieces:
        text, stopped = scanner.push(piece)
        shown += text
        if stopped:
            return shown, True
    return shown + scanner.flush(), False


_ALPHABET = st.text("abc", max_size=12)


@settings(max_examples=300, deadline=None)
@given(
    _ALPHABET,
    st.lists(st.text("abc", min_size=1, max_size=4), max_size=3),
    st.lists(st.integers(0, 12), max_size=6),
)
@example("xabc", ["abc", "b"], [1, 2, 3])
def test_however_the_text_is_split(text: str, stop: list[str], cuts: list[int]) -> None:
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    pieces = [text[a:b] for a, b in pairwise(places)]
    shown, stopped = scan(pieces, tuple(stop))
    assert (shown, stopped) == scan(list(text), tuple(stop))
    assert stopped == any(item in text for item in stop)
    assert text.startswith(shown)
    assert not any(item in shown for item in stop)
    if not stopped:
        assert shown == text


def test_the_first_complete_one_counts() -> None:
    assert scan(["xabcd"], ("abcd", "bc")) == ("xa", True)
    assert scan(["xabc"], ("bc", "abc")) == ("x", True)
    assert scan(["EN", "D."], ("END",)) == ("", True)
    assert scan(["EN", "E"], ("END",)) == ("ENE", False)


def test_text_before_a_possible_stop_is_not_held_back() -> None:
    scanner = StopScanner(("STOP",))
    assert scanner.push("hello ST") == ("hello ", False)
    assert scanner.push("AR") == ("STAR", False)
