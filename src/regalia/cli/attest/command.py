"""``regalia attest``: collect evidence, look at it, and hold it against a policy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from regalia.cli.attest.enroll import enroll
from regalia.cli.collateral.options import collateral_options
from regalia.cli.options import (
    CHALLENGE_HELP,
    PATH,
    endorsements_option,
    flag,
    json_option,
    option,
    path_option,
    simulated_anchor_option,
    together,
)

if TYPE_CHECKING:
    from pathlib import Path


@click.group()
def attest() -> None:
    """Collect, verify and inspect evidence of any TEE, offline."""


_trust_options = together(
    option(
        "--now TIME",
        "The moment of the appraisal: now, or an RFC 3339 time such as 2026-03-01T00:00:00Z."
        " Certificates and collateral must be valid then.",
        required=True,
    ),
    endorsements_option,
    simulated_anchor_option,
    collateral_options,
)


@attest.command()
@click.argument("evidence", type=PATH)
@option(
    "--policy FILE|baseline",
    "A release or client policy, of which the platform's rules are applied, or a platform section"
    " by itself; or the word baseline: what every owner demands of any TEE.",
    required=True,
)
@option(
    "--challenge HEX|any",
    CHALLENGE_HELP,
    required=True,
)
@_trust_options
@option(
    "--revocation [required|any]",
    "For baseline: any leaves revocation unknown, and the result says so. A policy file has"
    " its own word.",
)
@option(
    "--machine HEX",
    "For baseline: the id of a chip or machine in your own custody; then no other passes."
    " Milan passes in no other way.",
    into="machines",
    multiple=True,
)
@option("--signer PUB...", "Check that this public key has signed the policy.", into="signers")
@path_option("--ear FILE", "Write the result as EAR.", into="ear_out")
@path_option(
    "--sign KEY", "Sign the EAR with this private key; it is then a JWT.", into="sign_with"
)
@path_option("--passphrase-file FILE", "Of that key (mode 600).")
@flag("--explain", "For a newcomer: what this evidence is, and of every check what it is for.")
@flag("--json", "Print the result as JSON, the EAR in it.", into="as_json")
def verify(**options: Any) -> int:  # noqa: ANN401 - click passes them by name
    """Verify EVIDENCE, hold it against a policy, and say of every check how it ended.

    Exit status: 0 affirmed, 5 refused, 11 accepted with a warning (weakened or simulated),
    3 not readable as evidence, 2 usage. Nothing is fetched.
    """
    from regalia.cli.attest.verify import VerifyOptions, verify_file

    return verify_file(VerifyOptions(**options))


@attest.command()
@click.argument("evidence", type=PATH)
@flag("--raw", "Show every field, and bytes in full.")
@json_option
def inspect(evidence: Path, *, raw: bool, as_json: bool) -> None:
    """Show the fields of EVIDENCE. Nothing is verified, so none of it is to be trusted.

    Versions are shown as versions, and long values by their ends; --json has every field.
    """
    from regalia.cli.attest.inspect import inspect_file

    inspect_file(evidence, raw=raw, as_json=as_json)


@attest.command()
@option(
    "--source [snp|tdx|nitro|tpm|az-snp|az-tdx|nvidia]",
    "What this machine is asked through: docs/reference/evidence-sources.md.",
    required=True,
)
@path_option("--out FILE", "Write the evidence there.", required=True)
@option(
    "--challenge HEX",
    "What the evidence is bound to, in full, as `attest verify` takes it. By default 32 or 64"
    " random bytes, which are printed.",
)
@option(
    "--option NAME=VALUE...",
    "An option of the source, such as tcti=device:/dev/tpm0.",
    into="options",
)
@json_option
def collect(
    *, source: str, out: Path, challenge: str | None, options: tuple[str, ...], as_json: bool
) -> None:
    """Collect evidence of this machine, without a runtime.

    Nothing is verified, and nothing is recorded in the machine: such evidence releases no key. It
    is for looking at, and for pinning reference values.
    """
    from regalia.cli.attest.collect import collect_file

    collect_file(source, out, challenge=challenge, options=options, as_json=as_json)


attest.add_command(enroll)
