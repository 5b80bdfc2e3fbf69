"""The device set of a policy. Spec: docs/spec/policy.md, section "platform.devices"."""

from __future__ import annotations

import re
from typing import Annotated, Literal

import msgspec

from regalia.appraisal.policy_doc import Doc, Unrestricted
from regalia.appraisal.policy_words import any_text, bad, each, word
from regalia.core.codec import unhex

PATH = "platform.devices"
COUNT_MAX = 64
IDENTITY_MAX = 20  # bytes of a certificate's serial number (RFC 5280 4.1.2.2)
SWITCH = "nvidia-switch"

_VERSION = re.compile(r"[0-9]{1,6}(?:\.[0-9]{1,6}){0,7}")


class Device(Doc, frozen=True, kw_only=True):
    """So many devices of these models, each of which must be like this."""

    kind: Literal["nvidia-gpu", "nvidia-switch"]
    count: Annotated[int, msgspec.Meta(ge=1, le=COUNT_MAX)]  # exactly
    models: list[str]  # e.g. GH100, GB100, LS_10; a model stands in one entry only
    features: list[Literal["SPT", "MPT", "PPCIE"]] | Unrestricted  # FEATURE_FLAG of a GPU
    driver_versions: list[str] | Unrestricted  # of a GPU
    driver_minimum: str | Unrestricted  # of a GPU, compared number by number
    vbios_versions: list[str] | Unrestricted
    identities: list[str] | Unrestricted  # serial numbers of the devices' own certificates, hex
    rim: Literal["required", "any"]  # whether measurements must match reference values
    revocation: Literal["required", "any"]


def check_devices(devices: list[Device]) -> None:
    """Raise ParseError MALFORMED at the first rule that the device set breaks."""
    models: set[tuple[str, str]] = set()
    for index, device in enumerate(devices):
        path = f"{PATH}[{index}]"
        each(device.models, f"{path}.models", word)
        own = {(device.kind, model) for model in device.models}
        if models & own:
            raise bad(f"{path}.models", "a model stands in another entry already")
        models |= own
        _check_device(device, path)
    if sum(device.count for device in devices) > COUNT_MAX:
        raise bad(PATH, f"more than {COUNT_MAX} devices")


def version_key(text: str) -> tuple[int, ...] | None:
    """For comparing versions of drivers number by number; None if it is none."""
    if _VERSION.fullmatch(text) is None:
        return None
    return tuple(int(part) for part in text.split("."))


def _check_device(device: Device, path: str) -> None:
    each(device.features, f"{path}.features", any_text)
    each(device.driver_versions, f"{path}.driver_versions", word)
    each(device.vbios_versions, f"{path}.vbios_versions", word)
    each(device.identities, f"{path}.identities", _identity)
    if device.driver_minimum != "any" and version_key(device.driver_minimum) is None:
        raise bad(f"{path}.driver_minimum", "want numbers with dots between them")
    for name in ("features", "driver_versions", "driver_minimum"):
        if device.kind == SWITCH and getattr(device, name) != "any":
            raise bad(f"{path}.{name}", 'a switch states none; write "any"')


def _identity(value: str, path: str) -> None:
    raw = unhex(value, what=f"policy, {path}")
    if not 0 < len(raw) <= IDENTITY_MAX or not raw[0]:
        raise bad(path, f"want 1 to {IDENTITY_MAX} bytes in hex, without zeros in front")
