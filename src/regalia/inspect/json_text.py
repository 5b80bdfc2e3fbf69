"""JSON as text: decoded without a guess, and what is wrong with a text that is none."""

from __future__ import annotations

import json
import re

import msgspec

from regalia.core.errors import CoreCode, ParseError

JSON_STARTS = (b"{", b"[")
_AT_BYTE = re.compile(r"\(byte (\d+)\)")
_NAME_SHOWN = 40  # characters


class _TwiceError(Exception):
    """A member stands twice in an object; its name is the argument."""


def decode_json(data: bytes) -> object | None:
    """The value of a JSON text; None if it is no JSON.

    Args:
        data: raw, untrusted.

    Raises:
        ParseError: MALFORMED, an object has two members of one name. Readers disagree on which of
            them counts, so one could show another quote than the next one verifies.
    """
    try:
        body: object = msgspec.json.decode(data)
        json.loads(data, object_pairs_hook=_once)
    except _TwiceError as exc:
        name = ascii(str(exc)[:_NAME_SHOWN])
        raise ParseError(
            CoreCode.MALFORMED,
            f"evidence: the member {name} stands twice in one JSON object, and which of the two"
            " counts would be a guess",
        ) from exc
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    return body


def _once(pairs: list[tuple[str, object]]) -> None:
    """Nothing is kept but the names, as long as it takes to compare them."""
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            raise _TwiceError(name)
        seen.add(name)


def why_no_json(text: bytes) -> str:
    """Where a text that begins like JSON stops being readable, for people; empty if it is JSON.

    Args:
        text: raw, untrusted.
    """
    try:
        msgspec.json.decode(text)
    except (msgspec.MsgspecError, UnicodeError) as exc:
        said = str(exc)
    except RecursionError:
        return "it has too many levels"
    else:
        return ""
    found = _AT_BYTE.search(said)
    if found is None:
        lines = text.count(b"\n") + 1
        return f"it ends too early, in line {lines}, after byte {len(text)}"
    at = int(found[1])
    line = text.count(b"\n", 0, at) + 1
    return f"line {line}, byte {at}: {said.removeprefix('JSON is malformed: ').split(' (byte')[0]}"
