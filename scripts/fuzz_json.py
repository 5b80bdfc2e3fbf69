"""Mutations of JSON documents, which a fuzzer of bytes hardly gets past.

Canonical JSON has one spelling, and much of what stands in it is base64 or hex: nearly every change
of a byte ends at the gate. So a document is taken apart, one value in it is changed, and it is
written again. Bytes inside a value are left to the byte mutator.
"""

from __future__ import annotations

import base64
import binascii
from random import Random
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

    Bytes = Callable[[bytes, int], bytes]  # the byte mutator: data, and the size that it may have

_AS_BYTES = 0.2  # share of inputs that are mutated as bytes in any case
_EDGES = (0, -1, 1, 255, 256, 2**31, 2**32 - 1, 2**53, 2**63 - 1, 2**64 - 1)
_STRANGERS = (None, True, False, 0, -1, 2**64 - 1, "", "x", [], {}, [[]], {"": None}, 1.5)
_OPENING = (b"{", b"[")


def mutated(data: bytes, max_size: int, seed: int, mutate: Bytes) -> bytes:
    """Another document; other bytes if it is none, or if the new one would be too large."""
    random = Random(seed)  # noqa: S311 - libFuzzer gives the seed, so that a run can be repeated
    if not data.startswith(_OPENING) or random.random() < _AS_BYTES:
        return mutate(data, max_size)
    try:
        document = msgspec.json.decode(data)
        changed = _Change(random, mutate, max_size).within(document)
        encoded = msgspec.json.encode(changed, order="sorted")
    except (msgspec.MsgspecError, UnicodeError, RecursionError, OverflowError):
        return mutate(data, max_size)
    return encoded if len(encoded) <= max_size else mutate(data, max_size)


class _Change:
    """One change somewhere in a document."""

    def __init__(self, random: Random, mutate: Bytes, max_size: int) -> None:
        self._random, self._mutate, self._max_size = random, mutate, max_size

    def within(self, value: Any) -> Any:  # noqa: ANN401 - JSON
        """Here, or further down."""
        if isinstance(value, dict | list) and value and self._random.random() < 0.8:  # noqa: PLR2004 - mostly down
            keys = list(value) if isinstance(value, dict) else list(range(len(value)))
            key = self._random.choice(keys)
            copy = value.copy()
            copy[key] = self.within(value[key])
            return copy
        return self._here(value)

    def _here(self, value: Any) -> Any:  # noqa: ANN401 - JSON
        if self._random.random() < 0.1:  # noqa: PLR2004 - now and then
            return self._random.choice(_STRANGERS)
        if isinstance(value, bool) or value is None:
            return not value
        if isinstance(value, int):
            return self._random.choice((*_EDGES, value + 1, value - 1, -value))
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, list):
            return self._items(value)
        return self._members(value) if isinstance(value, dict) else value

    def _text(self, text: str) -> str:
        """The bytes that it stands for, if it is hex or base64; otherwise its own."""
        try:
            return self._bytes(bytes.fromhex(text)).hex()
        except ValueError:
            pass
        try:
            return base64.b64encode(self._bytes(base64.b64decode(text, validate=True))).decode()
        except (binascii.Error, ValueError):
            return self._bytes(text.encode()).decode("utf-8", "replace")

    def _bytes(self, data: bytes) -> bytes:
        return self._mutate(data, self._max_size)

    def _items(self, items: list[Any]) -> list[Any]:
        if not items:
            return [None]
        at = self._random.randrange(len(items))
        rest = items[:at] + items[at + 1 :]
        return self._random.choice((rest, [*items, items[at]], [items[at], *rest], items * 2))

    def _members(self, members: dict[str, Any]) -> dict[str, Any]:
        if not members:
            return {"x": None}
        name = self._random.choice(list(members))
        rest = {each: value for each, value in members.items() if each != name}
        return self._random.choice((rest, {**members, "x": members[name]}, {**rest, f"{name}x": 1}))
