"""Screens requests before vLLM sees them: parameters, and text that reads like control tokens."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NoReturn

from regalia.core.errors import UsageError
from regalia.engines.codes import EngineCode
from regalia.engines.hosted_codes import HostedCode
from regalia.engines.quoting import ControlTokens
from regalia.engines.vllm.surface import (
    CHAT,
    CLOSED,
    COMPLETIONS,
    DROPPED,
    EMBEDDINGS,
    OPEN,
    OPENED,
    ROUTES,
    Surface,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from regalia.core.weights import ModelFiles
    from regalia.engines.hosted import Bounds

CHOICES_MAX = 8  # answers to one request
STRINGS_MAX = 100_000  # texts in one request
_NOT_IN_PROMPTS = frozenset(("model", "stop"))
_TOKENIZER = "tokenizer.json"
_TOKENIZER_CONFIG = "tokenizer_config.json"


class Guard:
    """Implements ``engines.hosted.RequestGuard``.

    Args:
        opens: surfaces that the measured configuration opens.
        controls: text of tokens that structure a chat. vLLM reads them as such wherever they
            stand, so whoever writes them in a message could write a turn of the system.
    """

    def __init__(self, opens: frozenset[Surface], controls: ControlTokens) -> None:
        self._opens = opens
        self._controls = controls

    @classmethod
    def of(cls, files: ModelFiles, opens: frozenset[Surface]) -> Guard:
        """The guard for one model.

        Args:
            files: the model's files that are not weights.
            opens: surfaces that the measured configuration opens.

        Raises:
            ParseError: a file of the tokenizer is malformed.
            UsageError: ENGINE_MODEL_UNSUPPORTED, control tokens cannot be searched for.
        """
        return cls(opens, ControlTokens(_control_texts(files)))

    def screen(self, route: str, body: Mapping[str, Any], bounds: Bounds) -> dict[str, Any]:
        """The request that vLLM gets; arguments and errors as ``RequestGuard``.

        Args:
            route: of the API.
            body: what the client sent.
            bounds: of this request.
        """
        needed = ROUTES[route]
        if needed is not None and needed not in self._opens:
            _closed(f"{route} is closed", needed)
        kept = {
            name: value
            for name, value in body.items()
            if value is not None and self._passes(route, name, value)
        }
        if route == CHAT:  # a plain prompt is its author's, and has no turns
            self._require_text(kept)
        if route in (CHAT, COMPLETIONS):
            _bound(route, kept, bounds)
            if Surface.SHARED_PREFIX_CACHE not in self._opens:
                kept["cache_salt"] = bounds.salt
        elif route == EMBEDDINGS:
            kept.setdefault("encoding_format", "float")
        return kept

    def _passes(self, route: str, name: str, value: object) -> bool:
        """Whether a parameter is passed on; raises if it is refused."""
        if name in DROPPED:
            return False
        if name in OPEN[route]:
            return True
        surface = OPENED[route].get(name)
        if surface is not None:
            if surface in self._opens:
                return True
            # Clients send the neutral value without meaning anything by it.
            if value is False or value == 0 or value in ({}, []):
                return False
            _closed(f"{name} is closed", surface)
        if name in CLOSED:
            raise UsageError(HostedCode.REQUEST_SURFACE_CLOSED, f"{name}: {CLOSED[name]}")
        shown = "".join(char for char in name[:60] if char.isprintable())
        raise UsageError(HostedCode.REQUEST_PARAMETER_UNKNOWN, f"{shown!r} is no parameter here")

    def _require_text(self, body: dict[str, Any]) -> None:
        for number, (where, text) in enumerate(_strings(body)):
            if number > STRINGS_MAX:
                raise UsageError(EngineCode.PROMPT_UNUSABLE, "too many texts in one request")
            if next(self._controls.find(text), None) is not None:
                raise UsageError(
                    EngineCode.PROMPT_UNUSABLE,
                    f"a text in {where} reads like a control token of the model, which this engine"
                    " cannot tell from one",
                )


def _closed(what: str, surface: Surface) -> NoReturn:
    raise UsageError(HostedCode.REQUEST_SURFACE_CLOSED, f"{what}; surface {surface}")


def _bound(route: str, body: dict[str, Any], bounds: Bounds) -> None:
    """Bound the work of one request, and require text where addresses could stand."""
    if body.get("n", 1) not in range(1, CHOICES_MAX + 1):
        raise UsageError(HostedCode.REQUEST_SURFACE_CLOSED, f"n is from 1 to {CHOICES_MAX}")
    names = [name for name in ("max_completion_tokens", "max_tokens") if name in body]
    limits = [body[name] for name in names]
    if any(not isinstance(limit, int) or isinstance(limit, bool) for limit in limits):
        raise UsageError(HostedCode.REQUEST_PARAMETER_UNKNOWN, f"{names[0]} is no number")
    for name in names or (["max_completion_tokens"] if route == CHAT else []):
        body[name] = min(body.get(name, bounds.answer_tokens), bounds.answer_tokens)
    for message in body.get("messages", ()) if route == CHAT else ():
        content = message.get("content") if isinstance(message, dict) else None
        parts = content if isinstance(content, list) else []
        if any(not isinstance(part, dict) or part.get("type") != "text" for part in parts):
            raise UsageError(
                HostedCode.REQUEST_SURFACE_CLOSED,
                "a message has parts that are not text; images and sounds are not served",
            )


def _strings(body: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """All texts that may reach the prompt, each with its parameter; names of members are texts."""
    for name, member in body.items():
        pending = [] if name in _NOT_IN_PROMPTS else [member]
        while pending:
            item = pending.pop()
            if isinstance(item, str):
                yield name, item
            elif isinstance(item, list):
                pending += item
            elif isinstance(item, dict):
                pending += [*item.keys(), *item.values()]


def _control_texts(files: ModelFiles) -> set[str]:
    """Texts of special tokens, and of added ones that the chat template writes itself."""
    from regalia.engines.model_files import read_object, read_text

    settings = read_object(files, _TOKENIZER_CONFIG) or {}
    template = (read_text(files, "chat_template.jinja") or "") + json.dumps(
        settings.get("chat_template", ""), ensure_ascii=False
    )
    added = [*_list((read_tokenizer(files) or {}).get("added_tokens"))]
    decoder = settings.get("added_tokens_decoder")
    added += decoder.values() if isinstance(decoder, dict) else ()
    named = [settings.get(name) for name in settings if name.endswith("_token")]
    found = {item for item in named if isinstance(item, str)}
    for token in [*added, *named]:
        text = token.get("content") if isinstance(token, dict) else None
        if isinstance(text, str) and (token.get("special") or text.strip() in template):
            found.add(text)
    return {text for text in found if text.strip()}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def read_tokenizer(files: ModelFiles) -> dict[str, Any] | None:
    """tokenizer.json, which is larger than the model's other JSON files. Raises ParseError."""
    from regalia.core.errors import CoreCode, ParseError
    from regalia.engines.model_files import read_text
    from regalia.engines.tokenizer import TOKENIZER_MAX

    text = read_text(files, _TOKENIZER, limit=TOKENIZER_MAX)
    if text is None:
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise ParseError(CoreCode.MALFORMED, f"{_TOKENIZER}: not JSON: {exc}") from exc
    return value if isinstance(value, dict) else None
