"""``regalia collateral``: what verifiers need besides evidence, carried across an air gap."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import click

from regalia.cli.options import (
    PATH,
    VERSION_MAX,
    json_option,
    number_option,
    option,
    path_option,
    signers_threshold_option,
    signing_passphrase_option,
    simulated_anchor_option,
)

_sign_with = path_option(
    "--sign KEY...", "Sign with this private key (NAME.key).", into="sign_with"
)
_signers = path_option(
    "--signer PUB...", "Public key (NAME.pub) that may sign the bundle.", into="signers"
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


_now = option(
    "--now TIME",
    "Judge dates as of this moment (2026-12-31T00:00:00Z) instead of now.",
    callback=_time,
)


@click.group()
def collateral() -> None:
    """Carry what verifiers need across an air gap.

    Certificates, revocation lists, Intel's TCB info and QE identities, NVIDIA's reference values,
    enrolments and deny-lists travel in one signed file with a serial number and dates. Only
    `fetch` uses the network, and only at addresses that you give.
    """


@collateral.command("export")
@click.argument("folder", type=PATH)
@path_option("--out FILE", "The new bundle.", required=True)
@option("--name SITE", "The site or fleet that it is for.")
@number_option(
    "--serial N",
    "Its serial number. With --after, by default one more than that bundle's.",
    1,
    VERSION_MAX,
)
@option(
    "--next-update TIME",
    "Until when it may be used, such as 2026-12-31T00:00:00Z.",
    required=True,
    callback=_time,
)
@path_option(
    "--after BUNDLE", "The bundle that it follows: same site, higher serial number, no lower floor."
)
@number_option(
    "--tcb-floor N",
    "Lowest tcbEvaluationDataNumber from now on. By default the lowest of Intel's documents in it.",
    0,
    2**31 - 1,
)
@_sign_with
@signing_passphrase_option
@_signers
@json_option
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
@click.argument("bundle", type=PATH)
@_sign_with
@signing_passphrase_option
@path_option("--out FILE", "The bundle, signed.", required=True)
@json_option
def sign(**options: Any) -> None:  # noqa: ANN401 - see sign_bundle
    """Add a signature to a bundle, where several people must sign."""
    from regalia.cli.collateral.make import sign_bundle

    sign_bundle(**options)


@collateral.command("import")
@click.argument("bundle", type=PATH)
@path_option(
    "--into FOLDER",
    "Where it is installed, as collateral.bundle. The one before stays beside it.",
    required=True,
)
@_signers
@signers_threshold_option
@option("--name SITE", "The site that it must be for. Needed the first time only.")
@json_option
def import_(**options: Any) -> None:  # noqa: ANN401 - see import_bundle
    """Verify a bundle and install it, whole or not at all.

    Refused if it is unsigned, stale, for another site, or older than what is or was there.
    """
    from regalia.cli.collateral.install import import_bundle

    import_bundle(**options)


@collateral.command("show")
@click.argument("bundle", type=PATH)
@_signers
@signers_threshold_option
@_now
@json_option
def show(**options: Any) -> None:  # noqa: ANN401 - see show_bundle
    """Show what a bundle holds, with its dates. It may be a stale one, or the folder of a site."""
    from regalia.cli.collateral.show import show_bundle

    show_bundle(**options)


@collateral.command("check")
@click.argument("path", type=PATH)
@_signers
@signers_threshold_option
@option("--name SITE", "The site that the bundle must be for.")
@path_option(
    "--state FOLDER", "Folder that remembers the newest bundle; it is read and not changed."
)
@_now
@path_option(
    "--evidence EVIDENCE...", "Say what is missing to verify this evidence.", into="evidence"
)
@json_option
@click.pass_context
def check(context: click.Context, /, **options: Any) -> None:  # noqa: ANN401 - see CheckOptions
    """Check that collateral is in date, and that nothing is missing.

    PATH is a bundle, the folder of a site that it was imported into, or a folder of loose files,
    of which only the dates are checked. The exit status is 5 with COLLATERAL_STALE,
    COLLATERAL_MISSING or another code.
    """
    from regalia.cli.collateral.show import CheckOptions, check_collateral

    context.exit(check_collateral(CheckOptions(**options)))


class _FetchCommand(click.Command):
    """A command with one option for the address of each service that a plug-in names.

    They are looked up when this command is used: no other one needs to import the plug-ins.
    """

    @cached_property
    def _addresses(self) -> list[click.Parameter]:
        from regalia.cli.collateral.input import collateral_services

        return [
            click.Option(
                [f"--{service.option}"], metavar="URL", help=f"{service.about} ({service.public})."
            )
            for service in collateral_services()
        ]

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Put the addresses after --into."""
        own = super().get_params(ctx)
        at = 1 + next(i for i, each in enumerate(own) if each.name == "into")
        return [*own[:at], *self._addresses, *own[at:]]


@collateral.command("fetch", cls=_FetchCommand)
@path_option(
    "--evidence EVIDENCE...",
    "Fetch what is needed to verify this evidence.",
    into="evidence",
    required=True,
)
@path_option("--into FOLDER", "Where the files are written.", required=True)
@simulated_anchor_option
@json_option
def fetch(**options: Any) -> None:  # noqa: ANN401 - see FetchOptions
    """Fetch collateral from its vendors, on a machine that has a network.

    Nothing is asked of an address that you do not give, and nothing is written before it was
    verified. Carry the folder, or a bundle made of it with `regalia collateral export`.
    """
    from regalia.cli.collateral.fetch import FetchOptions, fetch_for
    from regalia.cli.collateral.input import collateral_services

    services = [service.option for service in collateral_services()]
    addresses = {name: options.pop(name.replace("-", "_")) for name in services}
    fetch_for(FetchOptions(addresses=addresses, **options))
