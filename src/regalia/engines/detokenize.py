"""Converts tokens to text incrementally, without partial characters or partial stop strings."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# Tokens of the prompt to decode together with the first new ones: decoders drop the leading space
# of a text's first token, so the answer must not look like the start of a text.
_CONTEXT = 6
_REPLACEMENT = "\ufffd"


class Detokenizer:
    """Decodes tokens one at a time.

    A byte-level token may end inside a UTF-8 sequence, so text that ends with U+FFFD is held back
    until the next token may have completed the character. For byte-level vocabularies, the
    concatenation of all pieces and of ``flush`` equals the decoding of all tokens at once, but for
    an incomplete character at the very end.
    """

    def __init__(self, decode: Callable[[list[int]], str], prompt: Sequence[int]) -> None:
        self._decode = decode
        self._ids = list(prompt[-_CONTEXT:])
        self._begin = 0  # first token of the window that is decoded every time
        self._shown = len(self._ids)  # number of tokens whose text was returned

    def _pending(self) -> str:
        before = self._decode(self._ids[self._begin : self._shown])
        return self._decode(self._ids[self._begin :])[len(before) :]

    def push(self, token: int) -> str:
        """Add a token, and return the text that is now complete, possibly none."""
        self._ids.append(token)
        text = self._pending()
        if not text or text.endswith(_REPLACEMENT):
            return ""
        # Keep only the tokens just shown as context of the next ones, so that the cost of a token
        # does not grow with the length of the answer.
        del self._ids[: self._shown]
        self._begin, self._shown = 0, len(self._ids)
        return text

    def flush(self) -> str:
        """Return the rest of the text, without a character that was begun and not completed."""
        return self._pending().rstrip(_REPLACEMENT)


class StopScanner:
    """Truncates a text at the first complete stop string, however the text is divided.

    If two stop strings end at the same position, the longer one counts. The end of the text is
    held back while it may be the start of a stop string.
    """

    def __init__(self, stop: tuple[str, ...]) -> None:
        self._stop = tuple(text for text in stop if text)
        self._held = ""

    def push(self, text: str) -> tuple[str, bool]:
        """Add text, and return the text to show, and whether a stop string was found."""
        whole = self._held + text
        found = [(at + len(stop), at) for stop in self._stop if (at := whole.find(stop)) >= 0]
        if found:
            _, cut = min(found)
            self._held = ""
            return whole[:cut], True
        keep = self._tail(whole)
        self._held = whole[len(whole) - keep :]
        return whole[: len(whole) - keep], False

    def _tail(self, whole: str) -> int:
        longest = 0
        for stop in self._stop:
            for size in range(min(len(stop) - 1, len(whole)), longest, -1):
                if whole.endswith(stop[:size]):
                    longest = size
                    break
        return longest

    def flush(self) -> str:
        """Return the text that was held back, which turned out not to be a stop string."""
        held, self._held = self._held, ""
        return held
