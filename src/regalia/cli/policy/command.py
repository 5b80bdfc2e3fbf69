"""``regalia policy``: write, read, sign and explain policies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from regalia.cli.collateral.options import collateral_options
from regalia.cli.key_files import read_signing_keys
from regalia.cli.new_files import must_be_new
from regalia.cli.options import (
    CHALLENGE_HELP,
    PATH,
    endorsements_option,
    flag,
    json_option,
    option,
    path_option,
    signers_threshold_option,
    signing_passphrase_option,
    simulated_anchor_option,
    together,
)
from regalia.cli.output import show_facts, show_json, show_table
from regalia.core.errors import CoreCode, UsageError
from regalia.host.localfs import read_file, write_new

if TYPE_CHECKING:
    from pathlib import Path

EXIT_DENIED = 6
# The members of ``Tee``, whose module takes long to import; a test compares them.
TEES = (
    "sev-snp",
    "tdx",
    "sgx",
    "aws-nitro",
    "tpm",
    "az-snp-vtpm",
    "az-tdx-vtpm",
)

_policy_file = click.argument("file", type=PATH)
_sign_with = path_option(
    "--sign KEY...", "Sign with this private key (NAME.key).", into="sign_with"
)
_signature_options = together(
    option("--signer PUB...", "Check that this public key (NAME.pub) has signed.", into="signers"),
    signers_threshold_option,
)
_evidence_options = together(
    option(
        "--now TIME",
        "The moment of the check, RFC 3339: when the evidence was made, if it is a recording.",
        default="now",
    ),
    endorsements_option,
    collateral_options,
    simulated_anchor_option,
)
# What an owner decides and no evidence tells.
_choice_options = together(
    option("--name", "A name for people.", default="pinned"),
    option(
        "--version N", "The policy's version; a broker never goes back to an older one.", default=1
    ),
    option(
        "--minimum-version N",
        "Lowest accepted version of the model. By default the manifest's.",
        type=int,
    ),
    option(
        "--lease SECONDS",
        "How long a runtime keeps the key before it must attest again.",
        into="lease_s",
        default=900,
    ),
    option("--holders N", "How many runtimes may hold the key at the same time.", default=1),
    option(
        "--max-age SECONDS",
        "How old a challenge may be when its evidence arrives.",
        into="max_age_s",
        default=60,
    ),
    option(
        "--custody [broker|kms|hsm]",
        "Where the model key may be in clear during a release. Repeat it for both.",
        multiple=True,
        default=("broker",),
    ),
    option(
        "--approver PUB",
        "Public key (NAME.pub or key:<64 hex>) of somebody who may approve releases.",
        into="approvers",
        multiple=True,
    ),
    option("--approvals N", "How many approvers must approve a release.", default=0),
    flag("--pin-chip", "Accept this chip only. Milan needs it."),
    flag(
        "--any-host-data",
        "Accept other runtime configurations with the same placement, egress and keys.",
    ),
)


@click.group()
def policy() -> None:
    """Write, read and explain release policies.

    A release policy says under which conditions a broker releases a model key; the model's
    owner signs it. A client policy says what a client demands before it sends a prompt.
    """


@policy.command("pin")
@path_option(
    "--evidence EVIDENCE",
    "Evidence of a known-good runtime: an envelope, or what a runtime answered. With"
    " --platform-only also a vendor's own evidence, of any TEE or of NVIDIA devices.",
    into="source",
    required=True,
)
@flag(
    "--platform-only",
    "Write no policy but its platform section: the reference values of this evidence, to be"
    " put into one. The only way for a vendor's own evidence, which holds no configuration of a"
    " runtime.",
)
@option("--model MODEL", "A sealed model (its directory or manifest), or model:<64 hex>.")
@option("--signer PUB", "The owner's public key: NAME.pub or key:<64 hex>.", into="owner")
@path_option(
    "--out FILE",
    "The release policy: signed with --sign, otherwise a draft to read and edit. Or, with"
    " --platform-only, the platform section.",
    required=True,
)
@path_option("--client-out FILE", "Write a client policy as well.")
@_sign_with
@signing_passphrase_option
@option("--challenge HEX|any", CHALLENGE_HELP, required=True)
@_evidence_options
@option(
    "--revocation [required|any]",
    "Whether a current CRL must be in --collateral.",
    default="required",
)
@_choice_options
@json_option
def pin(**options: Any) -> None:  # noqa: ANN401 - every option above, named in PinOptions
    """Write a policy from the evidence of a known-good runtime.

    Measured values are pinned, of any TEE and of all devices that answered: product,
    measurement, security versions, firmware, state and runtime configuration. The rest you
    choose. What stays open is printed.
    """
    from regalia.cli.policy.pin import PinOptions, pin_files

    pin_files(PinOptions(**options))


@policy.command("new")
@option(
    f"--tee [{'|'.join(TEES)}]...",
    "Accept this kind of TEE.",
    into="tees",
    required=True,
)
@flag("--platform-only", "Write no policy but its platform section.")
@path_option("--out FILE", "The draft.", required=True)
@json_option
def new(*, tees: tuple[str, ...], platform_only: bool, out: Path, as_json: bool) -> None:
    """Write a draft with a comment for every field.

    It accepts nothing yet: fill its lists, or take the values from known-good evidence with
    `policy pin`. Comments are members whose names begin with //; `policy sign` leaves them out.
    """
    from regalia.policy.draft import new_platform, new_release

    must_be_new(out)
    from regalia.wire.evidence import Tee

    kinds = [Tee(each) for each in tees]
    write_new(out, new_platform(kinds) if platform_only else new_release(kinds))
    if as_json:
        show_json({"ok": True, "out": str(out), "tees": list(tees)})
        return
    show_facts(
        f"{out} holds a draft", [("accepts", "nothing yet"), ("next", "regalia policy check")]
    )


@policy.command("show")
@_policy_file
@_signature_options
@json_option
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
@path_option(
    "--out FILE", "Write the policy in canonical form, the only one in which clients read theirs."
)
@json_option
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
@signing_passphrase_option
@path_option("--out FILE", "The signed policy.", required=True)
@json_option
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
    from regalia.cli.policy.input import read_policy
    from regalia.cli.policy.output import policy_id, show_open
    from regalia.crypto.dsse import LIMIT
    from regalia.policy.documents import ReleasePolicy
    from regalia.policy.signed import add_signatures, sign_release_policy

    if not sign_with:
        raise UsageError(CoreCode.BAD_USAGE, "name a private key with --sign")
    must_be_new(out)
    found = read_policy(file, (), 1)
    if not isinstance(found.policy, ReleasePolicy):
        raise UsageError(
            CoreCode.BAD_USAGE, f"{file} is a {found.kind}; release policies alone are signed"
        )
    show_open(found.policy)
    keys = read_signing_keys(sign_with, passphrase_file)
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
@path_option("--evidence EVIDENCE...", "Say what the policy makes of this evidence.")
@option("--challenge HEX|any", CHALLENGE_HELP, default="any")
@_evidence_options
@option(
    "--model-version N",
    "The model's version that is asked for. By default the lowest accepted one.",
    type=int,
)
@option("--holders N", "Suppose that so many runtimes hold the key already.", default=0)
@option("--approval PUB...", "Suppose that this approver has approved.", into="approvals")
@option("--custody [broker|kms|hsm]", "Suppose this custody of the model key.", default="broker")
@json_option
@click.pass_context
def explain(context: click.Context, /, **options: Any) -> None:  # noqa: ANN401 - see ExplainOptions
    """Say in sentences what a policy demands and leaves open.

    With --evidence also what it makes of that evidence, why, and what would change it; the exit
    status is 6 if any of it is denied. The challenge's age is supposed to be zero, and without
    --challenge it is not checked. Of a platform section, the platform's rules alone are applied.
    """
    from regalia.cli.policy.explain import ExplainOptions, explain_files

    if not explain_files(ExplainOptions(**options)):
        context.exit(EXIT_DENIED)
