"""What people and programs read: errors, tables, progress. Rich is imported only when needed."""

from __future__ import annotations

import json
import os
import tempfile
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

import click

from regalia.core.errors import CoreCode, UsageError

if TYPE_CHECKING:
    from regalia.core.errors import RegaliaError


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
    click.echo(
        click.style(f"refused [{error.code.name}] ", fg="red", bold=True), err=True, nl=False
    )
    click.echo(error.explain(), err=True)


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
        error.show()
    return error.exit_code if error.exit_code != 1 else 2


def show_bug(error: Exception, *, as_json: bool) -> None:
    """Say that this is Regalia's fault, and where the traceback lies (it may hold paths).

    Args:
        error: what nobody expected.
        as_json: print for programs.
    """
    fd, name = tempfile.mkstemp(prefix="regalia-bug-", suffix=".txt")
    with os.fdopen(fd, "w", encoding="utf-8") as file:
        traceback.print_exception(error, file=file)
    what = f"{type(error).__name__} inside Regalia; the traceback is in {Path(name)}"
    if as_json:
        click.echo(json.dumps({"ok": False, "error": {"code": "BUG", "what": what}}, indent=2))
    else:
        click.echo(f"bug: {what}. Please report it.", err=True)


def show_json(value: object) -> None:
    """Print a result for programs."""
    click.echo(json.dumps(value, indent=2, sort_keys=True))
