"""``regalia collateral``: what verifiers need besides evidence, carried across an air gap."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from regalia.cli.anchor_option import simulated_anchor_option

if TYPE_CHECKING:
    from collections.abc import Callable

F = TypeVar("F", bound="Callable[..., None]")

_PATH = click.Path(path_type=Path)

_json = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
_passphrase_file = click.option(
    "--passphrase-file",
    type=_PATH,
    metavar="FILE",
    help="Read the signing key's passphrase from FILE (mode 600) instead of asking for it.",
)
_sign_with = click.option(
    "--sign-with",
    multiple=True,
    type=_PATH,
    metavar="KEY",
    help="Sign with this private key (NAME.key). Repeat it for several.",
)
_signers = click.option(
    "--signer",
    "signers",
    multiple=True,
    type=_PATH,
    metavar="PUB",
    help="Public key (NAME.pub) that may sign the bundle. Repeat it for several.",
)
_threshold = click.option(
    "--threshold",
    type=click.IntRange(1, 16),
    default=1,
    show_default=True,
    metavar="N",
    help="How many of the named signers must have signed.",
)


def _time(context: click.Context, parameter: click.Parameter, value: str | None) -> object:
    from regalia.core.clock import parse_rfc3339

    if value is None:
        return None
    try:
        return parse_rfc3339(value)
    except ValueError as exc:
        raise click.BadParameter(
            "want UTC in whole seconds, such as 2026-12-31T00:00:00Z", context, parameter
        ) from exc


_now = click.option(
    "--now",
    callback=_time,
    metavar="TIME",
    help="Judge dates as of this moment (2026-12-31T00:00:00Z) instead of now.",
)


@click.group()
def collateral() -> None:
    """Carry what verifiers need across an air gap.

    Certificates, revocation lists, Intel's TCB info and QE identities, NVIDIA's reference values,
    enrolments and deny-lists travel in one signed file with a serial number and dates. Only
    `fetch` uses the network, and only at addresses that you give.
    """


@collateral.command("export")
@click.argument("folder", type=_PATH)
@click.option("--out", required=True, type=_PATH, metavar="FILE", help="The new bundle.")
@click.option("--name", metavar="SITE", help="The site or fleet that it is for.")
@click.option(
    "--serial",
    type=click.IntRange(1, 2**53 - 1),
    metavar="N",
    help="Its serial number. With --after, by default one more than that bundle's.",
)
@click.option(
    "--next-update",
    required=True,
    callback=_time,
    metavar="TIME",
    help="Until when it may be used, such as 2026-12-31T00:00:00Z.",
)
@click.option(
    "--after",
    type=_PATH,
    metavar="BUNDLE",
    help="The bundle that it follows: same site, higher serial number, no lower floor.",
)
@click.option(
    "--tcb-floor",
    type=click.IntRange(0, 2**31 - 1),
    metavar="N",
    help="Lowest tcbEvaluationDataNumber from now on. By default the lowest of Intel's documents"
    " in it.",
)
@_sign_with
@_passphrase_file
@_signers
@_json
def export(**options: Any) -> None:  # noqa: ANN401 - every option above, named in ExportOptions
    """Make a signed bundle from a folder of loose files.

    Files are told by what they hold: certificates and CRLs (PEM, DER), Intel's TCB info and QE
    identity as its service sends them, documents of Regalia, and NVIDIA's RIMs (XML), which are
    verified and taken in as reference values. The bundle given with --after must be signed by a
    --signer or, without any, by one of the keys that sign now.
    """
    from regalia.cli.collateral.make import ExportOptions, export_folder

    export_folder(ExportOptions(**options))


@collateral.command("sign")
@click.argument("bundle", type=_PATH)
@_sign_with
@_passphrase_file
@click.option("--out", required=True, type=_PATH, metavar="FILE", help="The bundle, signed.")
@_json
def sign(
    *,
    bundle: Path,
    sign_with: tuple[Path, ...],
    passphrase_file: Path | None,
    out: Path,
    as_json: bool,
) -> None:
    """Add a signature to a bundle, where several people must sign."""
    from regalia.cli.collateral.make import sign_bundle

    sign_bundle(bundle, sign_with, passphrase_file, out, as_json=as_json)


@collateral.command("import")
@click.argument("bundle", type=_PATH)
@click.option(
    "--into",
    required=True,
    type=_PATH,
    metavar="DIR",
    help="Where it is installed, as collateral.bundle. The one before stays beside it.",
)
@_signers
@_threshold
@click.option(
    "--name", metavar="SITE", help="The site that it must be for. Needed the first time only."
)
@_json
def import_(
    *,
    bundle: Path,
    into: Path,
    signers: tuple[Path, ...],
    threshold: int,
    name: str | None,
    as_json: bool,
) -> None:
    """Verify a bundle and install it, whole or not at all.

    Refused if it is unsigned, stale, for another site, or older than what is or was there.
    """
    from regalia.cli.collateral.install import import_bundle

    import_bundle(bundle, into, signers, threshold, name, as_json=as_json)


@collateral.command("show")
@click.argument("bundle", type=_PATH)
@_signers
@_threshold
@_now
@_json
def show(**options: Any) -> None:  # noqa: ANN401 - see show_bundle
    """Show what a bundle holds, with its dates. It may be a stale one, or the folder of a site."""
    from regalia.cli.collateral.show import show_bundle

    show_bundle(**options)


@collateral.command("check")
@click.argument("path", type=_PATH)
@_signers
@_threshold
@click.option("--name", metavar="SITE", help="The site that the bundle must be for.")
@click.option(
    "--state",
    type=_PATH,
    metavar="DIR",
    help="Folder that remembers the newest bundle; it is read and not changed.",
)
@_now
@click.option(
    "--for",
    "evidence",
    multiple=True,
    type=_PATH,
    metavar="EVIDENCE",
    help="Say what is missing to verify this evidence. Repeat it for several.",
)
@_json
@click.pass_context
def check(context: click.Context, /, **options: Any) -> None:  # noqa: ANN401 - see CheckOptions
    """Check that collateral is in date, and that nothing is missing.

    PATH is a bundle, the folder of a site that it was imported into, or a folder of loose files,
    of which only the dates are checked. The exit status is 5 with COLLATERAL_STALE,
    COLLATERAL_MISSING or another code.
    """
    from regalia.cli.collateral.show import CheckOptions, check_collateral

    context.exit(check_collateral(CheckOptions(**options)))


@collateral.command("fetch")
@click.option(
    "--for",
    "evidence",
    required=True,
    multiple=True,
    type=_PATH,
    metavar="EVIDENCE",
    help="Fetch what is needed to verify this evidence. Repeat it for several.",
)
@click.option(
    "--into", required=True, type=_PATH, metavar="FOLDER", help="Where the files are written."
)
@click.option(
    "--kds", metavar="URL", help="AMD's key distribution service (https://kdsintf.amd.com)."
)
@click.option(
    "--pcs",
    metavar="URL",
    help="Intel's provisioning certification service (https://api.trustedservices.intel.com).",
)
@click.option(
    "--intel-certificates",
    metavar="URL",
    help="Where Intel's root publishes its list (https://certificates.trustedservices.intel.com).",
)
@click.option(
    "--rims",
    metavar="URL",
    help="NVIDIA's service for reference values (https://rim.attestation.nvidia.com).",
)
@simulated_anchor_option
@_json
def fetch(**options: Any) -> None:  # noqa: ANN401 - see FetchOptions
    """Fetch collateral from its vendors, on a machine that has a network.

    Nothing is asked of an address that you do not give, and nothing is written before it was
    verified. Carry the folder, or a bundle made of it with `regalia collateral export`.
    """
    from regalia.cli.collateral.fetch import FetchOptions, fetch_for

    fetch_for(FetchOptions(**options))
