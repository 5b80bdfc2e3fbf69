"""The model's tokenizer and chat template, built from memory."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from regalia.core.codec import MIB
from regalia.core.errors import CoreCode, ParseError, UsageError
from regalia.engines.codes import EngineCode

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from regalia.core.weights import ModelFiles
    from regalia.engines.base import Message

TOKENIZER = "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
CHAT_TEMPLATE = "chat_template.jinja"
JSON_MAX = 4 * MIB  # bytes of config.json, tokenizer_config.json, a chat template
TOKENIZER_MAX = 256 * MIB  # bytes

# Everything else in tokenizer_config.json speaks to other loaders.
_SPECIAL = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token")
_FLAGS = ("add_bos_token", "add_eos_token")


def read_text(files: ModelFiles, path: str, *, limit: int = JSON_MAX) -> str | None:
    """A small text file of the model, or None if it has none of this name. Raises ParseError.

    Args:
        files: of the model.
        path: in the model's folder.
        limit: bytes.
    """
    if path not in files.paths():
        return None
    view = files.view(path)
    if len(view) > limit:
        raise ParseError(CoreCode.TOO_LARGE, f"{path}: {len(view)} bytes, at most {limit}")
    try:
        return str(view, "utf-8")
    except UnicodeDecodeError as exc:
        raise ParseError(CoreCode.MALFORMED, f"{path}: not UTF-8") from exc


def read_object(files: ModelFiles, path: str) -> dict[str, Any] | None:
    """A JSON object of the model, or None if there is no such file. Raises ParseError.

    Args:
        files: of the model.
        path: in the model's folder.
    """
    text = read_text(files, path)
    if text is None:
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise ParseError(CoreCode.MALFORMED, f"{path}: not JSON: {exc}") from exc
    if not isinstance(value, dict):
        raise ParseError(CoreCode.MALFORMED, f"{path}: not a JSON object")
    return value


def refuse_remote_code(settings: dict[str, Any], path: str) -> None:
    """``auto_map`` names Python files inside the model. They are never run.

    Args:
        settings: of one of the model's JSON files.
        path: of that file, for the error.

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


def _chat_template(files: ModelFiles, settings: dict[str, Any]) -> str | None:
    own = read_text(files, CHAT_TEMPLATE)
    if own is not None:
        return own
    template = settings.get("chat_template")
    if isinstance(template, list):  # the older form: several, by name
        named = {
            item.get("name"): item.get("template") for item in template if isinstance(item, dict)
        }
        template = named.get("default")
    if template is not None and not isinstance(template, str):
        raise ParseError(CoreCode.MALFORMED, f"{TOKENIZER_CONFIG}: chat_template is no text")
    return template


class TextCodec:
    """Chat and text to tokens, tokens to text. Never a stronger word than the model's own files."""

    def __init__(self, tokenizer: Any, *, has_template: bool) -> None:  # noqa: ANN401 - untyped library
        self._tokenizer = tokenizer
        self._backend = tokenizer.backend_tokenizer
        self._has_template = has_template

    @property
    def eos_token_id(self) -> int | None:
        """The token that ends a text, as the tokenizer knows it."""
        value = self._tokenizer.eos_token_id
        return value if isinstance(value, int) else None

    @property
    def size(self) -> int:
        """Number of tokens in the vocabulary."""
        return int(self._backend.get_vocab_size(with_added_tokens=True))

    def encode_chat(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """Render the chat template, which runs in jinja2's immutable sandbox, and encode.

        Raises:
            UsageError: PROMPT_UNUSABLE, there is no template or it refuses these messages.
        """
        import jinja2

        if not self._has_template:
            raise UsageError(EngineCode.PROMPT_UNUSABLE, "this model has no chat template")
        turns = [{"role": item.role, "content": item.content} for item in messages]
        try:
            text = self._tokenizer.apply_chat_template(
                turns, tokenize=False, add_generation_prompt=True
            )
        except (jinja2.TemplateError, TypeError, ValueError) as exc:
            # The message may quote the prompt, so it goes to nobody.
            raise UsageError(
                EngineCode.PROMPT_UNUSABLE, "the model's chat template refuses these messages"
            ) from exc
        return self._encode(text, special=False)

    def encode_text(self, text: str) -> tuple[int, ...]:
        """Encode as the tokenizer says, with its special tokens around."""
        return self._encode(text, special=True)

    def _encode(self, text: str, *, special: bool) -> tuple[int, ...]:
        ids = tuple(self._backend.encode(text, add_special_tokens=special).ids)
        if not ids:
            raise UsageError(EngineCode.PROMPT_UNUSABLE, "the prompt has no tokens")
        return ids

    def decoder(self) -> Callable[[list[int]], str]:
        """Decode tokens; special ones give no text."""
        backend = self._backend

        def decode(ids: list[int]) -> str:
            return str(backend.decode(ids, skip_special_tokens=True))

        return decode


def build_codec(files: ModelFiles) -> TextCodec:
    """Build from ``tokenizer.json``, ``tokenizer_config.json`` and ``chat_template.jinja``.

    Raises:
        ParseError: a file is malformed.
        UsageError: ENGINE_MODEL_UNSUPPORTED.
    """
    import tokenizers
    from transformers import PreTrainedTokenizerFast

    if TOKENIZER not in files.paths():
        raise UsageError(EngineCode.ENGINE_MODEL_UNSUPPORTED, f"the model has no {TOKENIZER}")
    view = files.view(TOKENIZER)
    if len(view) > TOKENIZER_MAX:
        raise ParseError(CoreCode.TOO_LARGE, f"{TOKENIZER}: {len(view)} bytes")
    settings = read_object(files, TOKENIZER_CONFIG) or {}
    refuse_remote_code(settings, TOKENIZER_CONFIG)
    template = _chat_template(files, settings)
    known: dict[str, Any] = {
        name: text
        for name in _SPECIAL
        if (text := _token_text(settings.get(name), TOKENIZER_CONFIG, name)) is not None
    }
    known |= {name: bool(settings[name]) for name in _FLAGS if settings.get(name) is not None}
    try:
        # The library takes bytes only, and keeps the vocabulary on its own heap: the one file of
        # the model besides the small JSON ones that leaves the locked mapping.
        backend = tokenizers.Tokenizer.from_buffer(view.tobytes())
        backend.no_truncation()
        backend.no_padding()
        tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call] # untyped library
            tokenizer_object=backend, chat_template=template, **known
        )
    except Exception as exc:  # the Rust library raises bare Exception for a bad file
        raise ParseError(
            CoreCode.MALFORMED, f"{TOKENIZER} or {TOKENIZER_CONFIG} does not load"
        ) from exc
    return TextCodec(tokenizer, has_template=template is not None)
