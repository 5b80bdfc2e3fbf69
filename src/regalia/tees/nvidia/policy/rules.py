"""Rules about the devices beside a TEE: the exact set, and each device of it.

Numbers in the docstrings are the checks of docs/spec/policy.md, section "Order of evaluation".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from regalia.appraisal.claims import Revocation
from regalia.appraisal.finding import Finding, empty, finding, listing, shown
from regalia.appraisal.policy_codes import PolicyCode
from regalia.tees.nvidia.claims import NvidiaClaims
from regalia.tees.nvidia.policy.section import PATH, version_key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from regalia.appraisal.claims import DeviceClaims
    from regalia.tees.nvidia.policy.section import Device


@dataclass(frozen=True, slots=True)
class DeviceRuleInput:
    """What every rule about one device looks at."""

    rule: Device
    path: str  # of the entry
    claims: NvidiaClaims

    @property
    def name(self) -> str:
        """For messages."""
        return f"{self.claims.kind} {self.claims.identity.hex()}"


DeviceRule = Callable[[DeviceRuleInput], Iterator[Finding]]


def device_findings(listed: Sequence[Device], devices: Sequence[DeviceClaims]) -> Iterator[Finding]:
    """All findings about devices: the set as a whole, then every device that belongs to it.

    Args:
        listed: the policy's ``platform.devices``.
        devices: verified; the policy must list every one of them.
    """
    entries: dict[tuple[str, str], int] = {
        (entry.kind, model): index
        for index, entry in reversed(list(enumerate(listed)))
        for model in entry.models
    }
    placed: dict[int, list[NvidiaClaims]] = {index: [] for index in range(len(listed))}
    for device in devices:
        index = _entry(device, entries)
        if index is None:
            yield finding(
                PolicyCode.DEVICE_SET_MISMATCH,
                f"{device.kind} {device.identity.hex()} is of no model that the policy lists",
            )
        elif isinstance(device, NvidiaClaims):
            placed[index].append(device)
    for index, entry in enumerate(listed):
        yield from _count(entry, f"{PATH}[{index}]", len(placed[index]))
    for index, ours in placed.items():
        for each_device in ours:
            case = DeviceRuleInput(listed[index], f"{PATH}[{index}]", each_device)
            for each in DEVICE_RULES:
                yield from each(case)


def _entry(device: DeviceClaims, entries: dict[tuple[str, str], int]) -> int | None:
    if not isinstance(device, NvidiaClaims):
        return None
    return entries.get((str(device.kind), device.model))


def _count(entry: Device, path: str, seen: int) -> Iterator[Finding]:
    """(19) Exactly so many: one device less could be one that nobody looked at."""
    if not entry.models:
        yield empty(f"{path}.models")
    elif seen != entry.count:
        yield finding(
            PolicyCode.DEVICE_SET_MISMATCH,
            f"{seen} devices of kind {entry.kind} and model {listing(entry.models)};"
            f" exactly {entry.count} wanted",
        )


def debug(case: DeviceRuleInput) -> Iterator[Finding]:
    """(19) Boot firmware in debug mode. There is no word that accepts it."""
    if case.claims.debug:
        yield finding(PolicyCode.DEBUG_ENABLED, f"{case.name} runs its firmware in debug mode")


def identity(case: DeviceRuleInput) -> Iterator[Finding]:
    """(19) Known devices only, if they are listed."""
    yield from _listed(
        case, "identities", case.claims.identity.hex(), PolicyCode.INSTANCE_NOT_ALLOWED
    )


def feature(case: DeviceRuleInput) -> Iterator[Finding]:
    """(19) The mode of confidential computing."""
    yield from _listed(
        case, "features", case.claims.feature.value, PolicyCode.DEVICE_FEATURE_DENIED
    )


def firmware(case: DeviceRuleInput) -> Iterator[Finding]:
    """(19) Versions of driver and VBIOS."""
    code = PolicyCode.DEVICE_FIRMWARE_DENIED
    yield from _listed(case, "driver_versions", case.claims.driver_version, code)
    yield from _listed(case, "vbios_versions", case.claims.vbios_version, code)
    minimum = case.rule.driver_minimum
    if minimum == "any":
        return
    want, have = version_key(minimum), version_key(case.claims.driver_version)
    if want is None or have is None or have < want:
        seen = shown(case.claims.driver_version)
        yield finding(code, f"{case.name}: driver {seen}; at least {shown(minimum)}")


def reference_values(case: DeviceRuleInput) -> Iterator[Finding]:
    """(19) Measurements matched; the verifier refuses those that differ from values at hand."""
    if case.rule.rim == "any" or (case.claims.rims and not case.claims.rims_missing):
        return
    wanted = listing(case.claims.rims_missing)
    yield finding(
        PolicyCode.RIM_MISSING,
        f"{case.name}: no reference values for its firmware",
        f"Fetch {wanted} from NVIDIA's RIM service and ingest it into the collateral.",
    )


def revocation(case: DeviceRuleInput) -> Iterator[Finding]:
    """(19) Of the device's certificates; what is late is check 18."""
    if case.rule.revocation != "any" and case.claims.revocation is Revocation.UNKNOWN:
        yield finding(
            PolicyCode.REVOCATION_UNKNOWN,
            f"{case.name}: it is not known whether its certificates are revoked",
            "Give the verifier current CRLs of NVIDIA's authorities, or a list of denied keys.",
        )


def _listed(case: DeviceRuleInput, field: str, seen: str, code: PolicyCode) -> Iterator[Finding]:
    accepted: list[str] | str = getattr(case.rule, field)
    if isinstance(accepted, str):  # "any"
        return
    if not accepted:
        yield empty(f"{case.path}.{field}")
    elif seen not in accepted:
        yield finding(code, f"{case.name}: {field} {shown(seen)}; accepted: {listing(accepted)}")


DEVICE_RULES: tuple[DeviceRule, ...] = (
    debug,
    identity,
    feature,
    firmware,
    reference_values,
    revocation,
)
