"""Options of every command that verifies evidence: where collateral is, and whose a bundle is."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, TypeVar

from regalia.cli.options import number_option, option, path_option, together
from regalia.core.errors import CoreCode, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from regalia.client.collateral import BundleSource

F = TypeVar("F", bound="Callable[..., Any]")

_OPTIONS = together(
    path_option(
        "--collateral PATH",
        "Folder with certificates, CRLs and vendors' documents; or a signed bundle of them.",
    ),
    path_option(
        "--collateral-signer PUB...",
        "Public key (NAME.pub) that may sign the bundle.",
        into="collateral_signers",
    ),
    number_option(
        "--collateral-threshold N",
        "How many of the named signers must have signed the bundle.",
        1,
        16,
        default=1,
    ),
    option("--collateral-name SITE", "The site that the bundle must be for."),
    path_option(
        "--collateral-state FOLDER",
        "Folder that remembers the newest bundle, so that no older one is accepted again.",
    ),
)


def collateral_options(command: F) -> F:
    """Add the options; the command gets one argument, ``collateral``, made of them."""

    @functools.wraps(command)
    def with_source(*args: object, **kwargs: Any) -> object:  # noqa: ANN401 - whatever the command takes
        kwargs["collateral"] = _source_of(
            kwargs["collateral"],
            signers=kwargs.pop("collateral_signers"),
            threshold=kwargs.pop("collateral_threshold"),
            name=kwargs.pop("collateral_name"),
            state=kwargs.pop("collateral_state"),
        )
        return command(*args, **kwargs)

    wrapped: Any = _OPTIONS(with_source)
    return wrapped  # type: ignore[no-any-return]  # click's decorators keep the type of what they get


def _source_of(
    path: Path | None,
    *,
    signers: tuple[Path, ...],
    threshold: int,
    name: str | None,
    state: Path | None,
) -> Path | BundleSource | None:
    """Combine the options. A signed bundle needs all of the options for bundles."""
    if not signers and name is None and state is None:
        return path
    from regalia.cli.key_files import read_public_keys
    from regalia.client.collateral import BundleSource

    if path is None or not signers or name is None or state is None:
        raise UsageError(
            CoreCode.BAD_USAGE,
            "a bundle needs --collateral, --collateral-signer, --collateral-name and "
            "--collateral-state",
        )
    return BundleSource(
        path=path, signers=read_public_keys(signers), threshold=threshold, name=name, state=state
    )
