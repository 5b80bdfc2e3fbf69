"""One thing has one name in all commands, and one name means one thing."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import click

from regalia.cli.main import COMMANDS, cli
from regalia.cli.policy.command import TEES
from regalia.wire.evidence import Tee

if TYPE_CHECKING:
    from collections.abc import Iterator

# What a value is, by the word that help shows for it, and the options that take one. Whoever adds
# an option that is not here says first why none of these names is the one for it.
NAMES: dict[str, set[str]] = {
    "ADDRESS": set(),
    "BUNDLE": {"--after"},
    "EVIDENCE": {"--evidence"},
    "F,M,S": {"--vcpu-cpuid"},
    "FILE|baseline": {"--policy"},
    "DIGEST": {"--charter"},
    "FOLDER": {
        "--chain", "--collateral-state", "--follow-links-into", "--into", "--out", "--state",
    },
    "HEX": {"--challenge", "--guest-features", "--machine", "--measurement"},
    "HEX|any": {"--challenge"},
    "HOST:PORT": {"--listen"},
    "KEY": {"--sign"},
    "KIND=SECONDS": {"--delay"},
    "MODEL": {"--model"},
    "NAME": {"--new", "--old", "--origin", "--out", "--vcpu-type"},
    "NAME=PUB": {"--owner"},
    "NAME=TEXT": {"--role"},
    "NAME=VALUE": {"--option"},
    "OUT.json": {"--evidence-only"},
    "PATH": {"--collateral", "--phases"},
    "PROMPT": {"--once"},
    "PUB": {"--signer", "--collateral-signer", "--approver", "--approval"},
    "REF": {"--key", "--to"},
    "REGION|any": {"--jurisdiction"},
    "SEALED": {"--base", "--out"},
    "SECONDS": {"--lease", "--max-age"},
    "SITE": {"--name", "--collateral-name"},
    "SITE|any": {"--site"},
    "TCTI": {"--tcti"},
    "TENANT": {"--tenant"},
    "TEXT": {"--cmdline"},
    "TIER|any": {"--operator"},
    "TIME": {"--next-update", "--not-after", "--not-before", "--now", "--until"},
    "TIME|never": {"--ends"},
    "URL": {"--url", "--database"},
    "VALUE": {"--value"},
    "VERSION": {"--systemd"},
    "VKEY": {"--log-key"},
    "FILE": {
        "--certificate", "--client-out", "--config", "--dangerous-simulated-anchor", "--ear",
        "--earlier", "--ek-root", "--endorsement", "--initrd", "--kernel", "--out",
        "--passphrase-file", "--proof", "--remember", "--sign-passphrase-file", "--state",
        "--to-passphrase-file",
    },
    "N": {
        "--approvals", "--collateral-threshold", "--days", "--grace-hours", "--holders",
        "--minimum-version", "--model-version", "--serial", "--tcb-floor", "--threads",
        "--threshold", "--vcpus", "--version",
    },
}  # fmt: skip
# Names that were synonyms of others.
GONE = {
    "--report-data": "--challenge",
    "--sign-with": "--sign",
    "--from": "--evidence",
    "--for": "--evidence",
    "--owner-key": "--signer",
}
ADDED = {"demo"}  # other distributions' commands


def options() -> Iterator[tuple[str, click.Option]]:
    """Every option of every command of the product, with the command's name."""
    context = click.Context(cli)

    def walk(command: click.Command, name: str) -> Iterator[tuple[str, click.Option]]:
        if isinstance(command, click.Group):
            for each in command.list_commands(context):
                inner = command.get_command(context, each)
                assert inner is not None
                yield from walk(inner, f"{name} {each}")
            return
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                yield name, parameter

    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None
        yield from walk(command, name)


def test_every_name_is_known() -> None:
    found: dict[str, set[str]] = defaultdict(set)
    for _, option in options():
        if option.metavar is not None:
            found[option.metavar].add(option.opts[0])
    assert dict(found) == {word: names for word, names in NAMES.items() if names}


def test_one_name_for_one_option() -> None:
    for command, option in options():
        assert len([name for name in option.opts if name.startswith("--")]) == 1, command
        assert option.opts[0] not in GONE, f"{command}: it is {GONE[option.opts[0]]} elsewhere"


def test_choices_of_one_name_are_alike() -> None:
    choices: dict[str, set[tuple[str, ...]]] = defaultdict(set)
    for _, option in options():
        if isinstance(option.type, click.Choice):
            choices[option.opts[0]].add(tuple(map(str, option.type.choices)))
    assert all(len(kinds) == 1 for kinds in choices.values()), choices


def test_every_tee_can_be_named() -> None:
    assert tuple(Tee) == TEES
