"""Output for people and programs: facts, tables, refusals. Rich is imported only when needed.

Names of files and texts in files are chosen by others, so every text that is printed here for a
person is made tame first: one with a line break or an escape sequence could forge a line of ours.
Other modules of the command line print through this one; a test reads that in their source.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, NamedTuple

import click

from regalia.core.errors import CoreCode, UsageError
from regalia.core.tame import tame

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from regalia.core.errors import RegaliaError

NARROW = 80  # columns; below them a table would break words or lose columns
_WIDTH_OF_A_PIPE = 200  # columns; wide enough that no id is broken across lines


class Styled(NamedTuple):
    """A text in a style, which is put on after the text was made tame."""

    text: str
    color: str | None = None
    bold: bool = False
    dim: bool = False


def say(*pieces: str | Styled, err: bool = False) -> None:
    """Print one line for a person; without pieces, an empty one.

    Args:
        pieces: of the line.
        err: on standard error.
    """
    click.echo("".join(map(_shown, pieces)), err=err)


def _shown(piece: str | Styled) -> str:
    if isinstance(piece, str):
        return tame(piece)
    # None and not False: click would otherwise write what turns a style off.
    bold, dim = piece.bold or None, piece.dim or None
    return click.style(tame(piece.text), fg=piece.color, bold=bold, dim=dim)


def show_error(error: RegaliaError, *, as_json: bool) -> None:
    """Print a refusal: for a person on standard error, for a program on standard output.

    Args:
        error: the refusal.
        as_json: print for programs.
    """
    if as_json:
        reasons = getattr(error, "reasons", ())
        body: dict[str, object] = {"ok": False, "error": error.as_dict()}
        if reasons:
            body["reasons"] = [{"code": code.name, "what": what} for code, what in reasons]
        click.echo(json.dumps(body, indent=2, sort_keys=True))
        return
    first, *others = error.explain().split("\n")
    say(Styled(f"refused [{error.code.name}] ", "red", bold=True), first, err=True)
    for line in others:
        say(line, err=True)


def show_click_error(error: click.ClickException, *, as_json: bool) -> int:
    """Print a usage error; returns the exit status, 2.

    Args:
        error: what click found.
        as_json: print for programs.
    """
    if as_json:
        refusal = UsageError(CoreCode.BAD_USAGE, error.format_message())
        body = {"ok": False, "error": refusal.as_dict()}
        click.echo(json.dumps(body, indent=2, sort_keys=True))
    else:
        vars(error)["message"] = tame(error.message)  # it is final to type checkers only
        error.show()
    return error.exit_code if error.exit_code != 1 else 2


def show_bug(error: Exception, *, as_json: bool) -> None:
    """Report a bug, of Regalia or of a plug-in. The traceback goes to a file: it may hold paths.

    Args:
        error: the unexpected exception.
        as_json: print for programs.
    """
    import os
    import tempfile
    import traceback

    fd, name = tempfile.mkstemp(prefix="regalia-bug-", suffix=".txt")
    with os.fdopen(fd, "w", encoding="utf-8") as file:
        traceback.print_exception(error, file=file)
    what = f"{type(error).__name__} in {_module_of(error)}; the traceback is in {name}"
    if as_json:
        click.echo(json.dumps({"ok": False, "error": {"code": "BUG", "what": what}}, indent=2))
    else:
        say(f"bug: {what}. Please report it to Regalia or, if it is a plug-in's, there.", err=True)


def _module_of(error: Exception) -> str:
    """The module in which it was raised. A plug-in's author looks for the cause there first."""
    trace, found = error.__traceback__, "regalia"
    while trace is not None:
        found = str(trace.tb_frame.f_globals.get("__name__", found))
        trace = trace.tb_next
    return found


def show_serving(title: str, facts: Mapping[str, object], *, as_json: bool) -> None:
    """Say that a service is ready.

    Args:
        title: the heading, for people.
        facts: where it listens, and what it serves.
        as_json: print for programs: one line, so that whoever started the service knows its end.
    """
    if as_json:
        click.echo(json.dumps({"ok": True, "serving": facts}, sort_keys=True))
    else:
        show_facts(title, list(facts.items()))


def show_json(value: object) -> None:
    """Print a result for programs."""
    click.echo(json.dumps(value, indent=2, sort_keys=True))


def show_document(text: str) -> None:
    """Print a document of one line, in the bytes that a file of it would have.

    A terminal gets it tame: a document may hold what steers one.
    """
    click.echo(tame(text) if sys.stdout.isatty() else text)


def show_facts(
    title: str, facts: Sequence[tuple[str, object]], *, color: str | None = None
) -> None:
    """Print a heading and aligned pairs, unbroken, so that every id can be copied and searched.

    Args:
        title: the heading.
        facts: name and value of each.
        color: of the heading.
    """
    width = max(len(tame(name)) for name, _ in facts)
    say(Styled(title, color, bold=True))
    for name, value in facts:
        say(Styled(tame(name).ljust(width), dim=True), f"  {fact_text(value)}")


def fact_text(value: object) -> str:
    """Format one value; the items of a list are separated by commas."""
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return str(value)


def show_columns(facts: Mapping[str, object]) -> None:
    """Print aligned pairs without a heading or styles."""
    width = max(len(name) for name in facts)
    for name, value in facts.items():
        say(f"{name:<{width}}  {value}")


def report(title: str, facts: Mapping[str, object], *, as_json: bool) -> None:
    """Print a result that has the same facts for people and for programs.

    Args:
        title: the heading, for people.
        facts: name and value of each.
        as_json: print for programs.
    """
    if as_json:
        show_json({"ok": True, **facts})
    else:
        show_facts(title, list(facts.items()))


def show_table(
    headings: tuple[str, ...], rows: Sequence[tuple[str | tuple[str, str], ...]]
) -> None:
    """Print a table of text, or of (text, style). Text is never read as markup.

    Args:
        headings: one for each column.
        rows: cells; text, or text with a style.
    """
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_WIDTH_OF_A_PIPE)
    if console.width < NARROW:
        for row in rows:
            show_record(headings, [cell if isinstance(cell, str) else cell[0] for cell in row])
        return
    table = Table(*headings, box=SIMPLE_HEAD)
    for row in rows:
        styled = ((cell, "") if isinstance(cell, str) else cell for cell in row)
        table.add_row(*(Text(tame(text), style=style) for text, style in styled))
    console.print(table)


def show_record(headings: Sequence[str], cells: Sequence[str]) -> None:
    """One row as lines of its own, for a terminal that is too narrow for a table.

    Args:
        headings: one for each cell; a cell without one is shown behind the one before.
        cells: text.
    """
    width = max(map(len, headings))
    for heading, cell in zip(headings, cells, strict=True):
        if cell:
            say(f"{heading.ljust(width)}  {cell}")
    say()


def size_text(size: int) -> str:
    """``536.9 MB (536871424 bytes)``: readable and exact."""
    from rich.filesize import decimal

    short = decimal(size)
    return short if short.endswith("bytes") else f"{short} ({size} bytes)"


def warn(text: str) -> None:
    """Print a warning on standard error."""
    say(Styled(text, "yellow", bold=True), err=True)
