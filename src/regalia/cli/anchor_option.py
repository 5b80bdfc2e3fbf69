"""The option that makes a command trust a simulated platform."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from regalia.host.plugins import require_simulation

if TYPE_CHECKING:
    from collections.abc import Callable

F = TypeVar("F", bound="Callable[..., object]")

ANCHOR_OPTION = "--dangerous-simulated-anchor"


def _require(_: click.Context, __: click.Parameter, value: Path | None) -> Path | None:
    if value is not None:
        require_simulation(ANCHOR_OPTION)
    return value


def simulated_anchor_option(command: F) -> F:
    """Add ``dangerous_simulated_anchor``, a path or None.

    It is eager: an installation without regalia-testing refuses it before anything else happens.
    """
    return click.option(
        ANCHOR_OPTION,
        type=click.Path(path_type=Path),
        metavar="FILE",
        is_eager=True,
        callback=_require,
        help="Trust the roots of simulated platforms in FILE, and no vendor's. Protects nothing.",
    )(command)
