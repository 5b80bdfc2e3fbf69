"""Text of messages that reads like a control token stays text, whatever the chat template does.

Every search here looks at a bounded part of a text at a time. A search is one call of a library
that no other thread can interrupt, and texts come from strangers: one search through megabytes
that look like the beginnings of control tokens would stop a whole runtime, the watch over its
lease included.
"""

from __future__ import annotations

import re
from itertools import groupby
from typing import TYPE_CHECKING, Any

from regalia.core.errors import UsageError
from regalia.engines.codes import EngineCode

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_WINDOW = 1 << 16  # characters that one search looks at
_PLANE = range(0xF0000, 0xFFFFE)  # plane 15 of Unicode, for private use
_PRIVATE_USE = re.compile(f"[{chr(_PLANE[0])}-{chr(_PLANE[-1])}]")


class ControlTokens:
    """Finds the text of tokens that structure a chat: special ones, and the template's own."""

    def __init__(self, texts: Iterable[str]) -> None:
        """Search for these texts; where several begin at one place, for the longest.

        Raises:
            UsageError: ENGINE_MODEL_UNSUPPORTED, they begin like each other too often.
        """
        wanted = sorted({text for text in texts if text.strip()})
        self._longest = max(map(len, wanted), default=0)
        self._pattern = re.compile(_any_of(wanted))

    @classmethod
    def of(cls, backend: Any, template: str) -> ControlTokens:  # noqa: ANN401 - untyped library
        """Those of a tokenizer.

        Args:
            backend: the library's tokenizer.
            template: the chat template.
        """
        added = backend.get_added_tokens_decoder().values()
        return cls(
            token.content for token in added if token.special or token.content.strip() in template
        )

    def find(self, text: str) -> Iterator[tuple[int, int]]:
        """Begin and end of each in a text, from the left, as ``re.finditer`` has them."""
        return _search(self._pattern, self._longest, text) if self._longest else iter(())


def _any_of(texts: Sequence[str]) -> str:
    """A pattern of the longest of several texts. Where they begin alike, they are compared once.

    Some tokenizers have two thousand control tokens that begin alike. One alternative for each of
    them would be tried at each character of a text that does so, too.

    Args:
        texts: sorted, each once.
    """
    try:
        return _branch(texts, 0)
    except RecursionError:
        raise UsageError(
            EngineCode.ENGINE_MODEL_UNSUPPORTED, "control tokens that nest too deeply"
        ) from None


def _branch(texts: Sequence[str], at: int) -> str:
    """A pattern of what follows the first ``at`` characters, which all of them share."""
    ends = bool(texts) and len(texts[0]) == at
    found = []
    for _, group in groupby(texts[1:] if ends else texts, key=lambda text: text[at]):
        alike = list(group)
        shared = _shared(alike[0], alike[-1])  # by all, since they are sorted
        found.append(re.escape(alike[0][at:shared]) + _branch(alike, shared))
    if not found:
        return ""
    # Of texts that begin alike the longest is wanted, so a group is tried before it is left out.
    return f"(?:{'|'.join(found)}){'?' if ends else ''}"


def _shared(one: str, other: str) -> int:
    """Number of characters that two texts begin with alike."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))


def _search(pattern: re.Pattern[str], longest: int, text: str) -> Iterator[tuple[int, int]]:
    at = 0
    while at < len(text):
        end = at + _WINDOW
        # A match that begins in this window is seen whole.
        found = pattern.search(text, at, end + longest - 1)
        if found is None or found.start() >= end:
            at = end
            continue
        yield found.span()
        at = found.end()


def _unused(texts: Sequence[str]) -> Iterator[str]:
    """Characters for private use that are in none of the texts."""
    used: set[str] = set()
    for text in texts:
        for at in range(0, len(text), _WINDOW):
            used.update(_PRIVATE_USE.findall(text, at, at + _WINDOW))
    yield from (char for char in map(chr, _PLANE) if char not in used)


class Quoted:
    """Texts in which control tokens are replaced by stand-ins: characters that no text contains.

    Attributes:
        texts: with the stand-ins.
    """

    def __init__(self, controls: ControlTokens, texts: Sequence[str], *, most: int) -> None:
        """Replace all control tokens.

        Args:
            controls: what is replaced.
            texts: of the messages.
            most: number of tokens that the model reads at most. Each control token becomes one
                or more of them.

        Raises:
            UsageError: PROMPT_TOO_LONG, there are more control tokens than that; or
                PROMPT_UNUSABLE, there are more than stand-ins.
        """
        self._originals: dict[str, str] = {}  # by stand-in
        self._controls = controls
        self._unused = _unused(texts)
        self._most = most
        self.texts = ["".join(self._replaced(text)) for text in texts]

    def _replaced(self, text: str) -> Iterator[str]:
        done = 0
        for begin, end in self._controls.find(text):
            yield text[done:begin]
            yield self._stand_in(text[begin:end])
            done = end
        yield text[done:]

    def _stand_in(self, original: str) -> str:
        if len(self._originals) >= self._most:
            raise UsageError(
                EngineCode.PROMPT_TOO_LONG,
                f"more than {self._most} tokens of prompt in a context of {self._most}",
            )
        char = next(self._unused, None)
        if char is None:
            raise UsageError(EngineCode.PROMPT_UNUSABLE, "too many control tokens in messages")
        self._originals[char] = original
        return char

    def pieces(self, text: str) -> Iterator[str]:
        """Split a rendered text so that no piece joins its neighbor to a control token.

        Args:
            text: rendered from ``texts``.
        """
        done = 0
        for begin, end in _search(_PRIVATE_USE, 1, text) if self._originals else ():
            original = self._originals.get(text[begin:end])
            if original is not None:
                yield from (text[done:begin], original[:1], original[1:])
                done = end
        yield text[done:]
