"""Turns a chat into tokens, whichever library tokenizes: no user speaks in another's name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from typing import TYPE_CHECKING

from regalia.core.errors import UsageError
from regalia.engines.chat_template import render_bounded
from regalia.engines.codes import EngineCode
from regalia.engines.quoting import Quoted

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from regalia.engines.base import Message
    from regalia.engines.quoting import ControlTokens

LONGEST_MIN = 32  # characters that a token may stand for: some tokenizers drop white space
_TOKENS_MAX = (1 << 31) - 1


def require_fit(count: int, most: int, *, before: int = 0) -> None:
    """Refuse a prompt by its number of tokens, before they are made numbers of Python's.

    Args:
        count: tokens of the next part.
        most: number of tokens that the model reads at most.
        before: tokens of the parts before.

    Raises:
        UsageError: PROMPT_TOO_LONG.
    """
    if before + count > most:
        raise UsageError(
            EngineCode.PROMPT_TOO_LONG,
            f"{before + count} tokens of prompt in a context of {most}",
        )


def some(ids: tuple[int, ...]) -> tuple[int, ...]:
    """The tokens, of which there must be one at least. Raises UsageError PROMPT_UNUSABLE."""
    if not ids:
        raise UsageError(EngineCode.PROMPT_UNUSABLE, "the prompt has no tokens")
    return ids


class ChatCodec(ABC):
    """Renders and tokenizes chats; what depends on a library is left to subclasses.

    Args:
        controls: texts of the tokens that structure a chat.
        longest: characters that one token may stand for.
        has_template: whether the model has a chat template.
    """

    def __init__(self, controls: ControlTokens, *, longest: int, has_template: bool) -> None:
        self._controls = controls
        self._longest = longest
        self._has_template = has_template

    @abstractmethod
    def _apply_template(self, turns: list[dict[str, str]]) -> str:
        """Render the template. May fail in every way that Python can."""

    @abstractmethod
    def _encode(self, pieces: Iterable[str], most: int) -> list[int]:
        """Tokenize pieces of a rendered text, each on its own. Raises UsageError."""

    @abstractmethod
    def _control_numbers(self, own: Counter[int]) -> Iterable[int]:
        """Numbers of tokens that structure a chat; ``own`` are those that its turns have empty."""

    @abstractmethod
    def encode_text(self, text: str, *, most: int) -> tuple[int, ...]:
        """Tokenize a plain prompt.

        Args:
            text: the prompt.
            most: number of tokens that the model reads at most.

        Raises:
            UsageError: PROMPT_UNUSABLE or PROMPT_TOO_LONG.
        """

    @abstractmethod
    def decode(self, ids: list[int]) -> str:
        """Text of tokens, without control tokens."""

    def encode_chat(self, messages: Sequence[Message], *, most: int) -> tuple[int, ...]:
        """Render the chat template, in jinja2's immutable sandbox, and tokenize the result.

        Args:
            messages: the conversation.
            most: number of tokens that the model reads at most.

        Raises:
            UsageError: PROMPT_UNUSABLE, there is no template or it refuses these messages; or
                PROMPT_TOO_LONG.
        """
        if not self._has_template:
            raise UsageError(EngineCode.PROMPT_UNUSABLE, "this model has no chat template")
        # Text of a message that reads like a control token, such as the one that ends a turn, must
        # stay text: otherwise a user could speak in the system's name. It gets a stand-in while
        # the template is rendered, and is then tokenized in two pieces.
        roles = [item.role for item in messages]
        self.require_room([item.content for item in messages], most)
        quoted = Quoted(self._controls, [item.content for item in messages], most=most)
        ids = self._encode(quoted.pieces(self._render(roles, quoted.texts)), most)
        self._refuse_forged(ids, roles, messages)
        return some(tuple(ids))

    def require_room(self, texts: Sequence[str], most: int) -> None:
        """Refuse what cannot fit by its length: tokenizing costs much more than counting.

        Args:
            texts: of the prompt.
            most: number of tokens that the model reads at most.

        Raises:
            UsageError: PROMPT_TOO_LONG.
        """
        length, room = sum(map(len, texts)), most * self._longest
        if length > room:
            raise UsageError(
                EngineCode.PROMPT_TOO_LONG,
                f"{length} characters of prompt; {most} tokens hold {room} at most",
            )

    def _render(self, roles: Sequence[str], texts: Sequence[str]) -> str:
        turns = [{"role": role, "content": text} for role, text in zip(roles, texts, strict=True)]
        return render_bounded(lambda: self._apply_template(turns))

    def _refuse_forged(
        self, ids: Sequence[int], roles: Sequence[str], messages: Sequence[Message]
    ) -> None:
        """Refuse more control tokens than the same turns have with nothing to say.

        Normalizers, templates that rewrite what they are given, and tokens that are made of others
        can make a control token of text in which none is found beforehand.
        """
        # A template may leave out a turn that is blank, and then its tokens too.
        empty = ["x" if item.content.strip() else item.content for item in messages]
        own = Counter(self._encode([self._render(roles, empty)], _TOKENS_MAX))
        seen = Counter(ids)
        for number in self._control_numbers(own):
            if seen[number] > own[number]:
                raise UsageError(
                    EngineCode.PROMPT_UNUSABLE,
                    "a message contains text that the tokenizer takes for a control token",
                )
