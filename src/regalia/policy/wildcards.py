"""Which rules of a policy were left open. Found by walking the document, so none is forgotten."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

import msgspec

from regalia.policy.registry import POLICY_PLUGINS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from regalia.policy.documents import Platform

_GRACE = "platform.dangerous_collateral_grace_days"

# Values other than "any" by which a field demands nothing, by path.
_OPEN_VALUES: Mapping[str, object] = MappingProxyType(
    {
        "platform.hardware": "dangerous_simulated",
        **{
            f"{plugin.path}.{field.name}": field.open_value
            for plugin in POLICY_PLUGINS
            for field in plugin.fields
            if field.open_value is not None
        },
    }
)


def wildcards(policy: msgspec.Struct) -> tuple[str, ...]:
    """Paths of the rules that a policy of either kind leaves open, in document order.

    ``path`` alone means that the rule says ``"any"``; ``path=value`` is another value that
    demands nothing. A document's name is free text and no rule.
    """
    return tuple(_walk("", policy))


def platform_wildcards(platform: Platform) -> tuple[str, ...]:
    """The same for the platform's rules alone."""
    return tuple(_walk("platform.", platform))


def _walk(prefix: str, document: msgspec.Struct) -> Iterator[str]:
    for name in document.__struct_fields__:
        path = f"{prefix}{name}"
        value: object = getattr(document, name)
        if isinstance(value, msgspec.Struct):
            yield from _walk(f"{path}.", value)
        elif isinstance(value, list):
            for index, entry in enumerate(value):
                if isinstance(entry, msgspec.Struct):
                    yield from _walk(f"{path}[{index}].", entry)
        elif value == "any" and path != "name":
            yield path
        if path == _GRACE and value:
            yield f"{path}={_text(value)}"
        if path in _OPEN_VALUES and value == _OPEN_VALUES[path]:
            yield f"{path}={_text(value)}"


def _text(value: object) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
