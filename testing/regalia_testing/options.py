"""Options of simulated evidence sources, as they stand in a configuration."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_type_hints

from regalia.core.errors import CoreCode, UsageError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    Defects = TypeVar("Defects", bound=DataclassInstance)


def platform_options(
    options: dict[str, object], healthy: Defects, *, source: str
) -> tuple[Path, Defects]:
    """The two options that each of them takes.

    Args:
        options: ``platform``, a directory; optionally ``defects``, a table of fields.
        healthy: the defects of a platform without a defect.
        source: its name, for messages.

    Raises:
        UsageError: BAD_CONFIG, an option is missing, unknown or of the wrong type.
    """
    unknown = sorted(set(options) - {"platform", "defects"})
    if unknown:
        raise UsageError(CoreCode.BAD_CONFIG, f"{source}: unknown options {unknown}")
    directory = options.get("platform")
    if not isinstance(directory, str | Path) or not str(directory):
        raise UsageError(CoreCode.BAD_CONFIG, f"{source}: `platform` must name a directory")
    chosen = options.get("defects", {})
    if not isinstance(chosen, dict):
        raise UsageError(CoreCode.BAD_CONFIG, f"{source}: `defects` must be a table")
    return Path(directory), defects_from(chosen, healthy)


def defects_from(options: dict[str, object], healthy: Defects) -> Defects:
    """Defects by name, each of the type that it has by default; words are among those known.

    Raises:
        UsageError: BAD_CONFIG for a name, a type or a word that is not known.
    """
    known = {field.name: getattr(healthy, field.name) for field in fields(healthy)}
    hints = get_type_hints(type(healthy))
    for name, value in options.items():
        if name not in known:
            raise UsageError(CoreCode.BAD_CONFIG, f"defects: {name!r} is none of {sorted(known)}")
        if type(value) is not type(known[name]):
            kind = type(known[name]).__name__
            raise UsageError(CoreCode.BAD_CONFIG, f"defects: {name} must be a {kind}")
        words = get_args(hints[name])
        if words and value not in words:
            raise UsageError(CoreCode.BAD_CONFIG, f"defects: {name} is none of {words}")
    changes: dict[str, Any] = dict(options)
    return replace(healthy, **changes)
