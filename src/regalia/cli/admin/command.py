"""``regalia admin``: propose, sign, submit and read what a tenant's owners decide."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from regalia.cli.admin.options import (
    chain_of,
    chain_options,
    model_option,
    proposal_of,
    proposal_options,
)
from regalia.cli.options import (
    FILE,
    file_option,
    flag,
    json_option,
    number_option,
    option,
    path_option,
    signing_passphrase_option,
)
from regalia.cli.policy.command import TEES

if TYPE_CHECKING:
    from pathlib import Path

_file = click.argument("file", type=FILE)
_until = option("--until TIME", "Of retire: the last second in which it gets keys, RFC 3339.")
_RESUME_ALL = "The model, model:<64 hex>. By default everything."


@click.group()
def admin() -> None:
    """Decide together: statements that a tenant's owners sign.

    Statements are files until they are submitted to a broker, so everything but `submit --url`
    and what reads a broker works offline.
    """


@admin.group("propose")
def propose() -> None:
    """Write the next statement of a tenant, to be signed by its owners.

    It continues the chain in a folder (--chain) or at a broker (--url); without any it is the
    tenant's first.
    """


@propose.command("charter")
@option(
    "--owner NAME=PUB...",
    "An owner, and the owner's public key (NAME.pub).",
    into="owners",
    required=True,
)
@option("--role NAME=TEXT...", "What an owner answers for. By default owner.", into="roles")
@number_option("--threshold N", "How many owners must sign.", 1, 8, required=True)
@option(
    "--delay KIND=SECONDS...",
    "How long acts of a kind wait before they take effect.",
    into="delays",
)
@proposal_options
def propose_charter(
    *,
    owners: tuple[str, ...],
    roles: tuple[str, ...],
    threshold: int,
    **options: Any,  # noqa: ANN401
) -> None:
    """Say who decides, and how many of them are needed.

    The first charter is signed by all its owners, a later one by enough old and enough new ones.
    """
    from regalia.cli.admin.propose import charter, write_proposal

    delays = options.pop("delays")
    write_proposal(charter(owners, roles, threshold, delays), proposal_of(options))


@propose.command("register-model")
@path_option("--manifest", "The sealed model, or its manifest.json.", required=True)
@option("--ends TIME|never", "The last second of releases, RFC 3339.", required=True)
@option("--site SITE|any...", "Where it may run.", into="sites", required=True)
@option(
    "--jurisdiction REGION|any...", "Regions it may run in.", into="jurisdictions", required=True
)
@option("--operator TIER|any...", "Tiers of operators who may run it.", into="roles", required=True)
@option("--derivatives [none|adapters|any]", "What may be derived from it.", required=True)
@proposal_options
def propose_register(
    *,
    manifest: Path,
    ends: str,
    sites: tuple[str, ...],
    jurisdictions: tuple[str, ...],
    roles: tuple[str, ...],
    derivatives: Any,  # noqa: ANN401 - one of the choices
    **options: Any,  # noqa: ANN401
) -> None:
    """Name a sealing of a model and its terms; a new version is staged by this."""
    from regalia.cli.admin.propose import register_model, terms, write_proposal

    named = terms(
        ends, sites=sites, jurisdictions=jurisdictions, roles=roles, derivatives=derivatives
    )
    write_proposal(register_model(manifest, named), proposal_of(options))


@propose.command("publish-policy")
@file_option("--policy", "The signed release policy.", into="policy_file", required=True)
@proposal_options
def propose_policy(*, policy_file: Path, **options: Any) -> None:  # noqa: ANN401
    """Release a model under this policy, and under no other one."""
    from regalia.cli.admin.propose import publish_policy, write_proposal

    write_proposal(publish_policy(policy_file), proposal_of(options))


@propose.command("reference-value")
@option(f"--tee [{'|'.join(TEES)}]", "The kind of TEE.", required=True)
@option("--measurement HEX", "The launch measurement.", required=True)
@option("--transition [stage|promote|retire|revoke]", "The step of its life.", required=True)
@_until
@proposal_options
def propose_reference(
    *,
    tee: str,
    measurement: str,
    transition: Any,  # noqa: ANN401 - one of the choices
    until: str | None,
    **options: Any,  # noqa: ANN401
) -> None:
    """Move an image along its life: staged, current, retiring, revoked."""
    from regalia.cli.admin.propose import write_proposal
    from regalia.wire.statement import ReferenceValue

    action = ReferenceValue(tee=tee, measurement=measurement, transition=transition, until=until)
    write_proposal(action, proposal_of(options))


@propose.command("model-version")
@model_option("The model, model:<64 hex>.", required=True)
@number_option("--version N", "The version.", 1, required=True)
@option(
    "--transition [stage|promote|retire|revoke]",
    "The step of its life; registering has staged it.",
    required=True,
)
@_until
@proposal_options
def propose_version(
    *,
    model_id: str,
    version: int,
    transition: Any,  # noqa: ANN401 - one of the choices
    until: str | None,
    **options: Any,  # noqa: ANN401
) -> None:
    """Move a registered version of a model along its life."""
    from regalia.cli.admin.propose import write_proposal
    from regalia.wire.statement import ModelVersion

    action = ModelVersion(model_id=model_id, version=version, transition=transition, until=until)
    write_proposal(action, proposal_of(options))


@propose.command("rotate")
@option("--old NAME", "The key-encryption key that is replaced.", required=True)
@option("--new NAME", "The one that replaces it.", required=True)
@proposal_options
def propose_rotate(*, old: str, new: str, **options: Any) -> None:  # noqa: ANN401
    """Replace a key-encryption key: what the old one wraps is released no more."""
    from regalia.cli.admin.propose import write_proposal
    from regalia.wire.statement import Rotate

    write_proposal(Rotate(old=old, new=new), proposal_of(options))


@propose.command("revoke")
@option(
    "--subject [measurement|chip|signer|runtime|model-version]",
    "What kind of thing is revoked.",
    required=True,
)
@option(
    "--value VALUE",
    "TEE:HEX of a measurement or chip, key:<64 hex> of a signer or runtime,"
    " model:<64 hex>@VERSION of a version.",
    required=True,
)
@proposal_options
def propose_revoke(*, subject: Any, value: str, **options: Any) -> None:  # noqa: ANN401
    """Revoke one thing for ever. One owner's signature is enough."""
    from regalia.cli.admin.propose import write_proposal
    from regalia.wire.statement import Revoke

    write_proposal(Revoke(subject=subject, value=value), proposal_of(options))


@propose.command("stop")
@model_option(_RESUME_ALL)
@proposal_options
def propose_stop(*, model_id: str | None, **options: Any) -> None:  # noqa: ANN401
    """Release nothing until owners resume. One owner's signature is enough."""
    from regalia.cli.admin.propose import write_proposal
    from regalia.wire.statement import Stop

    write_proposal(Stop(model_id=model_id), proposal_of(options))


@propose.command("resume")
@model_option(_RESUME_ALL)
@proposal_options
def propose_resume(*, model_id: str | None, **options: Any) -> None:  # noqa: ANN401
    """Lift a stop, with as many signatures as other acts need."""
    from regalia.cli.admin.propose import write_proposal
    from regalia.wire.statement import Resume

    write_proposal(Resume(model_id=model_id), proposal_of(options))


@admin.command("sign")
@_file
@file_option("--sign KEY", "Your private key (NAME.key).", into="key_file", required=True)
@signing_passphrase_option
@file_option("--out FILE", "The statement with your signature.", required=True)
@flag("--yes", "Sign without asking.")
@chain_options
@json_option
def sign(
    *,
    file: Path,
    key_file: Path,
    passphrase_file: Path | None,
    out: Path,
    yes: bool,
    as_json: bool,
    **options: Any,  # noqa: ANN401
) -> None:
    """Read in sentences what a proposal does, and sign it.

    With --chain or --url it is first checked to continue that chain and to fit it.
    """
    from regalia.cli.admin.sign import sign_file

    facts = sign_file(file, key_file, passphrase_file, out=out, yes=yes, where=chain_of(options))
    from regalia.cli.output import report

    report("signed", facts, as_json=as_json)


@admin.command("status")
@click.argument("file", type=FILE, required=False)
@path_option("--out FOLDER", "Write what gathers signatures at the broker there.")
@chain_options
@json_option
def status(*, file: Path | None, out: Path | None, as_json: bool, **options: Any) -> None:  # noqa: ANN401
    """Say who has signed a proposal, who is missing, and until when.

    Without FILE: where the tenant's chain stands, and what gathers signatures at the broker.
    """
    from regalia.cli.admin.status import show_chain_status, show_file_status

    where = chain_of(options)
    if file is not None:
        show_file_status(file, where, as_json=as_json)
        return
    show_chain_status(where, out, as_json=as_json)


@admin.command("submit")
@_file
@chain_options
@json_option
def submit(*, file: Path, as_json: bool, **options: Any) -> None:  # noqa: ANN401
    """Give a signed statement to a broker, or add a complete one to a folder.

    A broker keeps it until enough owners have signed, and then appends it to the log.
    """
    from regalia.cli.admin.submit import submit_file

    submit_file(file, chain_of(options), as_json=as_json)


@admin.command("show")
@chain_options
@json_option
def show(*, as_json: bool, **options: Any) -> None:  # noqa: ANN401
    """Verify a tenant's whole chain, and show every statement and what holds now."""
    from regalia.cli.admin.show import show_chain

    show_chain(chain_of(options), as_json=as_json)


@admin.command("simulate")
@_file
@option("--url URL", "Address of the broker.")
@option("--database URL", "The log's own database, for example sqlite:///log.db.")
@option(
    "--log-key VKEY",
    "The log's verifier key, or the .vkey file that `regalia keygen log` wrote.",
    into="log_key",
    required=True,
)
@option("--charter DIGEST", "sha256:<hex> of the tenant's statement 1.", required=True)
@json_option
def simulate(
    *,
    file: Path,
    url: str | None,
    database: str | None,
    log_key: str,
    charter: str,
    as_json: bool,
) -> None:
    """Say which live leases would lose the key if this statement were in force now.

    The whole log is read and verified. Placement and adapters are in no record, so terms other
    than their end are not simulated.
    """
    from regalia.cli.admin.leases import show_lost_leases

    show_lost_leases(
        file, url=url, database=database, log_key=log_key, charter=charter, as_json=as_json
    )
