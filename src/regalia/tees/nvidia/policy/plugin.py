"""The policy half of NVIDIA GPUs and NVSwitches."""

from __future__ import annotations

from regalia.appraisal.policy_plugin import DevicePolicyPlugin
from regalia.appraisal.policy_words import bad
from regalia.tees.nvidia.claims import NvidiaClaims
from regalia.tees.nvidia.policy.conditions import CONDITIONS, LEFT_OUT
from regalia.tees.nvidia.policy.fields import FIELDS
from regalia.tees.nvidia.policy.rules import debug
from regalia.tees.nvidia.policy.section import Device
from regalia.wire.evidence import DeviceKind


def _switches_state_little(device: Device, path: str) -> None:
    for name in ("features", "driver_versions", "driver_minimum"):
        if device.kind == DeviceKind.NVIDIA_SWITCH.value and getattr(device, name) != "any":
            raise bad(f"{path}.{name}", 'a switch states none; write "any"')


NVIDIA = DevicePolicyPlugin(
    kinds=(DeviceKind.NVIDIA_GPU, DeviceKind.NVIDIA_SWITCH),
    section=Device,
    claims=NvidiaClaims,
    model=lambda device: device.model,
    fields=FIELDS,
    order=(
        debug,
        "identities",
        "features",
        "driver_versions",
        "vbios_versions",
        "driver_minimum",
        "rim",
        "revocation",
    ),
    cross_check=_switches_state_little,
    conditions=CONDITIONS,
    left_out=LEFT_OUT,
)
