"""Typed values as plain ones, for results and for showing: bytes as hex, enums as their words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime
from enum import Enum

import msgspec

from regalia.core.clock import rfc3339
from regalia.core.types import FixedBytes

Plain = dict[str, "Plain"] | list["Plain"] | str | int | bool | None


def plain(value: object) -> Plain:  # noqa: PLR0911 - one for each kind of value
    """Whatever a claims class or a parsed structure holds, by the names that it has there.

    Raises:
        TypeError: there is something in it that has no plain form (a programmer's mistake).
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Enum):
        return value.value if isinstance(value.value, str) else value.name
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, int | str):
        return value
    if isinstance(value, FixedBytes):
        return str(value)
    if isinstance(value, datetime):
        return rfc3339(value)
    return _structured(value)


def plain_fields(value: object) -> dict[str, Plain]:
    """The fields of a dataclass or of a msgspec struct.

    Raises:
        TypeError: ``value`` is neither (the caller's bug).
    """
    if isinstance(value, msgspec.Struct):
        names: tuple[str, ...] = value.__struct_fields__
    elif is_dataclass(value):
        names = tuple(field.name for field in fields(value))
    else:
        raise TypeError(f"{type(value).__name__} has no fields")
    return {name: plain(getattr(value, name)) for name in names}


def _structured(value: object) -> Plain:
    if is_dataclass(value) or isinstance(value, msgspec.Struct):
        return plain_fields(value)
    if isinstance(value, Mapping):
        return _mapping(value)
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    raise TypeError(f"{type(value).__name__} has no plain form")


def _mapping(value: Mapping[object, object]) -> dict[str, Plain]:
    return {str(plain(name)): plain(item) for name, item in value.items()}
