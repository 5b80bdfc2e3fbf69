"""From tokens to text as they come, without ever showing half a character or half a stop string."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_CONTEXT = 6  # tokens of the prompt that decoders may look back on (a leading space depends on it)
_REPLACEMENT = "\ufffd"


class Detokenizer:
    """Decodes one token after the other.

    A byte-level token may end inside a UTF-8 sequence. Text is held back while it ends with
    U+FFFD, because the next token may complete the character. Law, for byte-level vocabularies:
    the pieces joined, with ``flush``, are what decoding all tokens at once gives.
    """

    def __init__(self, decode: Callable[[list[int]], str], prompt: Sequence[int]) -> None:
        self._decode = decode
        self._ids = list(prompt[-_CONTEXT:])
        self._begin = 0  # first token of the window that is decoded again
        self._shown = len(self._ids)  # tokens whose text was handed out

    def _pending(self) -> str:
        before = self._decode(self._ids[self._begin : self._shown])
        return self._decode(self._ids[self._begin :])[len(before) :]

    def push(self, token: int) -> str:
        """Add a token; return the text that is now certain, maybe none."""
        self._ids.append(token)
        text = self._pending()
        if not text or text.endswith(_REPLACEMENT):
            return ""
        del self._ids[: self._shown]
        self._begin, self._shown = 0, len(self._ids)
        return text

    def flush(self) -> str:
        """The rest: a character that never was completed shows as U+FFFD."""
        return self._pending()


class StopScanner:
    """Cuts a text at the stop string that is complete first, however the text is split.

    Of two that end at the same place the longer one counts. A tail that may be the beginning of
    a stop string is held back.
    """

    def __init__(self, stop: tuple[str, ...]) -> None:
        self._stop = tuple(text for text in stop if text)
        self._held = ""

    def push(self, text: str) -> tuple[str, bool]:
        """Add text; return what may be shown, and whether a stop string was found."""
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
        """What was held back and turned out to be no stop string."""
        held, self._held = self._held, ""
        return held
