"""Types of what conditions may speak of, shared by the fields of all TEEs."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from regalia.core.bits import bit

if TYPE_CHECKING:
    from collections.abc import Iterable

Kind = Literal["int", "text", "bool", "time", "list of int", "list of text"]
Fields = Mapping[str, "Kind | Fields"]
Values = dict[str, object]


def record(**members: Kind | Fields) -> Fields:
    """A record with these members."""
    return MappingProxyType(members)


def all_bool(names: Iterable[str]) -> dict[str, Kind | Fields]:
    """Members that are true or false."""
    return dict.fromkeys(names, "bool")


def all_text(names: Iterable[str]) -> dict[str, Kind | Fields]:
    """Members that are texts."""
    return dict.fromkeys(names, "text")


def bits(vector: int) -> list[int]:
    """Numbers of the bits that are set."""
    return [index for index in range(vector.bit_length()) if bit(vector, index)]
