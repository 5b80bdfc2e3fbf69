"""Options of every command that verifies evidence: where collateral is, and whose a bundle is."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from regalia.core.errors import CoreCode, UsageError
from regalia.host.localfs import read_file

if TYPE_CHECKING:
    from collections.abc import Callable

    from regalia.client.collateral import BundleSource
    from regalia.crypto.sign import VerifyKey

F = TypeVar("F", bound="Callable[..., Any]")

_PATH = click.Path(path_type=Path)
_PEM_LIMIT = 64 * 1024  # bytes

_OPTIONS = (
    click.option(
        "--collateral",
        type=_PATH,
        metavar="PATH",
        help="Folder with certificates, CRLs and vendors' documents; or a signed bundle of them.",
    ),
    click.option(
        "--collateral-signer",
        "collateral_signers",
        multiple=True,
        type=_PATH,
        metavar="PUB",
        help="Public key (NAME.pub) that may sign the bundle. Repeat it for several.",
    ),
    click.option(
        "--collateral-threshold",
        type=click.IntRange(1, 16),
        default=1,
        show_default=True,
        metavar="N",
        help="How many of the named signers must have signed the bundle.",
    ),
    click.option(
        "--collateral-name",
        metavar="SITE",
        help="The site that the bundle must be for.",
    ),
    click.option(
        "--collateral-state",
        type=_PATH,
        metavar="DIR",
        help="Folder that remembers the newest bundle, so that no older one is accepted again.",
    ),
)


def collateral_options(command: F) -> F:
    """Add the options; the command gets one argument, ``collateral``, made of them."""

    @functools.wraps(command)
    def with_source(*args: object, **kwargs: Any) -> object:  # noqa: ANN401 - whatever the command takes
        kwargs["collateral"] = source_of(
            kwargs["collateral"],
            signers=kwargs.pop("collateral_signers"),
            threshold=kwargs.pop("collateral_threshold"),
            name=kwargs.pop("collateral_name"),
            state=kwargs.pop("collateral_state"),
        )
        return command(*args, **kwargs)

    wrapped: Any = with_source
    for option in reversed(_OPTIONS):
        wrapped = option(wrapped)
    return wrapped  # type: ignore[no-any-return]  # click's decorators keep the type of what they get


def source_of(
    path: Path | None,
    *,
    signers: tuple[Path, ...],
    threshold: int,
    name: str | None,
    state: Path | None,
) -> Path | BundleSource | None:
    """What the options say.

    Args:
        path: a folder or a bundle; None for no collateral.
        signers: public keys of those who may have signed a bundle.
        threshold: how many of them must have.
        name: of the site that it must be for.
        state: the folder that remembers serial numbers.

    Raises:
        UsageError: some of a bundle's options are given and others are not.
        ParseError, LocalError: a key cannot be read.
    """
    from regalia.client.collateral import BundleSource

    if not signers and name is None and state is None:
        return path
    if path is None or not signers or name is None or state is None:
        raise UsageError(
            CoreCode.BAD_USAGE,
            "a bundle needs --collateral, --collateral-signer, --collateral-name and "
            "--collateral-state",
        )
    return BundleSource(
        path=path, signers=read_keys(signers), threshold=threshold, name=name, state=state
    )


def read_keys(paths: tuple[Path, ...]) -> tuple[VerifyKey, ...]:
    """Public keys. Raises ParseError or LocalError."""
    from regalia.crypto.sign import VerifyKey

    return tuple(VerifyKey.from_pem(read_file(path, limit=_PEM_LIMIT)) for path in paths)
