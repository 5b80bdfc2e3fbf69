"""NVIDIA's names for the modes of a device that both evidence and policy speak of."""

from __future__ import annotations

from enum import StrEnum


class Status(StrEnum):
    """A status byte: 0xAA enabled, 0x55 disabled."""

    ENABLED = "enabled"
    DISABLED = "disabled"
    UNSTATED = "unstated"  # the field is not there


class Feature(StrEnum):
    """FEATURE_FLAG: the mode of confidential computing that the GPU is in."""

    MPT = "MPT"  # multi-GPU passthrough
    SPT = "SPT"  # single-GPU passthrough
    PPCIE = "PPCIE"  # protected PCIe: all GPUs and switches of a machine
    UNSTATED = "unstated"  # opaque data of version 0 do not say
