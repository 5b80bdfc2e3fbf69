"""``regalia attest``: look at evidence, and hold it against a policy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from regalia.cli.anchor_option import simulated_anchor_option
from regalia.cli.attest.enroll import enroll
from regalia.cli.collateral.options import collateral_options

if TYPE_CHECKING:
    from collections.abc import Callable

F = TypeVar("F", bound="Callable[..., int]")

_FILE = click.Path(path_type=Path)


@click.group()
def attest() -> None:
    """Verify and inspect evidence of any TEE, offline."""


attest.add_command(enroll)


def _trust_options(command: F) -> F:
    """What the evidence is verified with."""
    options = (
        click.option(
            "--now",
            metavar="TIME",
            required=True,
            help="The moment of the appraisal: now, or an RFC 3339 time such as"
            " 2026-03-01T00:00:00Z. Certificates and collateral must be valid then.",
        ),
        click.option(
            "--endorsement",
            "endorsements",
            multiple=True,
            type=_FILE,
            metavar="FILE",
            help="A certificate, CRL, Intel collateral, RIM or event log; recognized by content."
            " Repeat it for several.",
        ),
        simulated_anchor_option,
    )
    decorated: Any = collateral_options(command)
    for option in reversed(options):
        decorated = option(decorated)
    return decorated  # type: ignore[no-any-return]  # click's decorators keep the type


@attest.command()
@click.argument("evidence", type=_FILE)
@click.option(
    "--policy",
    required=True,
    metavar="FILE|baseline",
    help="A release or client policy, of which the platform's rules are applied; or the word"
    " baseline: what every owner demands of any TEE.",
)
@click.option(
    "--challenge",
    required=True,
    metavar="HEX|any",
    help="What the evidence must be bound to, in full: the report data (64 bytes for SNP, TDX,"
    " SGX), the nonce (Nitro, NVIDIA), extraData of the quote (TPM, Azure: SHA-256 of the report"
    " data), or the 32 bytes that a runtime was asked with."
    " The word any accepts a replay, and says so.",
)
@_trust_options
@click.option(
    "--revocation",
    type=click.Choice(["required", "any"]),
    help="For baseline: any leaves revocation unknown, and the result says so. A policy file has"
    " its own word.",
)
@click.option(
    "--machine",
    "machines",
    multiple=True,
    metavar="HEX",
    help="For baseline: the id of a chip or machine in your own custody; then no other passes."
    " Milan passes in no other way.",
)
@click.option(
    "--signer",
    "signers",
    multiple=True,
    metavar="PUB",
    help="Check that this public key has signed the policy. Repeat it for several.",
)
@click.option("--ear", "ear_out", type=_FILE, metavar="FILE", help="Write the result as EAR.")
@click.option(
    "--sign-with",
    type=_FILE,
    metavar="KEY",
    help="Sign the EAR with this private key; it is then a JWT.",
)
@click.option("--passphrase-file", type=_FILE, metavar="FILE", help="Of that key (mode 600).")
@click.option(
    "--explain",
    is_flag=True,
    help="For a newcomer: what this evidence is, and of every check what it is for.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON, the EAR in it.")
def verify(**options: Any) -> int:  # noqa: ANN401 - click passes them by name
    """Verify EVIDENCE, hold it against a policy, and say of every check how it ended.

    Exit status: 0 affirmed, 5 refused, 11 accepted with a warning (weakened or simulated),
    3 not readable as evidence, 2 usage. Nothing is fetched.
    """
    from regalia.cli.attest.verify import VerifyOptions, verify_file

    return verify_file(VerifyOptions(**options))


@attest.command()
@click.argument("evidence", type=_FILE)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def inspect(evidence: Path, *, as_json: bool) -> None:
    """Show every field of EVIDENCE. Nothing is verified, so none of it is to be trusted."""
    from regalia.cli.attest.inspect import inspect_file

    inspect_file(evidence, as_json=as_json)


attest.add_command(enroll)
