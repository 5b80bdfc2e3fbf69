"""The work of ``regalia policy pin``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from regalia.appraisal.collateral_rule import CollateralRule
from regalia.cli.attest.input import read_endorsements, read_time
from regalia.cli.key_files import read_signing_keys
from regalia.cli.new_files import must_be_new, write_together
from regalia.cli.output import show_facts, show_json
from regalia.cli.policy.evidence import make_appraiser, read_given
from regalia.cli.policy.input import key_fingerprint, read_model
from regalia.cli.policy.output import policy_id, show_open, show_statements
from regalia.core.errors import CoreCode, UsageError
from regalia.host.localfs import write_new
from regalia.policy.documents import wildcards
from regalia.policy.explain import platform_statements
from regalia.policy.pin import OwnerChoices, pin_client, pin_lone_devices, pin_platform, pin_release
from regalia.policy.signed import sign_release_policy, write_draft
from regalia.wire.release import device_names

if TYPE_CHECKING:
    from pathlib import Path

    from regalia.appraisal.claims import Claims
    from regalia.cli.policy.evidence import Appraiser, Given
    from regalia.client.collateral import BundleSource
    from regalia.policy.documents import ReleasePolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class PinOptions:
    """The command line, as ``regalia.cli.policy.command`` names and explains its options."""

    source: Path
    platform_only: bool
    model: str | None
    owner: str | None
    out: Path
    client_out: Path | None
    sign_with: tuple[Path, ...]
    passphrase_file: Path | None
    challenge: str
    now: str
    endorsements: tuple[Path, ...]
    collateral: Path | BundleSource | None
    dangerous_simulated_anchor: Path | None
    revocation: str
    name: str
    version: int
    minimum_version: int | None
    lease_s: int
    holders: int
    max_age_s: int
    custody: tuple[Literal["broker", "kms", "hsm"], ...]
    approvers: tuple[str, ...]
    approvals: int
    pin_chip: bool
    any_host_data: bool
    as_json: bool


def pin_files(options: PinOptions) -> None:
    """Verify the evidence, write the policies, and say what they leave open."""
    if options.platform_only:
        _pin_platform(options)
        return
    outputs = [path for path in (options.out, options.client_out) if path is not None]
    must_be_new(*outputs)
    choices = _choices(options)
    given, appraiser = _given(options)
    config = given.config()
    claims = appraiser.claims(given, CollateralRule.of_words(options.revocation, grace_days=0))
    release = pin_release(claims, config, choices, now=appraiser.now)
    client = pin_client(claims, config, choices, now=appraiser.now)
    keys = read_signing_keys(options.sign_with, options.passphrase_file)
    signed = sign_release_policy(release, keys) if keys else write_draft(release)
    files = [(options.out, signed, 0o644)]
    if options.client_out is not None:
        files.append((options.client_out, client.encode(), 0o644))
    write_together(*files)
    _report(options, claims, release, [str(key.verify_key.fingerprint) for key in keys])


def _given(options: PinOptions) -> tuple[Given, Appraiser]:
    now = read_time(options.now)
    given = read_given(options.source, options.challenge)
    found, loose = read_endorsements(options.endorsements, given.found, now)
    appraiser = make_appraiser(
        options.dangerous_simulated_anchor, options.collateral, now=now, loose=loose
    )
    return replace(given, found=found), appraiser


def _pin_platform(options: PinOptions) -> None:
    """Write the platform section that the evidence meets, and say what it leaves open."""
    if options.client_out is not None or options.sign_with:
        raise UsageError(
            CoreCode.BAD_USAGE,
            "a platform section is a part of a policy: --client-out and --sign are for policies",
        )
    must_be_new(options.out)
    given, appraiser = _given(options)
    rule = CollateralRule.of_words(options.revocation, grace_days=0)
    if given.found.devices:
        devices = appraiser.devices(given, rule)
        platform = pin_lone_devices(devices, pin_machine=options.pin_chip)
    else:
        claims = appraiser.claims(given, rule)
        devices = claims.devices
        # Without a runtime configuration, the evidence has no digest of one to pin.
        config = bool(given.evidence.runtime_config) and not options.any_host_data
        platform = pin_platform(claims, pin_machine=options.pin_chip, pin_config=config)
    write_new(options.out, platform.encode())
    left_open = platform_statements(platform)
    if options.as_json:
        show_json(
            {
                "ok": True,
                "out": str(options.out),
                "form": given.found.form,
                "tee": given.found.subject,
                "hardware": platform.hardware,
                "devices": device_names(devices),
                "fresh": given.expected is not None,
                "wildcards": [each.path for each in left_open],
            }
        )
        return
    facts = [("from", given.found.form), ("hardware", platform.hardware)]
    facts += [("device", name) for name in device_names(devices)]
    show_facts(f"{options.out} holds the platform section of {given.found.subject}", facts)
    show_statements(left_open)


def _choices(options: PinOptions) -> OwnerChoices:
    if options.model is None or options.owner is None:
        raise UsageError(
            CoreCode.BAD_USAGE, "give --model and --signer, or --platform-only for no policy"
        )
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
    options: PinOptions, claims: Claims, release: ReleasePolicy, signed_by: list[str]
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
                "opens": release.runtime.surfaces,
                "adapters": release.runtime.accepted_adapters,
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
    if release.runtime.surfaces:  # the owner sees what the operator has opened
        facts.append(("engine opens", ", ".join(release.runtime.surfaces)))
    if release.runtime.accepted_adapters:
        facts.append(("merges adapters", ", ".join(release.runtime.accepted_adapters)))
    if options.client_out is not None:
        facts.append(("client policy", str(options.client_out)))
    show_facts(f"{options.out} holds", facts)
    show_open(release)
