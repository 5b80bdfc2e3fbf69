"""``regalia policy``: write, read, sign and explain policies."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from regalia.cli.anchor_option import simulated_anchor_option
from regalia.cli.collateral.options import collateral_options
from regalia.cli.facts import show_facts, show_table
from regalia.cli.output import show_json
from regalia.core.errors import CoreCode, UsageError
from regalia.host.localfs import read_file, write_new

if TYPE_CHECKING:
    from collections.abc import Callable

F = TypeVar("F", bound="Callable[..., None]")

EXIT_DENIED = 6
_FILE = click.Path(path_type=Path)

_json = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
_policy_file = click.argument("file", type=_FILE)
_passphrase_file = click.option(
    "--passphrase-file",
    type=_FILE,
    metavar="FILE",
    help="Read the signing key's passphrase from FILE (mode 600) instead of asking for it.",
)
_sign_with = click.option(
    "--sign",
    "sign_with",
    multiple=True,
    type=_FILE,
    metavar="KEY",
    help="Sign with this private key (NAME.key). Repeat it for several.",
)


def _signature_options(command: F) -> F:
    """How the signature of a policy file is checked."""
    signer = click.option(
        "--signer",
        "signers",
        multiple=True,
        metavar="PUB",
        help="Check that this public key (NAME.pub) has signed. Repeat it for several.",
    )
    threshold = click.option(
        "--threshold",
        type=click.IntRange(1, 16),
        default=1,
        show_default=True,
        metavar="N",
        help="How many of the named signers must have signed.",
    )
    return signer(threshold(command))


def _evidence_options(command: F) -> F:
    """How evidence is verified."""
    report_data = click.option(
        "--report-data",
        metavar="HEX",
        help="The 64 bytes of report data that the evidence must carry, or the word any. For a"
        " vendor's own evidence: its report data or nonce, in full.",
    )
    challenge = click.option(
        "--challenge",
        metavar="HEX",
        help="In place of --report-data, if the file is what a runtime answered: the 32 bytes"
        " that it was asked with.",
    )
    return report_data(challenge(collateral_options(simulated_anchor_option(command))))


# What an owner decides and no evidence tells.
_CHOICES = (
    click.option("--name", default="pinned", show_default=True, help="A name for people."),
    click.option(
        "--version",
        default=1,
        show_default=True,
        metavar="N",
        help="The policy's version; a broker never goes back to an older one.",
    ),
    click.option(
        "--minimum-version",
        type=int,
        metavar="N",
        help="Lowest accepted version of the model. By default the manifest's.",
    ),
    click.option(
        "--lease",
        "lease_s",
        default=900,
        show_default=True,
        metavar="SECONDS",
        help="How long a runtime keeps the key before it must attest again.",
    ),
    click.option(
        "--holders",
        default=1,
        show_default=True,
        metavar="N",
        help="How many runtimes may hold the key at the same time.",
    ),
    click.option(
        "--max-age",
        "max_age_s",
        default=60,
        show_default=True,
        metavar="SECONDS",
        help="How old a challenge may be when its evidence arrives.",
    ),
    click.option(
        "--custody",
        multiple=True,
        default=("broker",),
        show_default=True,
        type=click.Choice(["broker", "hsm"]),
        help="Where the model key may be in clear during a release. Repeat it for both.",
    ),
    click.option(
        "--approver",
        "approvers",
        multiple=True,
        metavar="PUB",
        help="Public key (NAME.pub or key:<64 hex>) of somebody who may approve releases.",
    ),
    click.option(
        "--approvals",
        default=0,
        show_default=True,
        metavar="N",
        help="How many approvers must approve a release.",
    ),
    click.option("--pin-chip", is_flag=True, help="Accept this chip only. Milan needs it."),
    click.option(
        "--any-host-data",
        is_flag=True,
        help="Accept other runtime configurations with the same placement, egress and keys.",
    ),
)


def _choice_options(command: F) -> F:
    for option in reversed(_CHOICES):
        command = option(command)
    return command


@click.group()
def policy() -> None:
    """Write, read and explain release policies.

    A release policy says under which conditions a broker releases a model key; the model's
    owner signs it. A client policy says what a client demands before it sends a prompt.
    """


@policy.command("pin")
@click.option(
    "--from",
    "source",
    required=True,
    type=_FILE,
    metavar="EVIDENCE",
    help="Evidence of a known-good runtime: an envelope, or what a runtime answered. With"
    " --platform-only also a vendor's own evidence, of any TEE or of NVIDIA devices.",
)
@click.option(
    "--platform-only",
    is_flag=True,
    help="Write no policy but its platform section: the reference values of this evidence, to be"
    " put into one. The only way for a vendor's own evidence, which holds no configuration of a"
    " runtime.",
)
@click.option(
    "--model",
    metavar="MODEL",
    help="A sealed model (its directory or manifest), or model:<64 hex>.",
)
@click.option(
    "--signer",
    "owner",
    metavar="PUB",
    help="The owner's public key: NAME.pub or key:<64 hex>.",
)
@click.option(
    "--out",
    required=True,
    type=_FILE,
    metavar="FILE",
    help="The release policy: signed with --sign, otherwise a draft to read and edit. Or, with"
    " --platform-only, the platform section.",
)
@click.option("--client-out", type=_FILE, metavar="FILE", help="Write a client policy as well.")
@_sign_with
@_passphrase_file
@_evidence_options
@click.option(
    "--now",
    metavar="TIME",
    default="now",
    show_default=True,
    help="The moment of the check, RFC 3339: when the evidence was made, if it is a recording.",
)
@click.option(
    "--endorsement",
    "endorsements",
    multiple=True,
    type=_FILE,
    metavar="FILE",
    help="A certificate, CRL, Intel collateral, RIM or event log that belongs to the evidence;"
    " recognized by content. Repeat it for several.",
)
@click.option(
    "--revocation",
    type=click.Choice(["required", "any"]),
    default="required",
    show_default=True,
    help="Whether a current CRL must be in --collateral.",
)
@_choice_options
@_json
def pin(**options: Any) -> None:  # noqa: ANN401 - every option above, named in PinOptions
    """Write a policy from the evidence of a known-good runtime.

    Measured values are pinned, of any TEE and of all devices that answered: product,
    measurement, security versions, firmware, state and runtime configuration. The rest you
    choose. What stays open is printed.
    """
    from regalia.cli.policy.pin import PinOptions, pin_files

    pin_files(PinOptions(**options))


@policy.command("show")
@_policy_file
@_signature_options
@_json
def show(*, file: Path, signers: tuple[str, ...], threshold: int, as_json: bool) -> None:
    """Show every field of a policy and whether it is left open."""
    from regalia.cli.policy.input import read_policy
    from regalia.cli.policy.output import policy_document, policy_facts, show_headline
    from regalia.policy.explain import statements

    found = read_policy(file, signers, threshold)
    if as_json:
        show_json({**policy_facts(file, found), "policy": policy_document(found.policy)})
        return
    show_headline(file, found)
    rows = [
        (each.path, each.value, "" if each.risk is None else "OPEN")
        for each in statements(found.policy)
    ]
    show_table(("field", "value", ""), rows)


@policy.command("check")
@_policy_file
@_signature_options
@click.option(
    "--out",
    type=_FILE,
    metavar="FILE",
    help="Write the policy in canonical form, the only one in which clients read theirs.",
)
@_json
def check(
    *, file: Path, signers: tuple[str, ...], threshold: int, out: Path | None, as_json: bool
) -> None:
    """Check that a policy is well-formed, and say what it leaves open."""
    from regalia.cli.policy.input import read_policy
    from regalia.cli.policy.output import policy_facts, show_headline, show_open

    found = read_policy(file, signers, threshold)
    if out is not None:
        write_new(out, found.policy.encode())
    if as_json:
        show_json(policy_facts(file, found))
        return
    show_headline(file, found)
    show_open(found.policy)


@policy.command("sign")
@_policy_file
@_sign_with
@_passphrase_file
@click.option("--out", required=True, type=_FILE, metavar="FILE", help="The signed policy.")
@_json
def sign(
    *,
    file: Path,
    sign_with: tuple[Path, ...],
    passphrase_file: Path | None,
    out: Path,
    as_json: bool,
) -> None:
    """Sign a release policy: a draft, or one that others have signed already.

    Signing brings a draft into canonical form. What the policy leaves open is printed first.
    """
    from regalia.cli.policy.input import must_be_new, read_policy, signing_keys
    from regalia.cli.policy.output import policy_id, show_open
    from regalia.crypto.dsse import LIMIT
    from regalia.policy.documents import ReleasePolicy
    from regalia.policy.signed import add_signatures, sign_release_policy

    if not sign_with:
        raise UsageError(CoreCode.BAD_USAGE, "name a private key with --sign")
    must_be_new(out)
    found = read_policy(file, (), 1)
    if not isinstance(found.policy, ReleasePolicy):
        raise UsageError(CoreCode.BAD_USAGE, f"{file} is a client policy, which is not signed")
    show_open(found.policy)
    keys = signing_keys(sign_with, passphrase_file)
    signed = (
        add_signatures(read_file(file, limit=LIMIT), keys)
        if found.signed_by
        else sign_release_policy(found.policy, keys)
    )
    write_new(out, signed)
    names = [*found.signed_by, *(str(key.verify_key.fingerprint) for key in keys)]
    identity = policy_id(found.policy)
    if as_json:
        show_json({"ok": True, "out": str(out), "policy_id": identity, "signed_by": names})
        return
    show_facts(f"{out} holds", [("policy id", identity), ("signed by", ", ".join(names))])


@policy.command("explain")
@_policy_file
@_signature_options
@click.option(
    "--evidence",
    multiple=True,
    type=_FILE,
    metavar="EVIDENCE",
    help="Say what the policy makes of this evidence. Repeat it for several.",
)
@_evidence_options
@click.option(
    "--model-version",
    type=int,
    metavar="N",
    help="The model's version that is asked for. By default the lowest accepted one.",
)
@click.option(
    "--holders",
    default=0,
    show_default=True,
    metavar="N",
    help="Suppose that so many runtimes hold the key already.",
)
@click.option(
    "--approval",
    "approvals",
    multiple=True,
    metavar="PUB",
    help="Suppose that this approver has approved. Repeat it for several.",
)
@click.option(
    "--custody",
    default="broker",
    show_default=True,
    type=click.Choice(["broker", "hsm"]),
    help="Suppose this custody of the model key.",
)
@_json
@click.pass_context
def explain(context: click.Context, /, **options: Any) -> None:  # noqa: ANN401 - see ExplainOptions
    """Say in sentences what a policy demands and leaves open.

    With --evidence also what it makes of that evidence, why, and what would change it; the exit
    status is 6 if any of it is denied. The challenge's age is supposed to be zero, and without
    --report-data or --challenge report data is not checked.
    """
    from regalia.cli.policy.explain import ExplainOptions, explain_files

    if not explain_files(ExplainOptions(**options)):
        context.exit(EXIT_DENIED)
