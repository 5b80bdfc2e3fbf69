"""Short ways to declare options, and the options that several commands have.

An option is declared as its help shows it, ``--name VALUE`` or ``--name [one|other]``, with three
dots if it may be repeated. Its help text comes second, so that none is without one.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from regalia.host.plugins import require_simulation

if TYPE_CHECKING:
    from collections.abc import Callable

F = TypeVar("F", bound="Callable[..., Any]")

FILE = click.Path(dir_okay=False, path_type=Path)
PATH = click.Path(path_type=Path)  # a file or a folder
VERSION_MAX = (1 << 53) - 1  # the largest integer that every reader of JSON keeps exactly
ANCHOR_OPTION = "--dangerous-simulated-anchor"


def option(name: str, text: str, *, into: str | None = None, **more: Any) -> Callable[[F], F]:  # noqa: ANN401 - click's own
    """One option; the help shows its default.

    Args:
        name: as the help shows it.
        text: the help. If the option may be repeated, it says so at its end.
        into: the parameter that gets the value, if its name is another.
        more: what click calls otherwise.
    """
    dashed, _, value = name.partition(" ")
    if value.endswith("..."):
        value, text = value.removesuffix("..."), f"{text} Repeat it for several."
        more["multiple"] = True
    if value.startswith("["):
        more["type"] = click.Choice(value.strip("[]").split("|"))
    elif value:
        more["metavar"] = value
    if "default" in more:
        more.setdefault("show_default", True)
    return click.option(*filter(None, (dashed, into)), **more, help=text)


def flag(name: str, text: str, *, into: str | None = None) -> Callable[[F], F]:
    """An option without a value. Args as ``option``."""
    return option(name, text, into=into, is_flag=True)


def path_option(name: str, text: str, **more: Any) -> Callable[[F], F]:  # noqa: ANN401 - click's own
    """An option whose value is the path of a file or a folder. Args as ``option``."""
    return option(name, text, type=PATH, **more)


def file_option(name: str, text: str, **more: Any) -> Callable[[F], F]:  # noqa: ANN401 - click's own
    """An option whose value is the path of a file, never of a folder. Args as ``option``."""
    return option(name, text, type=FILE, **more)


def number_option(
    name: str,
    text: str,
    least: int | None = None,
    most: int | None = None,
    **more: Any,  # noqa: ANN401 - click's own
) -> Callable[[F], F]:
    """An option whose value is a whole number.

    Args:
        name: as ``option`` has it, and so are all others.
        text: the help.
        least: the smallest number that is accepted; None for no limit.
        most: the largest number that is accepted; None for no limit.
        more: what click calls otherwise.
    """
    return option(name, text, type=click.IntRange(least, most), **more)


def together(*options: Callable[[Any], Any]) -> Callable[[F], F]:
    """Several options as one decorator; the help shows them in this order."""

    def decorate(command: F) -> F:
        decorated: Any = command
        for each in reversed(options):
            decorated = each(decorated)
        return decorated  # type: ignore[no-any-return] # click's decorators keep the type

    return decorate


def _require(_: click.Context, __: click.Parameter, value: Path | None) -> Path | None:
    if value is not None:
        require_simulation(ANCHOR_OPTION)
    return value


# Eager: an installation without regalia-testing refuses it before anything else happens.
simulated_anchor_option = path_option(
    f"{ANCHOR_OPTION} FILE",
    "Trust the roots of simulated platforms in FILE, and no vendor's. Protects nothing.",
    is_eager=True,
    callback=_require,
)
json_option = flag("--json", "Print the result as JSON.", into="as_json")
signers_threshold_option = number_option(
    "--threshold N", "How many of the named signers must have signed.", 1, 16, default=1
)
signing_passphrase_option = path_option(
    "--passphrase-file FILE",
    "Read the signing key's passphrase from FILE (mode 600) instead of asking for it.",
)
# Of commands that read a sealed model.
store_passphrase_option = file_option(
    "--passphrase-file FILE", "Passphrase of the key store: a file of mode 600, instead of asking."
)
signers_option = option(
    "--signer PUB...",
    "Public key that may have signed (NAME.pub), or the word any.",
    into="signers",
)
CHALLENGE_HELP = (
    "What the evidence must be bound to, in full: the report data (64 bytes for SNP, TDX, SGX, and"
    " for an envelope that a runtime wrote), the nonce (Nitro, NVIDIA), extraData of a quote (TPM,"
    " Azure: SHA-256 of the report data), or the 32 bytes that a runtime was asked with. The word"
    " any accepts a replay, and says so."
)
endorsements_option = path_option(
    "--endorsement FILE...",
    "A certificate, CRL, Intel collateral, RIM or event log that belongs to the evidence;"
    " recognized by content.",
    into="endorsements",
)
minimum_version_option = number_option(
    "--minimum-version N", "Refuse an older version.", 1, VERSION_MAX, default=1
)
