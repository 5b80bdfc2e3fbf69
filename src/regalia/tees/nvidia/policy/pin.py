"""The device set of a policy, from known-good claims."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regalia.appraisal.claims import Revocation
from regalia.tees.nvidia.claims import NvidiaClaims
from regalia.tees.nvidia.names import Feature
from regalia.tees.nvidia.policy.section import Device
from regalia.wire.evidence import DeviceKind

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Literal

    from regalia.appraisal.claims import DeviceClaims


def pin_devices(devices: Sequence[DeviceClaims], *, pin_machine: bool) -> list[Device]:
    """Entries that exactly these devices meet: one for each kind and model."""
    return [_entry(group, pin_machine=pin_machine) for group in _by_model(devices) if group]


def _entry(group: list[NvidiaClaims], *, pin_machine: bool) -> Device:
    gpu = group[0].kind is DeviceKind.NVIDIA_GPU
    stated = gpu and all(device.feature is not Feature.UNSTATED for device in group)
    known = all(device.revocation is Revocation.CHECKED for device in group)
    matched = all(device.rims and not device.rims_missing for device in group)
    return Device(
        kind=_kind(group[0]),
        count=len(group),
        models=[group[0].model],
        features=[word for word in ("SPT", "MPT", "PPCIE") if any(d.feature == word for d in group)]
        if stated
        else "any",
        driver_versions=sorted({device.driver_version for device in group}) if gpu else "any",
        driver_minimum="any",
        vbios_versions=sorted({device.vbios_version for device in group}),
        identities=sorted(device.identity.hex() for device in group) if pin_machine else "any",
        rim="required" if matched else "any",
        revocation="required" if known else "any",
    )


def _by_model(devices: Sequence[DeviceClaims]) -> list[list[NvidiaClaims]]:
    groups: dict[tuple[str, str], list[NvidiaClaims]] = {}
    for device in devices:
        if isinstance(device, NvidiaClaims):
            groups.setdefault((device.kind, device.model), []).append(device)
    return list(groups.values())


def _kind(device: NvidiaClaims) -> Literal["nvidia-gpu", "nvidia-switch"]:
    return "nvidia-gpu" if device.kind is DeviceKind.NVIDIA_GPU else "nvidia-switch"
