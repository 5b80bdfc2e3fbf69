"""Write a policy from known-good claims: what was measured is pinned, the rest is chosen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import msgspec

from regalia.appraisal.claims import Hardware
from regalia.appraisal.policy_field import PinChoices
from regalia.core.errors import PolicyDenied
from regalia.policy.context import ReleaseContext
from regalia.policy.device_set import pin_devices
from regalia.policy.documents import (
    CLIENT_FORMAT,
    RELEASE_FORMAT,
    Approvals,
    ClientPolicy,
    Freshness,
    ModelRule,
    PlacementRule,
    Platform,
    ReleasePolicy,
    RuntimeRule,
    parse_client_policy,
    parse_platform,
    parse_release_policy,
)
from regalia.policy.evaluate import evaluate_client, evaluate_release
from regalia.policy.registry import plugin_of
from regalia.policy.rules import lone_device_findings, platform_findings
from regalia.policy.verdict import Deny

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from regalia.appraisal.claims import Claims, DeviceClaims
    from regalia.appraisal.finding import Finding
    from regalia.core.types import KeyFingerprint, ModelId
    from regalia.policy.verdict import Verdict
    from regalia.wire.runtime_config import RuntimeConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnerChoices:
    """What no evidence can tell. Seconds are whole.

    Attributes:
        owner_key: fingerprint of the key that signs the model and this policy.
        pin_chip: accept this one chip or machine, and these devices, only. Needed for Milan.
        pin_host_data: accept this one runtime configuration only.
    """

    name: str
    version: int
    model_id: ModelId
    model_version_minimum: int
    owner_key: KeyFingerprint
    challenge_max_age_s: int
    holders_max: int
    lease_s: int
    custody: tuple[Literal["broker", "kms", "hsm"], ...]
    approvals_threshold: int
    approvers: tuple[KeyFingerprint, ...]
    pin_chip: bool
    pin_host_data: bool


def pin_release(
    claims: Claims, config: RuntimeConfig, choices: OwnerChoices, *, now: datetime
) -> ReleasePolicy:
    """A release policy that these claims meet.

    Args:
        claims: known-good, from a verifier.
        config: the runtime configuration that came with the evidence.
        choices: the owner's.
        now: time of the check that the claims meet the policy.

    Raises:
        ParseError: a choice, or a value in the configuration, has no place in a policy.
        PolicyDenied: no such policy exists, e.g. for a debug guest, for a Milan chip that is
            not pinned, or for a configuration of another owner or model.
    """
    policy = parse_release_policy(_policy(claims, config, choices).encode())
    _must_allow(evaluate_release(policy, claims, _context(config, choices, now)))
    return policy


def pin_client(
    claims: Claims, config: RuntimeConfig, choices: OwnerChoices, *, now: datetime
) -> ClientPolicy:
    """A client policy that these claims meet. As ``pin_release``."""
    release = _policy(claims, config, choices)
    policy = ClientPolicy(
        format=CLIENT_FORMAT,
        name=release.name,
        model=release.model,
        platform=release.platform,
        freshness=release.freshness,
        placement=release.placement,
        runtime=release.runtime,
        conditions=[],
    )
    policy = parse_client_policy(policy.encode())
    _must_allow(evaluate_client(policy, claims, _context(config, choices, now)))
    return policy


def _policy(claims: Claims, config: RuntimeConfig, choices: OwnerChoices) -> ReleasePolicy:
    where = config.placement
    return ReleasePolicy(
        format=RELEASE_FORMAT,
        name=choices.name,
        version=choices.version,
        model=ModelRule(id=str(choices.model_id), version_minimum=choices.model_version_minimum),
        platform=_platform(
            claims, PinChoices(machine=choices.pin_chip, config=choices.pin_host_data)
        ),
        freshness=Freshness(challenge_max_age_s=choices.challenge_max_age_s),
        placement=PlacementRule(regions=[where.region], sites=[where.site], tiers=[where.tier]),
        runtime=RuntimeRule(
            owner_key=str(choices.owner_key),
            log_key=config.log_key,
            egress=list(config.egress),
            opens=config.opens,
            adapters=_adapters(config, choices.model_id),
        ),
        holders_max=choices.holders_max,
        lease_s=choices.lease_s,
        custody=list(choices.custody),
        approvals=Approvals(
            threshold=choices.approvals_threshold,
            approvers=[str(approver) for approver in choices.approvers],
        ),
        conditions=[],
    )


def _adapters(config: RuntimeConfig, subject: ModelId) -> list[str] | msgspec.UnsetType:
    """Adapters that the policy must name; its own subject needs no word."""
    named = [name for name in config.adapters if name != str(subject)]
    return named or msgspec.UNSET


def _context(config: RuntimeConfig, choices: OwnerChoices, now: datetime) -> ReleaseContext:
    """The facts with which a pinned policy must allow what it was pinned from."""
    return ReleaseContext(
        now=now,
        challenge_age_s=0,
        runtime_config=config,
        model_id=choices.model_id,
        model_version=choices.model_version_minimum,
        active_holders=0,
        approvals=frozenset(str(approver) for approver in choices.approvers),
        custody=next(iter(choices.custody), ""),
    )


def pin_platform(claims: Claims, *, pin_machine: bool, pin_config: bool) -> Platform:
    """The platform section that these claims meet: the reference values of known-good evidence.

    Args:
        claims: known-good, from a verifier.
        pin_machine: accept this one chip or machine, and these devices, only.
        pin_config: accept this one runtime configuration only.

    Raises:
        ParseError: a value has no place in a policy.
        PolicyDenied: no such section exists, e.g. for a debug guest.
    """
    platform = parse_platform(
        _platform(claims, PinChoices(machine=pin_machine, config=pin_config)).encode()
    )
    _must_meet(platform_findings(platform, claims))
    return platform


def pin_lone_devices(devices: Sequence[DeviceClaims], *, pin_machine: bool) -> Platform:
    """The section for devices that came without a CPU: a device set and no TEE, as
    ``pin_platform``. By itself it accepts no machine.

    Args:
        devices: verified and known to be good.
        pin_machine: whether exactly these devices are meant.
    """
    platform = parse_platform(
        _empty(devices[0].hardware, devices, pin_machine=pin_machine).encode()
    )
    _must_meet(lone_device_findings(platform, devices))
    return platform


def _must_meet(findings: Iterable[Finding]) -> None:
    found = tuple(findings)
    if found:
        reasons = [(each.code, each.what) for each in found]
        raise PolicyDenied(found[0].code, "no policy accepts this evidence", reasons)


def _must_allow(verdict: Verdict) -> None:
    if isinstance(verdict, Deny):
        raise verdict.error()


def _platform(claims: Claims, choices: PinChoices) -> Platform:
    """The one section for the TEE of these claims. Other TEEs stay out."""
    plugin = plugin_of(claims)
    empty = _empty(claims.hardware, claims.devices, pin_machine=choices.machine)
    return msgspec.structs.replace(empty, **{plugin.name: plugin.pin(claims, choices)})


def _empty(hardware: Hardware, devices: Sequence[DeviceClaims], *, pin_machine: bool) -> Platform:
    return Platform(
        hardware="genuine" if hardware is Hardware.GENUINE else "dangerous_simulated",
        devices=pin_devices(devices, pin_machine=pin_machine),
    )
