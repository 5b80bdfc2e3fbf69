"""Which texts vLLM's tokenizer reads as control tokens, and how they are found in messages."""

from __future__ import annotations

import json
import unicodedata
from typing import TYPE_CHECKING, Any

from regalia.core.errors import CoreCode, ParseError, UsageError
from regalia.engines.chat_template import CHAT_TEMPLATE, TOKENIZER_CONFIG
from regalia.engines.codes import EngineCode
from regalia.engines.model_files import read_object, read_text
from regalia.engines.quoting import ControlTokens
from regalia.engines.tokenizer import SPECIAL_TOKENS_MAP, TOKENIZER, TOKENIZER_MAX

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from regalia.core.weights import ModelFiles

_TEMPLATE_JSON = "chat_template.json"
_TEKKEN = "tekken.json"  # the tokenizer of Mistral's own library
# Normalizers of the tokenizers library that only add or replace spaces.
_SPACES = frozenset(("Prepend", "Replace", "Sequence"))
_DROPPED = frozenset(("Mn", "Cc", "Cf", "Zs"))  # categories that normalizers remove


class Controls:
    """Finds control tokens in texts that a tokenizer will read.

    Args:
        texts: the tokens.
        folded: whether the tokenizer compares them after it has normalized what it reads.
    """

    def __init__(self, texts: Iterable[str], *, folded: bool = False) -> None:
        found = frozenset(texts)
        self.texts = found
        self._exact = ControlTokens(found)
        self._folded = ControlTokens(map(fold, found)) if folded else None

    @classmethod
    def of(cls, files: ModelFiles) -> Controls:
        """Those of a model.

        Args:
            files: the model's files that are not weights.

        Raises:
            ParseError: a file of the tokenizer is malformed.
            UsageError: ENGINE_NEEDS_FAST_TOKENIZER, or ENGINE_MODEL_UNSUPPORTED: control tokens
                cannot be found.
        """
        tokenizer = _read_large(files, TOKENIZER)
        tekken = _read_large(files, _TEKKEN)
        if tokenizer is None and tekken is None:
            # Other files do not say which of their tokens are control tokens.
            raise UsageError(EngineCode.ENGINE_NEEDS_FAST_TOKENIZER, f"there is no {TOKENIZER}")
        settings = read_object(files, TOKENIZER_CONFIG) or {}
        added = [*_objects((tokenizer or {}).get("added_tokens"))]
        decoder = settings.get("added_tokens_decoder")
        added += _objects([*decoder.values()] if isinstance(decoder, dict) else [])
        named = {*_named(settings), *_named(read_object(files, SPECIAL_TOKENS_MAP) or {})}
        named |= {
            token["token_str"]
            for token in _objects((tekken or {}).get("special_tokens"))
            if isinstance(token.get("token_str"), str)
        }
        template = _templates(files, settings)
        chosen = [token for token in added if _structures(token, template)]
        texts = named | {token["content"] for token in chosen}
        return cls(
            {text for text in texts if text.strip()},
            folded=any(token.get("normalized") for token in chosen)
            and _changes_letters((tokenizer or {}).get("normalizer")),
        )

    def within(self, text: str) -> bool:
        """Whether one of them is in a text."""
        if next(self._exact.find(text), None) is not None:
            return True
        return self._folded is not None and next(self._folded.find(fold(text)), None) is not None


def fold(text: str) -> str:
    """A text as far as normalizers could take it: no case, accents, spaces or control characters.

    What a tokenizer's own normalizer makes equal is equal here, and more than that.
    """
    folded = unicodedata.normalize("NFKD", text).lower()
    return "".join(char for char in folded if unicodedata.category(char) not in _DROPPED)


def _structures(token: Mapping[str, Any], template: str) -> bool:
    """Whether a token is special, or the chat template writes it."""
    text = token.get("content")
    if not isinstance(text, str) or not text.strip():
        return False
    return bool(token.get("special")) or text.strip() in template


def _named(settings: Mapping[str, Any]) -> Iterator[str]:
    """Texts of the tokens that settings name: one each, lists, or names and tokens."""
    for name, value in settings.items():
        if name.endswith("_token"):
            yield from _texts([value])
        elif name in ("additional_special_tokens", "extra_special_tokens"):
            yield from _texts([*value.values()] if isinstance(value, dict) else value)


def _texts(tokens: object) -> Iterator[str]:
    for token in tokens if isinstance(tokens, list) else ():
        text = token.get("content") if isinstance(token, dict) else token
        if isinstance(text, str):
            yield text


def _objects(value: object) -> list[dict[str, Any]]:
    items = value if isinstance(value, list) else []
    return [item for item in items if isinstance(item, dict)]


def _changes_letters(normalizer: object) -> bool:
    """Whether a normalizer does more than with spaces."""
    if normalizer is None:
        return False
    if not isinstance(normalizer, dict) or normalizer.get("type") not in _SPACES:
        return True
    return any(_changes_letters(part) for part in _objects(normalizer.get("normalizers")))


def _templates(files: ModelFiles, settings: Mapping[str, Any]) -> str:
    """All chat templates in one text, in which only what stands there matters."""
    own = [read_text(files, name) or "" for name in (CHAT_TEMPLATE, _TEMPLATE_JSON)]
    inner: list[str] = []
    pending: list[object] = [settings.get("chat_template")]
    while pending:
        item = pending.pop()
        if isinstance(item, str):
            inner.append(item)
        elif isinstance(item, list):
            pending += item
        elif isinstance(item, dict):
            pending += item.values()
    return "\n".join([*own, *inner])


def _read_large(files: ModelFiles, path: str) -> dict[str, Any] | None:
    """A file that is larger than the model's other JSON files. Raises ParseError.

    Args:
        files: the model's files.
        path: of the file.
    """
    text = read_text(files, path, limit=TOKENIZER_MAX)
    if text is None:
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise ParseError(CoreCode.MALFORMED, f"{path}: not JSON: {exc}") from exc
    if not isinstance(value, dict):
        raise ParseError(CoreCode.MALFORMED, f"{path}: not a JSON object")
    return value
