"""The work of ``regalia policy pin``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from regalia.attest.snp import RevocationRule
from regalia.cli.facts import show_facts
from regalia.cli.output import show_json
from regalia.cli.policy_input import (
    key_fingerprint,
    make_appraiser,
    must_be_new,
    read_evidence,
    read_model,
    signing_keys,
)
from regalia.cli.policy_output import policy_id, show_open
from regalia.core.localfs import write_new
from regalia.policy.document import sign_release_policy, write_draft
from regalia.policy.pin import OwnerChoices, pin_client, pin_release
from regalia.policy.wildcards import wildcards

if TYPE_CHECKING:
    from pathlib import Path

    from regalia.formats.claims import SnpClaims
    from regalia.formats.policy import ReleasePolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class PinOptions:
    """The command line, as ``regalia.cli.policy`` names and explains its options."""

    source: Path
    model: str
    owner: str
    out: Path
    client_out: Path | None
    sign_with: tuple[Path, ...]
    passphrase_file: Path | None
    report_data: str | None
    challenge: str | None
    collateral: Path | None
    dangerous_simulated_anchor: Path | None
    revocation: str
    name: str
    version: int
    minimum_version: int | None
    lease_s: int
    holders: int
    max_age_s: int
    custody: tuple[Literal["broker", "hsm"], ...]
    approvers: tuple[str, ...]
    approvals: int
    pin_chip: bool
    any_host_data: bool
    as_json: bool


def pin_files(options: PinOptions) -> None:
    """Verify the evidence, write the policies, and say what they leave open."""
    outputs = [path for path in (options.out, options.client_out) if path is not None]
    must_be_new(*outputs)
    choices = _choices(options)
    evidence, expected = read_evidence(
        options.source, report_data=options.report_data, challenge=options.challenge
    )
    appraiser = make_appraiser(
        options.dangerous_simulated_anchor,
        options.collateral,
        RevocationRule(options.revocation),
    )
    claims, config = appraiser.claims(evidence, expected)
    release = pin_release(claims, config, choices, now=appraiser.now)
    client = pin_client(claims, config, choices, now=appraiser.now)
    keys = signing_keys(options.sign_with, options.passphrase_file)
    write_new(options.out, sign_release_policy(release, keys) if keys else write_draft(release))
    if options.client_out is not None:
        write_new(options.client_out, client.encode())
    _report(options, claims, release, [str(key.verify_key.fingerprint) for key in keys])


def _choices(options: PinOptions) -> OwnerChoices:
    owner = key_fingerprint(options.owner)
    model_id, model_version = read_model(options.model, owner, options.minimum_version)
    return OwnerChoices(
        name=options.name,
        version=options.version,
        model_id=model_id,
        model_version_minimum=model_version,
        owner_key=owner,
        challenge_max_age_s=options.max_age_s,
        holders_max=options.holders,
        lease_s=options.lease_s,
        custody=options.custody,
        approvals_threshold=options.approvals,
        approvers=tuple(key_fingerprint(word) for word in options.approvers),
        pin_chip=options.pin_chip,
        pin_host_data=not options.any_host_data,
    )


def _report(
    options: PinOptions, claims: SnpClaims, release: ReleasePolicy, signed_by: list[str]
) -> None:
    if options.as_json:
        show_json(
            {
                "ok": True,
                "out": str(options.out),
                "client_out": None if options.client_out is None else str(options.client_out),
                "policy_id": policy_id(release),
                "signed_by": signed_by,
                "hardware": str(claims.hardware),
                "product": claims.product,
                "measurement": claims.measurement.hex(),
                "model_id": release.model.id,
                "model_version_minimum": release.model.version_minimum,
                "wildcards": list(wildcards(release)),
            }
        )
        return
    facts = [
        ("policy id", policy_id(release)),
        ("signed by", ", ".join(signed_by) or "nobody: a draft. Next: regalia policy sign"),
        ("hardware", f"{claims.hardware} {claims.product}"),
        ("measurement", claims.measurement.hex()),
        ("model", f"{release.model.id}, version {release.model.version_minimum} or later"),
    ]
    if options.client_out is not None:
        facts.append(("client policy", str(options.client_out)))
    show_facts(f"{options.out} holds", facts)
    show_open(release)
