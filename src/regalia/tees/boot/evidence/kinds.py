"""Event types and what the digest of each covers. Spec: docs/spec/event-logs.md, section 4.

Numbers and names are those of the TCG PC Client Platform Firmware Profile 1.05, section 10.4,
with EV_EFI_GPT_EVENT2 and the SPDM types of its successor.
"""

from __future__ import annotations

from enum import Enum, IntEnum
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class EventKind(IntEnum):
    """eventType."""

    EV_POST_CODE = 0x0000_0001
    EV_NO_ACTION = 0x0000_0003
    EV_SEPARATOR = 0x0000_0004
    EV_ACTION = 0x0000_0005
    EV_EVENT_TAG = 0x0000_0006
    EV_S_CRTM_CONTENTS = 0x0000_0007
    EV_S_CRTM_VERSION = 0x0000_0008
    EV_CPU_MICROCODE = 0x0000_0009
    EV_PLATFORM_CONFIG_FLAGS = 0x0000_000A
    EV_TABLE_OF_DEVICES = 0x0000_000B
    EV_COMPACT_HASH = 0x0000_000C
    EV_IPL = 0x0000_000D
    EV_IPL_PARTITION_DATA = 0x0000_000E
    EV_NONHOST_CODE = 0x0000_000F
    EV_NONHOST_CONFIG = 0x0000_0010
    EV_NONHOST_INFO = 0x0000_0011
    EV_OMIT_BOOT_DEVICE_EVENTS = 0x0000_0012
    EV_POST_CODE2 = 0x0000_0013
    EV_EFI_VARIABLE_DRIVER_CONFIG = 0x8000_0001
    EV_EFI_VARIABLE_BOOT = 0x8000_0002
    EV_EFI_BOOT_SERVICES_APPLICATION = 0x8000_0003
    EV_EFI_BOOT_SERVICES_DRIVER = 0x8000_0004
    EV_EFI_RUNTIME_SERVICES_DRIVER = 0x8000_0005
    EV_EFI_GPT_EVENT = 0x8000_0006
    EV_EFI_ACTION = 0x8000_0007
    EV_EFI_PLATFORM_FIRMWARE_BLOB = 0x8000_0008
    EV_EFI_HANDOFF_TABLES = 0x8000_0009
    EV_EFI_PLATFORM_FIRMWARE_BLOB2 = 0x8000_000A
    EV_EFI_HANDOFF_TABLES2 = 0x8000_000B
    EV_EFI_VARIABLE_BOOT2 = 0x8000_000C
    EV_EFI_GPT_EVENT2 = 0x8000_000D
    EV_EFI_HCRTM_EVENT = 0x8000_0010
    EV_EFI_VARIABLE_AUTHORITY = 0x8000_00E0
    EV_EFI_SPDM_FIRMWARE_BLOB = 0x8000_00E1
    EV_EFI_SPDM_FIRMWARE_CONFIG = 0x8000_00E2
    EV_EFI_SPDM_DEVICE_POLICY = 0x8000_00E3
    EV_EFI_SPDM_DEVICE_AUTHORITY = 0x8000_00E4


class Coverage(Enum):
    """What the digest is over, as far as the log can show it."""

    NOTHING = "nothing: the event extends no register"
    DATA = "the event's data, always"
    SEPARATOR = "the event's data, one of three words"
    VARIABLE = "the event's data, or the data of the variable in it"
    AUTHORITY = "the event's data, or all but the last byte"
    LOADER = "a text, marked by the boot loader's label, or something else"
    TAGGED = "the event's data, or what its tag names"
    MAYBE_DATA = "the event's data on some platforms, something else on others"
    ELSEWHERE = "something that the log does not hold"


# What is not listed is of unknown meaning. The profile defines the coverage; where firmware in
# the field departs from it, the looser kind stands here, and nothing is believed that does not
# recompute: see docs/spec/event-logs.md.
COVERAGE: Mapping[int, Coverage] = MappingProxyType(
    {
        EventKind.EV_POST_CODE: Coverage.MAYBE_DATA,  # a string, or the address of code
        EventKind.EV_NO_ACTION: Coverage.NOTHING,
        EventKind.EV_SEPARATOR: Coverage.SEPARATOR,
        EventKind.EV_ACTION: Coverage.DATA,
        EventKind.EV_EVENT_TAG: Coverage.TAGGED,
        EventKind.EV_S_CRTM_CONTENTS: Coverage.MAYBE_DATA,
        EventKind.EV_S_CRTM_VERSION: Coverage.DATA,
        EventKind.EV_CPU_MICROCODE: Coverage.MAYBE_DATA,
        EventKind.EV_PLATFORM_CONFIG_FLAGS: Coverage.MAYBE_DATA,  # OVMF: names of ACPI tables
        EventKind.EV_TABLE_OF_DEVICES: Coverage.MAYBE_DATA,
        EventKind.EV_COMPACT_HASH: Coverage.MAYBE_DATA,
        EventKind.EV_IPL: Coverage.LOADER,
        EventKind.EV_IPL_PARTITION_DATA: Coverage.MAYBE_DATA,
        EventKind.EV_NONHOST_CODE: Coverage.MAYBE_DATA,
        EventKind.EV_NONHOST_CONFIG: Coverage.MAYBE_DATA,
        EventKind.EV_NONHOST_INFO: Coverage.MAYBE_DATA,
        EventKind.EV_OMIT_BOOT_DEVICE_EVENTS: Coverage.DATA,
        EventKind.EV_POST_CODE2: Coverage.ELSEWHERE,
        EventKind.EV_EFI_VARIABLE_DRIVER_CONFIG: Coverage.DATA,
        EventKind.EV_EFI_VARIABLE_BOOT: Coverage.VARIABLE,
        EventKind.EV_EFI_BOOT_SERVICES_APPLICATION: Coverage.ELSEWHERE,
        EventKind.EV_EFI_BOOT_SERVICES_DRIVER: Coverage.ELSEWHERE,
        EventKind.EV_EFI_RUNTIME_SERVICES_DRIVER: Coverage.ELSEWHERE,
        EventKind.EV_EFI_GPT_EVENT: Coverage.DATA,
        EventKind.EV_EFI_ACTION: Coverage.DATA,
        EventKind.EV_EFI_PLATFORM_FIRMWARE_BLOB: Coverage.ELSEWHERE,
        EventKind.EV_EFI_HANDOFF_TABLES: Coverage.MAYBE_DATA,
        EventKind.EV_EFI_PLATFORM_FIRMWARE_BLOB2: Coverage.ELSEWHERE,
        EventKind.EV_EFI_HANDOFF_TABLES2: Coverage.MAYBE_DATA,
        EventKind.EV_EFI_VARIABLE_BOOT2: Coverage.DATA,
        EventKind.EV_EFI_GPT_EVENT2: Coverage.MAYBE_DATA,  # GUIDs may be left out of the digest
        EventKind.EV_EFI_HCRTM_EVENT: Coverage.ELSEWHERE,
        EventKind.EV_EFI_VARIABLE_AUTHORITY: Coverage.AUTHORITY,
        EventKind.EV_EFI_SPDM_FIRMWARE_BLOB: Coverage.MAYBE_DATA,
        EventKind.EV_EFI_SPDM_FIRMWARE_CONFIG: Coverage.MAYBE_DATA,
        EventKind.EV_EFI_SPDM_DEVICE_POLICY: Coverage.MAYBE_DATA,
        EventKind.EV_EFI_SPDM_DEVICE_AUTHORITY: Coverage.MAYBE_DATA,
    }
)


def kind_name(kind: int) -> str:
    """For messages: the profile's name, or the number."""
    return EventKind(kind).name if kind in COVERAGE else f"event type {kind:#010x}"
