"""The command line as it explains itself, and the list of all codes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tests.golden.product import cli
from tests.golden.text import command, joined, section, shorten

if TYPE_CHECKING:
    from collections.abc import Iterator

_CODES = Path(__file__).parents[2] / "docs" / "errors.md"


def files() -> dict[str, str]:
    """Texts by name."""
    return {
        "help.txt": joined(line for path in _commands(cli, ()) for line in _help(path)),
        "codes.txt": joined(f"{row.split('`')[1]} {shorten(row, 0)}" for row in code_rows()),
    }


def _commands(group: click.Command, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Every command below, the group first."""
    yield path
    if isinstance(group, click.Group):
        context = click.Context(group)
        for name in group.list_commands(context):
            found = group.get_command(context, name)
            if found is None:
                raise LookupError(name)
            yield from _commands(found, (*path, name))


def _help(path: tuple[str, ...]) -> list[str]:
    answer = command(*path, "--help")
    lines = [f"exit {answer.status}", *answer.out.splitlines(), *answer.err.splitlines()]
    return section(" ".join(("regalia", *path, "--help")), lines)


def code_rows() -> list[str]:
    """Rows of the page of all codes, without the modules that they stand in."""
    page = _CODES.read_text(encoding="utf-8")
    return sorted(set(re.findall(r"^\| `[A-Z0-9_]+` \|.*$", page, re.MULTILINE)))


def code_names() -> list[str]:
    """Names of all codes."""
    return sorted({row.split("`")[1] for row in code_rows()})
