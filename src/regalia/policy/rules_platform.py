"""Rules about every platform, and the way to those of its TEE.

Numbers in the docstrings are the checks of docs/spec/policy.md, section "Order of evaluation".
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from regalia.appraisal.claims import Hardware, Revocation
from regalia.appraisal.finding import finding
from regalia.appraisal.policy_codes import PolicyCode
from regalia.appraisal.policy_plugin import RuleInput
from regalia.policy.device_set import device_findings
from regalia.policy.registry import plugin_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from regalia.appraisal.claims import Claims, DeviceClaims
    from regalia.appraisal.finding import Finding
    from regalia.policy.documents import Platform

_HARDWARE: Mapping[str, Hardware] = MappingProxyType(
    {"genuine": Hardware.GENUINE, "dangerous_simulated": Hardware.SIMULATED}
)


def platform_findings(platform: Platform, claims: Claims) -> Iterator[Finding]:
    """Every finding about the attester itself, in the order of the rules.

    Args:
        platform: the policy's demands.
        claims: verified.
    """
    yield from hardware(platform, claims)
    yield from debug(claims)
    yield from migration(claims)
    yield from tee(platform, claims)
    yield from grace(platform, claims)
    yield from device_findings(platform.devices, claims.devices)


def lone_device_findings(platform: Platform, devices: Sequence[DeviceClaims]) -> Iterator[Finding]:
    """The rules about devices that came without a CPU: for looking at, never for a release.

    Args:
        platform: the policy's demands.
        devices: verified.
    """
    for device in devices:
        yield from hardware(platform, device)
        yield from grace(platform, device)
    yield from device_findings(platform.devices, devices)


def hardware(platform: Platform, claims: Claims | DeviceClaims) -> Iterator[Finding]:
    """(1) Each word accepts one kind of hardware, and no word accepts both.

    Args:
        platform: the policy's demands.
        claims: verified.
    """
    wanted = _HARDWARE.get(platform.hardware)
    if claims.hardware is wanted:
        return
    if claims.hardware is Hardware.GENUINE:
        yield finding(
            PolicyCode.HARDWARE_NOT_SIMULATED,
            f"the evidence is genuine; the policy wants {platform.hardware}",
        )
    else:
        yield finding(
            PolicyCode.SIMULATED_HARDWARE,
            f"the evidence is {claims.hardware}; the policy wants {platform.hardware}",
        )


def debug(claims: Claims) -> Iterator[Finding]:
    """(2) In debug mode the host reads the workload. There is no word that accepts it."""
    if claims.debug:
        yield finding(PolicyCode.DEBUG_ENABLED, f"{claims.tee} evidence says debug mode")


def migration(claims: Claims) -> Iterator[Finding]:
    """(3) A migration agent may export the workload. There is no word that accepts it."""
    if claims.migratable:
        yield finding(
            PolicyCode.MIGRATION_ALLOWED, f"{claims.tee} evidence says that migration is allowed"
        )


def tee(platform: Platform, claims: Claims) -> Iterator[Finding]:
    """(4) to (17): the section of this TEE. Without one the TEE is not accepted.

    Args:
        platform: the policy's demands.
        claims: verified.
    """
    plugin = plugin_of(claims)
    section = getattr(platform, plugin.name)
    if section is None:
        yield finding(
            PolicyCode.TEE_NOT_ACCEPTED, f"the policy has no section that accepts {claims.tee}"
        )
        return
    yield from plugin.rules(RuleInput(section, claims, plugin.path))


def grace(platform: Platform, claims: Claims | DeviceClaims) -> Iterator[Finding]:
    """(18) Collateral out of date counts only under the policy's own word for it.

    Args:
        platform: the policy's demands.
        claims: verified.
    """
    beside: Sequence[DeviceClaims] = getattr(claims, "devices", ())
    late = any(each.revocation is Revocation.GRACE for each in (claims, *beside))
    if late and platform.dangerous_collateral_grace_days == 0:
        yield finding(
            PolicyCode.COLLATERAL_LATE,
            "the collateral is out of date; dangerous_collateral_grace_days is 0",
        )
