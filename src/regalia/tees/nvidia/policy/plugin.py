"""The policy half of NVIDIA GPUs and NVSwitches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regalia.appraisal.condition_types import TEXT, Reading, because, derived
from regalia.appraisal.finding import finding
from regalia.appraisal.policy_codes import PolicyCode
from regalia.appraisal.policy_plugin import DevicePolicyPlugin, judges
from regalia.appraisal.policy_words import bad
from regalia.tees.nvidia.claims import NvidiaClaims
from regalia.tees.nvidia.policy.fields import FIELDS, name_of, warnings
from regalia.tees.nvidia.policy.section import Device
from regalia.wire.evidence import DeviceKind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regalia.appraisal.finding import Finding
    from regalia.appraisal.policy_plugin import RuleInput


@judges()
def debug(case: RuleInput[Device, NvidiaClaims]) -> Iterator[Finding]:
    """(19) Boot firmware in debug mode. There is no word that accepts it."""
    if case.claims.debug:
        yield finding(
            PolicyCode.DEBUG_ENABLED, f"{name_of(case.claims)} runs its firmware in debug mode"
        )


def _switches_state_little(device: Device, path: str) -> None:
    for name in ("features", "driver_versions", "driver_minimum"):
        if device.kind == DeviceKind.NVIDIA_SWITCH.value and getattr(device, name) != "any":
            raise bad(f"{path}.{name}", 'a switch states none; write "any"')


LEFT_OUT = {
    **because("said of devices of every kind", "kind", "identity"),
    **because("said of the whole machine", "hardware", "revocation"),
    **because("differs with every evidence", "evidence_digest", "nonce"),
    **because("follows from model and firmware", "hwmodel", "ueid", "fwid", "fwid_reported"),
    **because("feature says what they are for", "protected_pcie", "nvdec0"),
    **because("always refused", "debug"),
    **because("rim, in the policy, decides about them", "rims", "rims_missing"),
    **because("compared by the verifier", "pdi", "switch_pdis", "gpu_pdis"),
}
# Types of opaque fields, as one text for each device: "" or "38,39".
_NUMBERS: Reading[tuple[int, ...]] = Reading("text", lambda value: ",".join(map(str, value)))
_READINGS = derived(
    NvidiaClaims, left_out=LEFT_OUT, readings={"Feature": TEXT, "tuple[int, ...]": _NUMBERS}
)

NVIDIA = DevicePolicyPlugin(
    kinds=(DeviceKind.NVIDIA_GPU, DeviceKind.NVIDIA_SWITCH),
    section=Device,
    claims=NvidiaClaims,
    model=lambda device: device.model,
    fields=FIELDS,
    order=(
        debug,
        *("identities", "features", "driver_versions", "vbios_versions", "driver_minimum"),
        *("rim", "revocation"),
    ),
    cross_check=_switches_state_little,
    # A list is named for what it holds, in the plural.
    conditions={f"{name}s": each for name, each in _READINGS.items()},
    left_out=LEFT_OUT,
    warnings=warnings,
)
