"""No machine here can run the page on real hardware, but its commands and codes must exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from regalia.cli.main import cli

PROJECT = Path(__file__).parents[2]
PAGE = (PROJECT / "docs/howto/real-hardware.md").read_text()
CODES = (PROJECT / "docs/errors.md").read_text()
BLOCKS = re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
JOINED = [block.replace("\\\n", " ") for block in BLOCKS]
COMMANDS = [line for block in JOINED for line in block.splitlines() if line.startswith("regalia ")]


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_of_the_page_exists_with_its_options(line: str) -> None:
    words = shlex.split(line, comments=True)[1:]
    command: click.Command = cli
    context = click.Context(cli, **cli.context_settings)  # the help option is kept as first made
    while isinstance(command, click.Group):
        found = command.get_command(context, words.pop(0))
        assert found is not None, line
        command = found
    known = {name: each for each in command.get_params(context) for name in each.opts}
    for word in words:
        assert not word.startswith("--") or word in known, f"{word} of: {line}"
    given = [known[word] for word in words if word in known]
    missing = [
        each.name
        for each in known.values()
        if each.required and isinstance(each, click.Option) and each not in given
    ]
    assert not missing, line


def test_no_command_of_the_page_writes_what_another_has_written() -> None:
    """Nothing is overwritten: the second one would be refused with FILE_EXISTS."""
    words = [word for line in COMMANDS for word in shlex.split(line, comments=True)]
    written = [
        words[at + 1] for at, word in enumerate(words) if word in {"--out", "--evidence-only"}
    ]
    assert len(written) >= 3
    assert len(set(written)) == len(written)


def test_whatever_verifies_evidence_is_given_collateral() -> None:
    """Genuine evidence is refused without its vendor's lists."""
    verifying = [line for line in COMMANDS if "--challenge any" in line]
    assert len(verifying) >= 3
    assert all("--collateral collateral/" in line for line in verifying)


def test_the_page_has_commands() -> None:
    assert len(COMMANDS) >= 8


def test_the_codes_of_the_page_exist() -> None:
    named = re.findall(r"\| ([A-Z_]{6,}) \|$|\b([A-Z]+_[A-Z_]+)\.$", PAGE, re.MULTILINE)
    codes = {name for pair in named for name in pair if name}
    assert len(codes) >= 7
    assert all(f"`{code}`" in CODES for code in codes), codes
