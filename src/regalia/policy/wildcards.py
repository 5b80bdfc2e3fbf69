"""Which rules of a policy were left open. Found by walking the document, so none is forgotten."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regalia.formats.policy import ClientPolicy, ReleasePolicy

# Values other than "any" by which a rule demands nothing.
_OPEN_VALUES: tuple[tuple[str, object], ...] = (
    ("platform.hardware", "dangerous_simulated"),
    ("platform.snp.platform_info_required", []),
    ("platform.snp.mitigations_required", 0),
)


def wildcards(policy: ReleasePolicy | ClientPolicy) -> tuple[str, ...]:
    """Paths of the rules that were left open, in document order.

    ``path`` alone means that the rule says ``"any"``; ``path=value`` is another value that
    demands nothing. A document's name is free text and no rule.
    """
    return tuple(_walk("", policy))


def _walk(prefix: str, document: msgspec.Struct) -> Iterator[str]:
    for name in document.__struct_fields__:
        path = f"{prefix}{name}"
        value: object = getattr(document, name)
        if isinstance(value, msgspec.Struct):
            yield from _walk(f"{path}.", value)
        elif value == "any" and path != "name":
            yield path
        for where, open_value in _OPEN_VALUES:
            if path == where and value == open_value:
                yield f"{path}={_text(value)}"


def _text(value: object) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
