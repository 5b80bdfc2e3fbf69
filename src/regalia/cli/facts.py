"""What the commands around sealed models share: facts in two columns, sizes, a progress bar."""

from __future__ import annotations

import signal
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import FrameType

_WIDTH_OF_A_PIPE = 200  # columns: no id is broken when the output is searched


def show_facts(title: str, facts: list[tuple[str, str]]) -> None:
    """Print a heading and aligned pairs, unbroken, so that every id can be copied and searched.

    Args:
        title: the heading.
        facts: name and value of each.
    """
    width = max(len(name) for name, _ in facts)
    click.echo(click.style(title, bold=True))
    for name, value in facts:
        click.echo(f"{click.style(name.ljust(width), dim=True)}  {value}")


def show_table(
    headings: tuple[str, ...], rows: Sequence[tuple[str | tuple[str, str], ...]]
) -> None:
    """Print a table of text, or of (text, style). Text is shown as it is, never as markup.

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
    table = Table(*headings, box=SIMPLE_HEAD)
    for row in rows:
        table.add_row(*(Text(c) if isinstance(c, str) else Text(c[0], style=c[1]) for c in row))
    console.print(table)


def size_text(size: int) -> str:
    """``536.9 MB (536871424 bytes)``: readable and exact."""
    from rich.filesize import decimal

    short = decimal(size)
    return short if short.endswith("bytes") else f"{short} ({size} bytes)"


def warn(text: str) -> None:
    """Print a warning on standard error."""
    click.echo(click.style(text, fg="yellow", bold=True), err=True)


@contextmanager
def progress_bar(label: str, *, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """Yield a function of (bytes done, bytes in all) that draws a bar on a terminal only.

    Args:
        label: before the bar.
        quiet: draw nothing.
    """
    if quiet or not sys.stderr.isatty():
        yield lambda _done, _total: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def termination_interrupts() -> Iterator[None]:
    """Let SIGTERM end the block as Ctrl-C does, so that nothing half-written stays behind."""

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
