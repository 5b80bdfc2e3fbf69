"""Screens requests before vLLM sees them: parameters, and text that reads like control tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from regalia.core.errors import UsageError
from regalia.engines.codes import EngineCode
from regalia.engines.hosted_codes import HostedCode
from regalia.engines.vllm.controls import Controls
from regalia.engines.vllm.shapes import (
    FORMATS,
    count_prompts,
    joined_texts,
    known_members,
    plain_input,
    plain_messages,
    unknown,
)
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
TOKENS_MAX = 1 << 31  # of any number of tokens; an engine's own numbers have 64 bits
STRINGS_MAX = 100_000  # texts in one request
_NOT_IN_CHATS = frozenset(("model", "prompt", "stop"))


class Guard:
    """Implements ``engines.hosted.RequestGuard``.

    Args:
        opens: surfaces that the measured configuration opens.
        controls: text of tokens that structure a chat. vLLM reads them as such wherever they
            stand, so whoever writes them in a message could write a turn of the system.
    """

    def __init__(self, opens: frozenset[Surface], controls: Controls) -> None:
        self._opens = opens
        self._controls = controls

    @classmethod
    def of(cls, files: ModelFiles, opens: frozenset[Surface]) -> Guard:
        """The guard for one model. Raises as ``Controls.of``.

        Args:
            files: the model's files that are not weights.
            opens: surfaces that the measured configuration opens.
        """
        return cls(opens, Controls.of(files))

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
            name: known_members(name, value)
            for name, value in body.items()
            if value is not None and self._passes(route, name, value)
        }
        if "messages" in kept:  # a plain prompt is its author's, and has no turns
            kept["messages"] = plain_messages(kept["messages"])
            self._require_text(kept)
        if route in (CHAT, COMPLETIONS):
            _bound(route, kept, bounds)
        elif route == EMBEDDINGS:
            _require_embeddable(kept)
        if route in (CHAT, COMPLETIONS, EMBEDDINGS) and not self._shares():
            kept["cache_salt"] = bounds.salt
        return kept

    def _shares(self) -> bool:
        return Surface.SHARED_PREFIX_CACHE in self._opens

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
        if name not in CLOSED:
            unknown(name)
        raise UsageError(HostedCode.REQUEST_SURFACE_CLOSED, f"{name}: {CLOSED[name]}")

    def _require_text(self, body: dict[str, Any]) -> None:
        for number, (where, text) in enumerate(_strings(body)):
            if number > STRINGS_MAX:
                raise UsageError(EngineCode.PROMPT_UNUSABLE, "too many texts in one request")
            if self._controls.within(text):
                raise UsageError(
                    EngineCode.PROMPT_UNUSABLE,
                    f"a text in {where} reads like a control token of the model, which this engine"
                    " cannot tell from one",
                )


def _closed(what: str, surface: Surface) -> NoReturn:
    raise UsageError(HostedCode.REQUEST_SURFACE_CLOSED, f"{what}; surface {surface}")


def _bound(route: str, body: dict[str, Any], bounds: Bounds) -> None:
    """Bound the work of one request."""
    if not isinstance(body.get("stream", False), bool):  # vLLM takes "yes" for true
        raise UsageError(HostedCode.REQUEST_PARAMETER_UNKNOWN, "stream is neither true nor false")
    answers = _count(body, "n", 1)
    if route == COMPLETIONS:
        answers *= count_prompts(body.get("prompt"))
    if answers > CHOICES_MAX:
        raise UsageError(
            HostedCode.REQUEST_SURFACE_CLOSED,
            f"{answers} answers to one request; at most {CHOICES_MAX}",
        )
    names = [name for name in ("max_completion_tokens", "max_tokens") if name in body]
    for name in names or (["max_completion_tokens"] if route == CHAT else []):
        body[name] = min(_count(body, name, bounds.answer_tokens), bounds.answer_tokens)


def _count(body: Mapping[str, Any], name: str, default: int) -> int:
    value = body.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= TOKENS_MAX:
        raise UsageError(
            HostedCode.REQUEST_PARAMETER_UNKNOWN, f"{name} is no number from 1 to {TOKENS_MAX}"
        )
    return value


def _require_embeddable(body: dict[str, Any]) -> None:
    body["input"] = plain_input(body.get("input"))
    if body.setdefault("encoding_format", "float") not in FORMATS:
        raise UsageError(
            HostedCode.REQUEST_SURFACE_CLOSED, f"encoding_format is one of {', '.join(FORMATS)}"
        )


def _strings(body: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """All texts that may reach a chat, each with its parameter; names of members are texts."""
    for text in joined_texts(body["messages"]):
        yield "messages", text
    for name, member in body.items():
        pending = [] if name in _NOT_IN_CHATS else [member]
        while pending:
            item = pending.pop()
            if isinstance(item, str):
                yield name, item
            elif isinstance(item, list):
                pending += item
            elif isinstance(item, dict):
                pending += [*item.keys(), *item.values()]
