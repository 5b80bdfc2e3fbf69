"""Shapes of what reaches vLLM: messages of text, and objects of which each member is known.

vLLM reads more from a request than its documentation says: a part of a message whose type is
``text`` becomes an image as soon as it has an identifier, and the texts that are to be embedded may
be chats. So what is passed on is made anew from the members that are known here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from regalia.core.errors import UsageError
from regalia.engines.codes import EngineCode
from regalia.engines.hosted_codes import HostedCode
from regalia.engines.vllm.surface import (
    CLOSED_MESSAGE_MEMBERS,
    MEMBERS,
    MESSAGE_MEMBERS,
    PART_MEMBERS,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

INPUTS_MAX = 2048  # texts to embed in one request, as many as OpenAI allows
FORMATS = ("float", "base64")  # of embeddings; the others are no JSON
ROLE_MAX = 32  # characters


def known_members(name: str, value: object) -> object:
    """A parameter's value, whose members are all known.

    Args:
        name: of the parameter.
        value: of it.

    Raises:
        UsageError: REQUEST_PARAMETER_UNKNOWN.
    """
    if name not in MEMBERS:
        return value
    if not isinstance(value, dict):
        raise UsageError(HostedCode.REQUEST_PARAMETER_UNKNOWN, f"{name} is not an object")
    return {key: _known(name, key, MEMBERS[name], item) for key, item in value.items()}


def _known(where: str, key: str, known: frozenset[str], value: object) -> object:
    if key not in known:
        unknown(f"{where}.{key}")
    return value


def unknown(name: str) -> NoReturn:
    """Refuse a name. Raises UsageError REQUEST_PARAMETER_UNKNOWN."""
    shown = "".join(char for char in name[:100] if char.isprintable())
    raise UsageError(HostedCode.REQUEST_PARAMETER_UNKNOWN, f"{shown!r} is no parameter here")


def plain_messages(value: object) -> list[dict[str, Any]]:
    """Messages that contain text only. Raises UsageError.

    Args:
        value: of the parameter ``messages``.
    """
    if not isinstance(value, list):
        raise UsageError(EngineCode.PROMPT_UNUSABLE, "messages is not a list")
    return [_message(item) for item in value]


def _message(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UsageError(EngineCode.PROMPT_UNUSABLE, "a message is not an object")
    role = value.get("role")
    if not isinstance(role, str) or not _is_word(role):
        raise UsageError(EngineCode.PROMPT_UNUSABLE, "a message's role is not a word")
    made: dict[str, Any] = {}
    for name, member in value.items():
        if name == "content":
            made[name] = _content(member)
        elif name in MESSAGE_MEMBERS:
            if member is not None:
                made[name] = member
        elif name not in CLOSED_MESSAGE_MEMBERS:
            unknown(f"messages.{name}")
        elif member:  # clients send back what they were given, with empty members
            raise UsageError(
                HostedCode.REQUEST_SURFACE_CLOSED,
                f"messages.{name}: {CLOSED_MESSAGE_MEMBERS[name]}",
            )
    return made


def _is_word(text: str) -> bool:
    return 0 < len(text) <= ROLE_MAX and all(char.isalnum() or char in "_-" for char in text)


def _content(value: object) -> object:
    if value is None or isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise UsageError(
            EngineCode.PROMPT_UNUSABLE, "a message's content is neither text nor parts"
        )
    return [_part(part) for part in value]


def _part(value: object) -> dict[str, str]:
    text = value.get("text") if isinstance(value, dict) and value.get("type") == "text" else None
    if not isinstance(value, dict) or not isinstance(text, str):
        raise UsageError(
            HostedCode.REQUEST_SURFACE_CLOSED,
            "a message has parts that are not text; images and sounds are not served",
        )
    if extra := sorted(value.keys() - PART_MEMBERS):
        unknown(f"messages.content.{extra[0]}")
    return {"type": "text", "text": text}


def joined_texts(messages: list[dict[str, Any]]) -> Iterator[str]:
    """Texts that vLLM or a chat template makes of the parts of one message.

    Args:
        messages: from ``plain_messages``.
    """
    for message in messages:
        content = message.get("content")
        if isinstance(content, list):
            texts = [part["text"] for part in content]
            yield "".join(texts)
            yield "\n".join(texts)


def plain_input(value: object) -> object:
    """What is to be embedded: texts, or lists of token numbers. Raises UsageError.

    Args:
        value: of the parameter ``input``.
    """
    if isinstance(value, str) or _is_tokens(value):
        return value
    if not isinstance(value, list) or not value:
        raise UsageError(EngineCode.PROMPT_UNUSABLE, "input is neither text nor tokens")
    if len(value) > INPUTS_MAX:
        raise UsageError(EngineCode.PROMPT_UNUSABLE, f"{len(value)} inputs, at most {INPUTS_MAX}")
    if not all(isinstance(item, str) or _is_tokens(item) for item in value):
        raise UsageError(EngineCode.PROMPT_UNUSABLE, "an input is neither text nor tokens")
    return value


def _is_tokens(value: object) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(item, int) and not isinstance(item, bool) for item in value)
    )


def count_prompts(value: object) -> int:
    """Number of prompts in the parameter ``prompt``. Raises UsageError.

    Args:
        value: text, token numbers, or a list of either.
    """
    if isinstance(value, str) or _is_tokens(value):
        return 1
    items = value if isinstance(value, list) else []
    if not items or not all(isinstance(item, str) or _is_tokens(item) for item in items):
        raise UsageError(EngineCode.PROMPT_UNUSABLE, "prompt is neither text nor tokens")
    return len(items)
