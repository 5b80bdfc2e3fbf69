"""The work of ``regalia attest inspect``: the fields, and no verdict."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from regalia.cli.attest.compact import compact
from regalia.cli.output import Styled, say, show_json
from regalia.host.localfs import read_file
from regalia.inspect.decoded_fields import decoded_fields
from regalia.inspect.recognize import LIMIT, recognize

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from regalia.core.plain import Plain

WARNING = "UNTRUSTED: nothing was verified. Anybody can write every byte of this."
_HEX_FROM = 10  # larger numbers may be bit fields, so show them in hex as well
_FOLD = 72  # characters of a value in one line; words are not broken


def inspect_file(path: Path, *, raw: bool, as_json: bool) -> None:
    """Show the fields of the evidence.

    Args:
        path: of the evidence.
        raw: every field, and bytes in full.
        as_json: print for programs, which get every field.
    """
    found = recognize(read_file(path, limit=LIMIT))
    parts = decoded_fields(found)
    if as_json:
        show_json(
            {
                "ok": True,
                "verified": False,
                "warning": WARNING,
                "form": found.form,
                "subject": found.subject,
                "parts": parts,
            }
        )
        return
    say(Styled(f"{_text(str(path))}: {found.form}", bold=True))
    say(Styled(WARNING, "yellow", bold=True))
    for name, value in (parts if raw else compact(found, parts)).items():
        say()
        say(Styled(name, bold=True))
        for line in _lines(value, ""):
            say(*line)
    say(f"{'' if raw else 'Every field: --raw. '}Next: regalia attest verify")


def _lines(value: Plain, indent: str) -> Iterator[tuple[str | Styled, ...]]:
    match value:
        case dict():
            width = max((len(name) for name in value), default=0)
            for name, inner in _in_order(value):
                yield from _member(name.ljust(width), inner, indent)
        case list():
            for index, inner in enumerate(value):
                yield from _member(f"[{index}]", inner, indent)
        case _:
            yield from _member("", value, indent)


def _in_order(value: dict[str, Plain]) -> list[tuple[str, Plain]]:
    """Keep the order of the document, but sort registers by number."""
    if value and all(name.isdecimal() for name in value):
        return sorted(value.items(), key=lambda member: int(member[0]))
    return list(value.items())


def _member(name: str, value: Plain, indent: str) -> Iterator[tuple[str | Styled, ...]]:
    if isinstance(value, dict | list) and value:
        yield f"{indent}  ", Styled(name.rstrip(), dim=True)
        yield from _lines(value, f"{indent}  ")
        return
    first, *more = textwrap.wrap(_text(value), _FOLD) or [""]
    yield f"{indent}  ", Styled(name, dim=True), f"  {first}"
    for line in more:
        yield (f"{indent}  {' ' * len(name)}  {line}",)


def _text(value: Plain) -> str:
    if value is None or value in ("", [], {}):
        return "—"
    if isinstance(value, int) and not isinstance(value, bool) and value >= _HEX_FROM:
        return f"{value} ({value:#x})"
    text = str(value)
    return text if text.isprintable() else ascii(text)
