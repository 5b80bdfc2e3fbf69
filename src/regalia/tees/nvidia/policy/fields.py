"""What conditions may say of devices: parallel lists, in the order of the evidence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regalia.appraisal.condition_types import record
from regalia.tees.nvidia.claims import NvidiaClaims

if TYPE_CHECKING:
    from regalia.appraisal.claims import Claims
    from regalia.appraisal.condition_types import Fields, Values

DEVICE_FIELDS: Fields = record(
    count="int",
    kinds="list of text",
    identities="list of text",  # hex
    models="list of text",
    features="list of text",
    driver_versions="list of text",
    vbios_versions="list of text",
)


def device_values(claims: Claims) -> Values:
    """Values of ``DEVICE_FIELDS``."""
    devices = claims.devices
    nvidia = [device for device in devices if isinstance(device, NvidiaClaims)]
    return {
        "count": len(devices),
        "kinds": [str(device.kind) for device in devices],
        "identities": [device.identity.hex() for device in devices],
        "models": [device.model for device in nvidia],
        "features": [str(device.feature) for device in nvidia],
        "driver_versions": [device.driver_version for device in nvidia],
        "vbios_versions": [device.vbios_version for device in nvidia],
    }
