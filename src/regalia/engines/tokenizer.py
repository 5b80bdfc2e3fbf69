"""Builds a model's tokenizer and chat template from memory."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from regalia.core.codec import MIB, decimal
from regalia.core.errors import CoreCode, ParseError, UsageError
from regalia.engines.chat import LONGEST_MIN, ChatCodec, require_fit, some
from regalia.engines.chat_template import TOKENIZER_CONFIG, file_template
from regalia.engines.codes import EngineCode
from regalia.engines.model_files import read_object
from regalia.engines.quoting import ControlTokens

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterable, Iterator

    from regalia.core.weights import ModelFiles

TOKENIZER = "tokenizer.json"
SPECIAL_TOKENS_MAP = "special_tokens_map.json"
ADDED_TOKENS = "added_tokens.json"
_OTHER_TOKENIZERS = ("tokenizer.model", "spiece.model", "vocab.json", "vocab.txt", "merges.txt")
TOKENIZER_MAX = 256 * MIB  # bytes of tokenizer.json
TOKEN_NUMBER_MAX = (1 << 31) - 1

# The settings of tokenizer_config.json that are used; the others are for other loaders.
_SPECIAL = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token")
_FLAGS = ("add_bos_token", "add_eos_token")
_TOKEN_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")
_BATCH = 1024  # pieces of a prompt that are tokenized in one call


def refuse_remote_code(settings: dict[str, Any], path: str) -> None:
    """Refuse settings with ``auto_map``, which names Python files in the model to be executed.

    Args:
        settings: contents of one of the model's JSON files.
        path: path of that file for error messages.

    Raises:
        UsageError: ENGINE_MODEL_UNSUPPORTED.
    """
    if settings.get("auto_map"):
        raise UsageError(
            EngineCode.ENGINE_MODEL_UNSUPPORTED,
            f"{path}: auto_map asks for code of the model's own",
        )


def _token_text(value: object, path: str, name: str) -> str | None:
    if isinstance(value, dict):
        value = value.get("content")
    if value is not None and not isinstance(value, str):
        raise ParseError(CoreCode.MALFORMED, f"{path}: {name} is no text")
    return value


class TextCodec(ChatCodec):
    """Converts chats and texts to tokens, and tokens to text, as the model's files define it."""

    def __init__(self, tokenizer: Any, *, template: str | None) -> None:  # noqa: ANN401 - untyped library
        self._tokenizer = tokenizer
        self._backend = tokenizer.backend_tokenizer
        super().__init__(
            ControlTokens.of(self._backend, template or ""),
            # Of a vocabulary in bytes, each character of a token stands for one byte.
            longest=max([LONGEST_MIN, *map(len, self._backend.get_vocab())]),
            has_template=template is not None,
        )

    @property
    def eos_token_id(self) -> int | None:
        """The tokenizer's end-of-text token; None if it has none."""
        value = self._tokenizer.eos_token_id
        return value if isinstance(value, int) else None

    @property
    def size(self) -> int:
        """Number of tokens in the vocabulary."""
        return int(self._backend.get_vocab_size(with_added_tokens=True))

    def _apply_template(self, turns: list[dict[str, str]]) -> str:
        rendered: str = self._tokenizer.apply_chat_template(
            turns, tokenize=False, add_generation_prompt=True
        )
        return rendered

    def _encode(self, pieces: Iterable[str], most: int) -> list[int]:
        # The template has added special tokens itself. Of the library's functions only those for
        # batches let other threads run meanwhile.
        # Others have their turn after each batch.
        ids: list[int] = []
        left = iter(pieces)
        while batch := list(islice(left, _BATCH)):
            encoded = self._backend.encode_batch_fast(batch, add_special_tokens=False)
            require_fit(sum(map(len, encoded)), most, before=len(ids))
            ids += [number for piece in encoded for number in piece.ids]
        return ids

    def _control_numbers(self, own: Counter[int]) -> Iterator[int]:
        for number, token in self._backend.get_added_tokens_decoder().items():
            if token.special or (number in own and token.content.strip()):
                yield number

    def encode_text(self, text: str, *, most: int) -> tuple[int, ...]:
        """Tokenize a text, and add the tokenizer's special tokens around it.

        Args:
            text: the prompt.
            most: number of tokens that the model reads at most.

        Raises:
            UsageError: PROMPT_UNUSABLE or PROMPT_TOO_LONG.
        """
        self.require_room([text], most)
        encoded = self._backend.encode_batch_fast([text], add_special_tokens=True)
        require_fit(sum(map(len, encoded)), most)
        return some(tuple(encoded[0].ids))

    def decode(self, ids: list[int]) -> str:
        """Text of tokens, without control tokens."""
        return str(self._backend.decode(ids, skip_special_tokens=True))


def _refuse_unknown_tokenizer(settings: dict[str, Any]) -> None:
    """Refuse code of the model's own, unless the library has a class of the same name."""
    if settings.get("auto_map"):
        from transformers.models.auto.tokenization_auto import tokenizer_class_from_name

        name = settings.get("tokenizer_class")
        if not isinstance(name, str) or tokenizer_class_from_name(name) is None:
            refuse_remote_code(settings, TOKENIZER_CONFIG)


def _special_tokens(files: ModelFiles, settings: dict[str, Any]) -> dict[str, Any]:
    """Texts of the special tokens by their names, such as ``eos_token``."""
    found = {
        name: text
        for name in _SPECIAL
        if (text := _token_text(settings.get(name), TOKENIZER_CONFIG, name)) is not None
    }
    # Older checkpoints say it in a file of its own, which newer ones carry without using it.
    older = read_object(files, SPECIAL_TOKENS_MAP) or {}
    for name in _SPECIAL:
        text = _token_text(older.get(name), SPECIAL_TOKENS_MAP, name)
        if text is not None and (name not in found or "added_tokens_decoder" not in settings):
            found[name] = text
    return found


def _added_tokens(files: ModelFiles, settings: dict[str, Any]) -> dict[int, dict[str, Any]]:
    """Tokens that the settings add to the vocabulary, by number. Raises ParseError."""
    found: dict[int, dict[str, Any]] = {}
    given = settings.get("added_tokens_decoder")
    if given is None:
        older = read_object(files, ADDED_TOKENS) or {}
        given = {str(number): {"content": text} for text, number in older.items()}
    if not isinstance(given, dict):
        raise ParseError(CoreCode.MALFORMED, f"{TOKENIZER_CONFIG}: added_tokens_decoder is no map")
    for number, token in given.items():
        text = _token_text(token, TOKENIZER_CONFIG, "added_tokens_decoder")
        if not text:
            raise ParseError(CoreCode.MALFORMED, f"{TOKENIZER_CONFIG}: an added token has no text")
        what = f"{TOKENIZER_CONFIG}: number of an added token"
        flags = token if isinstance(token, dict) else {}
        found[decimal(number, what=what, maximum=TOKEN_NUMBER_MAX)] = {"content": text} | {
            name: bool(flags[name]) for name in _TOKEN_FLAGS if name in flags
        }
    return found


def build_codec(files: ModelFiles) -> TextCodec:
    """Build a codec from ``tokenizer.json``, its configuration and ``chat_template.jinja``.

    Raises:
        ParseError: a file is malformed.
        UsageError: ENGINE_MODEL_UNSUPPORTED, ENGINE_NEEDS_FAST_TOKENIZER or
            ENGINE_TOKENIZER_INCONSISTENT.
    """
    import tokenizers
    from transformers import AddedToken, PreTrainedTokenizerFast

    if TOKENIZER not in files.paths():
        found = [path for path in files.paths() if path in _OTHER_TOKENIZERS]
        what = f"the model has {', '.join(found) or 'no tokenizer'}, and no {TOKENIZER}"
        raise UsageError(EngineCode.ENGINE_NEEDS_FAST_TOKENIZER, what)
    view = files.view(TOKENIZER)
    if len(view) > TOKENIZER_MAX:
        raise ParseError(CoreCode.TOO_LARGE, f"{TOKENIZER}: {len(view)} bytes")
    settings = read_object(files, TOKENIZER_CONFIG) or {}
    _refuse_unknown_tokenizer(settings)
    template = file_template(files, settings)
    known = _special_tokens(files, settings)
    known |= {name: bool(settings[name]) for name in _FLAGS if settings.get(name) is not None}
    added = _added_tokens(files, settings)
    try:
        # The library accepts only ``bytes``, and keeps the vocabulary on its own heap. Besides
        # the small JSON files, this is the only file that is copied out of the locked memory.
        backend = tokenizers.Tokenizer.from_buffer(view.tobytes())
        backend.no_truncation()
        backend.no_padding()
        tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call] # untyped library
            tokenizer_object=backend,
            chat_template=template,
            added_tokens_decoder={number: AddedToken(**token) for number, token in added.items()},
            **known,
        )
    except Exception as exc:  # the Rust library raises bare Exception for a bad file
        raise ParseError(
            CoreCode.MALFORMED, f"{TOKENIZER} or {TOKENIZER_CONFIG} does not load"
        ) from exc
    for number, token in added.items():
        known_as = tokenizer.backend_tokenizer.token_to_id(token["content"])
        if known_as != number:
            raise UsageError(
                EngineCode.ENGINE_TOKENIZER_INCONSISTENT,
                f"{token['content'][:40]!r} is {number} in {TOKENIZER_CONFIG} or {ADDED_TOKENS},"
                f" and {known_as} with {TOKENIZER}",
            )
    return TextCodec(tokenizer, template=template)
