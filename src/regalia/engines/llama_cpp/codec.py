"""Chats and texts to tokens, by the tokenizer that the GGUF file brings."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from regalia.core.errors import UsageError
from regalia.engines.chat import LONGEST_MIN, ChatCodec, require_fit, some
from regalia.engines.chat_template import sandboxed
from regalia.engines.codes import EngineCode
from regalia.engines.quoting import ControlTokens

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterable, Iterator

    from regalia.engines.llama_cpp.native import Vocabulary

# Where llama.cpp splits texts with std::regex, which recurses for each character of a match, a run
# of a hundred thousand letters ends the process; ten thousand do not. These are the splitters
# (tokenizer.ggml.pre) that it has code of its own for.
WITHOUT_REGEX = frozenset(
    ("codeshell", "command-r", "dbrx", "exaone", "gpt-2", "kimi-k2", "llama-bpe", "llama-v3",
     "llama3", "mpt", "olmo", "phi-2", "qwen2", "refact", "smaug-bpe", "smollm", "starcoder")
)  # fmt: skip
RUN_MAX = 4096  # characters of one kind in a row, with other splitters
_RUN = re.compile(rf"\w{{{RUN_MAX}}}|\s{{{RUN_MAX}}}|[^\w\s]{{{RUN_MAX}}}")


class GgufCodec(ChatCodec):
    """Converts chats and texts to tokens, and tokens to text.

    Args:
        vocabulary: of the model.
        template: its chat template; None if it has none.
        splitter: ``tokenizer.ggml.pre``, which says how texts are split into words; None if the
            tokenizer does not split them.
    """

    def __init__(
        self, vocabulary: Vocabulary, *, template: str | None, splitter: str | None
    ) -> None:
        """Compile the template. Raises ParseError and UsageError."""
        self._vocabulary = vocabulary
        self._bounded = splitter is not None and splitter not in WITHOUT_REGEX
        text = vocabulary.text
        added = (text(number) for number in vocabulary.added)
        super().__init__(
            ControlTokens(
                [text(number) for number in vocabulary.special]
                + [word for word in added if word.strip() in (template or "")]
            ),
            longest=max([LONGEST_MIN, *map(len, vocabulary.texts)]),
            has_template=template is not None,
        )
        words = {"bos_token": text(vocabulary.bos), "eos_token": text(vocabulary.eos)}
        self._render_turns = sandboxed(template or "", words)

    def _apply_template(self, turns: list[dict[str, str]]) -> str:
        return self._render_turns(turns)

    def _encode(self, pieces: Iterable[str], most: int) -> list[int]:
        ids: list[int] = []
        for piece in pieces:
            if piece:
                ids += self._tokens(piece, most, before=len(ids), around=False)
        # llama.cpp adds the first token to a rendered chat, unless the template has done so.
        first = self._vocabulary.bos
        if self._vocabulary.adds_bos and ids[:1] != [first]:
            ids.insert(0, first)
        require_fit(len(ids), most)
        return ids

    def _tokens(self, text: str, most: int, *, before: int = 0, around: bool) -> list[int]:
        if self._bounded and _RUN.search(text):
            raise UsageError(
                EngineCode.PROMPT_UNUSABLE,
                f"more than {RUN_MAX} characters of one kind in a row, which this model's"
                " tokenizer cannot split",
            )
        count, ids = self._vocabulary.encode(text, most - before, around=around)
        require_fit(count, most, before=before)
        return ids

    def _control_numbers(self, own: Counter[int]) -> Iterator[int]:
        yield from self._vocabulary.special
        text = self._vocabulary.text
        yield from (item for item in self._vocabulary.added if item in own and text(item).strip())

    def encode_text(self, text: str, *, most: int) -> tuple[int, ...]:
        """Tokenize a text, and add the tokens that the model wants around it.

        Args:
            text: the prompt.
            most: number of tokens that the model reads at most.

        Raises:
            UsageError: PROMPT_UNUSABLE or PROMPT_TOO_LONG.
        """
        self.require_room([text], most)
        return some(tuple(self._tokens(text, most, around=True)))

    def decode(self, ids: list[int]) -> str:
        """Text of tokens, without control tokens."""
        return self._vocabulary.decode(ids)
