"""The fields of an entry of the device set, in the order of its struct.

The explanations go on after the words "Device entry 0".
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NoReturn

from regalia.appraisal.claims import Revocation
from regalia.appraisal.field_kinds import Demand, OneOf
from regalia.appraisal.finding import finding, in_full, listing, shown
from regalia.appraisal.policy_codes import PolicyCode
from regalia.appraisal.policy_field import Field, left_open
from regalia.appraisal.policy_words import WORDS, Entry, bad, each, literals, word
from regalia.appraisal.warning_codes import WarningCode
from regalia.core.codec import unhex
from regalia.tees.nvidia.claims import NvidiaClaims
from regalia.tees.nvidia.names import Feature
from regalia.wire.evidence import DeviceKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from regalia.appraisal.finding import Finding
    from regalia.appraisal.policy_doc import Unrestricted
    from regalia.appraisal.policy_field import BaselineWords, PinChoices

IDENTITY_MAX = 20  # bytes of a certificate's serial number (RFC 5280 4.1.2.2)

_VERSION = re.compile(r"[0-9]{1,6}(?:\.[0-9]{1,6}){0,7}")


def version_key(text: str) -> tuple[int, ...] | None:
    """For comparing versions of drivers number by number; None if it is none."""
    if _VERSION.fullmatch(text) is None:
        return None
    return tuple(int(part) for part in text.split("."))


def name_of(device: NvidiaClaims) -> str:
    """For messages."""
    return f"{device.kind} {device.identity.hex()}"


def _accepted(noun: str) -> Callable[[list[str]], str]:
    def say(values: list[str]) -> str:
        if not values:
            return f": no {noun} are accepted: this policy denies everything."
        return f": accepted {noun}: {in_full(values)}."

    return say


def _is_gpu(device: NvidiaClaims) -> bool:
    return device.kind is DeviceKind.NVIDIA_GPU


def _identity(value: str, path: str) -> None:
    raw = unhex(value, what=f"policy, {path}")
    if not 0 < len(raw) <= IDENTITY_MAX or not raw[0]:
        raise bad(path, f"want 1 to {IDENTITY_MAX} bytes in hex, without zeros in front")


def _from_the_devices(_: BaselineWords) -> NoReturn:
    raise TypeError("the baseline takes kind, count and models from the devices at hand")


def _listed(
    name: str,
    entry: Entry[str],
    have: Callable[[NvidiaClaims], str],
    code: PolicyCode,
    pin: Callable[[NvidiaClaims, PinChoices], list[str] | Unrestricted],
) -> OneOf[NvidiaClaims]:
    """A list that every device of the entry is held against."""
    return OneOf(
        name,
        entry,
        have,
        code,
        lambda value, accepted, device: (
            f"{name_of(device)}: {name} {shown(value)}; accepted: {listing(accepted)}"
        ),
        pin=pin,
    )


def _too_old(minimum: str, device: NvidiaClaims, _: str) -> Iterator[Finding]:
    if minimum == "any":
        return
    want, have = version_key(minimum), version_key(device.driver_version)
    if want is None or have is None or have < want:
        seen = shown(device.driver_version)
        yield finding(
            PolicyCode.DEVICE_FIRMWARE_DENIED,
            f"{name_of(device)}: driver {seen}; at least {shown(minimum)}",
        )


def _check_minimum(minimum: str, path: str) -> None:
    if minimum != "any" and version_key(minimum) is None:
        raise bad(path, "want numbers with dots between them")


def _matched(device: NvidiaClaims) -> bool:
    return bool(device.rims) and not device.rims_missing


def _no_reference_values(word: str, device: NvidiaClaims, _: str) -> Iterator[Finding]:
    """Measurements matched; the verifier refuses those that differ from values at hand."""
    if word == "any" or _matched(device):
        return
    # Named whole: values for the driver alone say nothing of the VBIOS.
    which = "for its firmware" if not device.rims else f"{listing(device.rims_missing)}"
    yield finding(
        PolicyCode.RIM_MISSING,
        f"{name_of(device)}: no reference values {which}",
        f"Fetch {listing(device.rims_missing)} from NVIDIA's RIM service and ingest it into the"
        " collateral.",
    )


def warnings(device: NvidiaClaims) -> Iterator[Finding]:
    """What an accepted device leaves to be desired: its firmware's values, and its mode."""
    yield from _no_reference_values("required", device, "")
    if _is_gpu(device) and device.feature is Feature.UNSTATED:
        yield finding(
            WarningCode.DEVICE_MODE_UNSTATED,
            f"{name_of(device)}: its report does not state the mode of confidential computing",
        )


IDENTIFYING_FIELDS: tuple[Field[NvidiaClaims, Any], ...] = (
    Field(
        name="kind",
        type="`nvidia-gpu`, `nvidia-switch`",
        content="of device",
        required=" is about devices of kind {}.".format,
        pin=lambda device, _: device.kind.value,
        baseline=_from_the_devices,
    ),
    Field(
        name="count",
        type="1 … 64",
        content="exactly so many",
        required=": exactly {} of them must be there.".format,
        pin=lambda _device, _choices: 1,
        baseline=_from_the_devices,
    ),
    Field(
        name="models",
        type="list of words",
        content="as certificates name them: GH100, GB100, LS_10",
        required=_accepted("models"),
        check=lambda values, path: each(values, path, word),
        pin=lambda device, _: [device.model],
        baseline=_from_the_devices,
    ),
)

FIELDS: tuple[Field[NvidiaClaims, Any], ...] = (
    *IDENTIFYING_FIELDS,
    _listed(
        "features",
        literals("SPT", "MPT", "PPCIE"),
        lambda device: device.feature.value,
        PolicyCode.DEVICE_FEATURE_DENIED,
        lambda device, _: (
            [device.feature.value]
            if _is_gpu(device) and device.feature is not Feature.UNSTATED
            else "any"
        ),
    ).words(
        "FEATURE_FLAG; old drivers state none, which only any accepts",
        _accepted("modes of confidential computing"),
        ": any mode of confidential computing is accepted.",
        "in some modes links between GPUs, or to switches, are not protected.",
    ),
    _listed(
        "driver_versions",
        WORDS,
        lambda device: device.driver_version,
        PolicyCode.DEVICE_FIRMWARE_DENIED,
        lambda device, _: [device.driver_version] if _is_gpu(device) else "any",
    ).words(
        "of a GPU",
        _accepted("driver versions"),
        ": any driver version is accepted that meets the minimum.",
        "drivers with published attacks are accepted as far as the minimum lets them.",
    ),
    Field(
        name="driver_minimum",
        type="text, or any",
        content="of a GPU: numbers with dots between them, compared number by number",
        required=": the driver's version must be at least {}.".format,
        unrestricted=": no driver version is too old.",
        risk="drivers with published attacks are accepted as far as the list lets them.",
        check=_check_minimum,
        pin=left_open,
        compare=_too_old,
    ),
    _listed(
        "vbios_versions",
        WORDS,
        lambda device: device.vbios_version,
        PolicyCode.DEVICE_FIRMWARE_DENIED,
        lambda device, _: [device.vbios_version],
    ).words(
        "e.g. 96.00.A5.00.01",
        _accepted("VBIOS versions"),
        ": any VBIOS version is accepted.",
        "firmware with published attacks is accepted.",
    ),
    _listed(
        "identities",
        Entry("hex", _identity),
        lambda device: device.identity.hex(),
        PolicyCode.INSTANCE_NOT_ALLOWED,
        lambda device, choices: [device.identity.hex()] if choices.machine else "any",
    ).words(
        "serial numbers of the devices' own (BROM) certificates",
        _accepted("devices"),
        ": any device of the accepted models is accepted.",
        "a genuine GPU in an attacker's machine passes if its report is relayed.",
    ),
    Field(
        name="rim",
        type="`required`, or any",
        content="reference values were at hand for all of the device's firmware, and matched."
        " Values at hand that do not match are refused by the verifier, whatever stands"
        " here",
        required=lambda _: ": measurements must match NVIDIA's reference values.",
        unrestricted=": measurements need not match reference values.",
        risk="firmware that somebody changed is accepted under its version number.",
        pin=lambda device, _: "required" if _matched(device) else "any",
        compare=_no_reference_values,
    ),
    Demand[NvidiaClaims](
        "revocation",
        lambda device: device.revocation is not Revocation.UNKNOWN,
        PolicyCode.REVOCATION_UNKNOWN,
        lambda device, _: "required" if device.revocation is Revocation.CHECKED else "any",
        lambda words: words.revocation,
    ).words(
        "whether all certificates are known not to be revoked",
        lambda device: f"{name_of(device)}: it is not known whether its certificates are revoked",
        ": it must be known that no certificate is revoked.",
        ": certificates need not be checked for revocation.",
        "a device that NVIDIA has revoked after a leak still passes.",
        fix="Give the verifier current CRLs of NVIDIA's authorities, or a list of denied keys.",
    ),
)
