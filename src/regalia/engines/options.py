"""Reads ``[engine.options]`` of the runtime's configuration into an engine's own struct."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import msgspec

from regalia.core.errors import UsageError
from regalia.engines.codes import EngineCode

if TYPE_CHECKING:
    from collections.abc import Mapping

Options = TypeVar("Options", bound=msgspec.Struct)


def read_options(given: Mapping[str, object], kind: type[Options]) -> Options:
    """Validate the options. Every number in them counts something, and is at least 1.

    Args:
        given: not validated.
        kind: struct that forbids unknown fields.

    Raises:
        UsageError: ENGINE_OPTION_UNKNOWN.
    """
    try:
        options = msgspec.convert(dict(given), kind)
    except msgspec.ValidationError as exc:
        raise UsageError(EngineCode.ENGINE_OPTION_UNKNOWN, f"engine.options: {exc}") from exc
    values = msgspec.structs.asdict(options).values()
    if any(isinstance(value, int) and value is not False and value < 1 for value in values):
        raise UsageError(
            EngineCode.ENGINE_OPTION_UNKNOWN, "engine.options: numbers must be positive"
        )
    return options
