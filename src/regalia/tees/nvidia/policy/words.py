"""Sentences for the device set: one for the whole of it, and one for every field of an entry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regalia.appraisal.explanation import Sentence
from regalia.appraisal.finding import in_full
from regalia.tees.nvidia.policy.section import PATH

if TYPE_CHECKING:
    from collections.abc import Callable

    from regalia.tees.nvidia.policy.section import Device


def device_set(devices: list[Device]) -> str:
    """The set as a whole."""
    if not devices:
        return "The device set is empty: CPU only, and any device is refused."
    total = sum(device.count for device in devices)
    return f"Exactly {total} devices must be there, as the entries say, and no other."


def device_sentences(index: int) -> tuple[Sentence, ...]:
    """For the entry at ``index``, in the order of its fields."""
    path, entry = f"{PATH}[{index}]", f"Device entry {index}"
    return (
        Sentence(f"{path}.kind", f"{entry} is about devices of kind {{}}.".format),
        Sentence(f"{path}.count", f"{entry}: exactly {{}} of them must be there.".format),
        Sentence(f"{path}.models", _accepted(entry, "models")),
        Sentence(
            f"{path}.features",
            _accepted(entry, "modes of confidential computing"),
            f"{entry}: any mode of confidential computing is accepted.",
            "in some modes links between GPUs, or to switches, are not protected.",
        ),
        Sentence(
            f"{path}.driver_versions",
            _accepted(entry, "driver versions"),
            f"{entry}: any driver version is accepted that meets the minimum.",
            "drivers with published attacks are accepted as far as the minimum lets them.",
        ),
        Sentence(
            f"{path}.driver_minimum",
            f"{entry}: the driver's version must be at least {{}}.".format,
            f"{entry}: no driver version is too old.",
            "drivers with published attacks are accepted as far as the list lets them.",
        ),
        Sentence(
            f"{path}.vbios_versions",
            _accepted(entry, "VBIOS versions"),
            f"{entry}: any VBIOS version is accepted.",
            "firmware with published attacks is accepted.",
        ),
        Sentence(
            f"{path}.identities",
            _accepted(entry, "devices"),
            f"{entry}: any device of the accepted models is accepted.",
            "a genuine GPU in an attacker's machine passes if its report is relayed.",
        ),
        Sentence(
            f"{path}.rim",
            f"{entry}: measurements must match NVIDIA's reference values.".format,
            f"{entry}: measurements need not match reference values.",
            "firmware that somebody changed is accepted under its version number.",
        ),
        Sentence(
            f"{path}.revocation",
            f"{entry}: it must be known that no certificate is revoked.".format,
            f"{entry}: certificates need not be checked for revocation.",
            "a device that NVIDIA has revoked after a leak still passes.",
        ),
    )


def _accepted(entry: str, noun: str) -> Callable[[list[str]], str]:
    def say(values: list[str]) -> str:
        if not values:
            return f"{entry}: no {noun} are accepted: this policy denies everything."
        return f"{entry}: accepted {noun}: {in_full(values)}."

    return say
