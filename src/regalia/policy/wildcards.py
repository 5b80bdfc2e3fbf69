"""Which rules of a policy were left open. Found by walking the document, so none is forgotten."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from regalia.tees.azure.policy import words as sentences_azure
from regalia.tees.intel.policy import words as sentences_intel
from regalia.tees.snp.policy import words as sentences_snp

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regalia.policy.documents import Platform

_GRACE = "platform.dangerous_collateral_grace_days"

# Values other than "any" by which a rule demands nothing.
_OPEN_VALUES: tuple[tuple[str, object], ...] = (
    ("platform.hardware", "dangerous_simulated"),
    *sentences_snp.OPEN_VALUES,
    *sentences_azure.OPEN_VALUES,
    *sentences_intel.OPEN_VALUES,
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
        for where, open_value in _OPEN_VALUES:
            if path == where and value == open_value:
                yield f"{path}={_text(value)}"


def _text(value: object) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
