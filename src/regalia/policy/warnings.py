"""What is known of accepted claims and is still no reason to rely on them.

A refusal is a finding of a rule. A warning is about what no rule of this policy forbids: it makes
a result worse than affirming, whatever the policy says of it.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from regalia.appraisal.check import Outcome
from regalia.appraisal.claims import Hardware, Revocation
from regalia.appraisal.finding import finding, shown
from regalia.appraisal.policy_codes import PolicyCode
from regalia.appraisal.warning_codes import WarningCode
from regalia.policy.registry import device_plugin_of, plugin_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from regalia.appraisal.check import Step
    from regalia.appraisal.claims import Claims, DeviceClaims
    from regalia.appraisal.finding import Finding
    from regalia.core.errors import Code


def cpu_warnings(claims: Claims) -> Iterator[Finding]:
    """What the claims of a CPU or TPM leave to be desired."""
    plugin = plugin_of(claims)
    yield from _common(claims, str(claims.tee))
    if plugin.weakened(claims):
        standing = ", ".join(f"{name} {shown(str(value))}" for name, value in claims.tcb.items())
        yield finding(WarningCode.PLATFORM_WEAKENED, f"the platform's standing is {standing}")
    if not plugin.isolated:
        yield finding(WarningCode.MEMORY_NOT_ISOLATED, f"{claims.tee} is no TEE")


def device_warnings(device: DeviceClaims) -> Iterator[Finding]:
    """What the claims of one device leave to be desired."""
    yield from _common(device, f"{device.kind} {device.identity.hex()}")
    yield from device_plugin_of(device).warnings(device)


def _common(claims: Claims | DeviceClaims, name: str) -> Iterator[Finding]:
    if claims.hardware is not Hardware.GENUINE:
        yield finding(PolicyCode.SIMULATED_HARDWARE, f"{name}: the hardware is {claims.hardware}")
    if claims.revocation is Revocation.UNKNOWN:
        yield finding(
            PolicyCode.REVOCATION_UNKNOWN,
            f"{name}: it is not known whether its certificates are revoked",
        )
    if claims.revocation is Revocation.GRACE:
        yield finding(PolicyCode.COLLATERAL_LATE, f"{name}: the collateral is out of date")


def unchecked_freshness(name: str) -> Finding:
    """The warning about evidence that no challenge was compared with.

    Args:
        name: of the attester.
    """
    return finding(WarningCode.FRESHNESS_UNCHECKED, f"{name}: no challenge was compared")


def unbound_devices(count: int) -> Finding:
    """The warning about devices beside a CPU of which nothing shows that they are its own."""
    return finding(
        WarningCode.DEVICES_UNBOUND, f"nothing shows that the {count} devices are this CPU's"
    )


def open_checks(steps: Iterable[Step], known: Iterable[Finding]) -> Iterator[Finding]:
    """Warnings about checks that were left open, where no other warning says why.

    Args:
        steps: of the verifier.
        known: the warnings that were found already.
    """
    codes = {each.code for each in known}
    names = dict.fromkeys(step.check.name for step in steps if step.outcome is Outcome.OPEN)
    for name in names:
        if _EXPLAINED.get(name, _EXPLAINED.get(name.rpartition("/")[2])) not in codes:
            yield finding(WarningCode.CHECK_LEFT_OPEN, f"{name} was not made in full")


# The warning that says why a check was left open: by its name, or by the end of its name.
_EXPLAINED: Mapping[str, Code] = MappingProxyType(
    {
        "freshness": WarningCode.FRESHNESS_UNCHECKED,
        "revocation": PolicyCode.REVOCATION_UNKNOWN,
        "rim": PolicyCode.RIM_MISSING,
        "composite/cpu": WarningCode.DEVICES_UNBOUND,
        "composite/devices": WarningCode.DEVICES_UNBOUND,
    }
)
