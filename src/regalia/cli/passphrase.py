"""Reads passphrases from a terminal or a private file, never from arguments or the environment:
other processes on the machine can read those.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from regalia.core.errors import Code, UsageError
from regalia.core.secret import SecretBytes
from regalia.host.localfs import read_private_file

if TYPE_CHECKING:
    from pathlib import Path

LIMIT = 1024  # bytes; a longer file is not a passphrase
NEW_MAX = 1023  # bytes of a new passphrase; the library encrypts no key under a longer one


class PassphraseCode(Code):
    """Refusals around passphrases."""

    PASSPHRASE_NEEDED = (
        "The key is protected by a passphrase, and there is no terminal to ask for it.",
        "Give --passphrase-file FILE; the file holds the passphrase and has mode 600.",
    )
    PASSPHRASE_EMPTY = (
        "An empty passphrase protects nothing.",
        "Choose a passphrase that is hard to guess: five random words or more.",
    )
    PASSPHRASE_TOO_LONG = (
        "Keys cannot be encrypted under a passphrase of any length.",
        "Choose a shorter one: nobody guesses ten random words.",
    )
    PASSPHRASE_NOT_TEXT = (
        "What was typed must be the same bytes on every terminal.",
        "Type it on a terminal that is set to UTF-8, or give --passphrase-file FILE.",
    )


def read_passphrase(path: Path | None, *, confirm: bool, name: str = "passphrase") -> SecretBytes:
    """Read a passphrase from ``path`` or, without one, from the terminal.

    Args:
        path: a file of mode 600; one trailing newline is not part of the passphrase.
        confirm: ask twice. For a passphrase that protects something new.
        name: what the prompt calls it.

    Raises:
        UsageError: PASSPHRASE_NEEDED without a file and a terminal, PASSPHRASE_EMPTY,
            PASSPHRASE_TOO_LONG or PASSPHRASE_NOT_TEXT.
        LocalError: the file is missing or readable by others.
    """
    if path is not None:
        raw = read_private_file(path, limit=LIMIT)
        data = bytearray(raw.removesuffix(b"\n").removesuffix(b"\r"))
    else:
        if not sys.stdin.isatty():
            raise UsageError(PassphraseCode.PASSPHRASE_NEEDED, "no terminal and no passphrase file")
        data = _ask(name, confirm=confirm)
    if not data:
        raise UsageError(PassphraseCode.PASSPHRASE_EMPTY, "the passphrase is empty")
    if confirm and len(data) > NEW_MAX:
        raise UsageError(
            PassphraseCode.PASSPHRASE_TOO_LONG, f"the passphrase has over {NEW_MAX} bytes"
        )
    return SecretBytes(data)


def _ask(name: str, *, confirm: bool) -> bytearray:
    prompt = name[:1].upper() + name[1:]
    try:
        text: str = click.prompt(prompt, hide_input=True, confirmation_prompt=confirm, err=True)
        return bytearray(text.encode())
    except UnicodeError:  # its text would show what was typed
        raise UsageError(
            PassphraseCode.PASSPHRASE_NOT_TEXT, "what was typed is not UTF-8"
        ) from None
