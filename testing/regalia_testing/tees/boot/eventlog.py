"""Event logs of boots that never were, true to the format: for simulated platforms and tests."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from regalia.tees.boot.evidence.digests import TAG_AAEL, TAG_INITRD, TAG_LOAD_OPTIONS, hash_of
from regalia.tees.boot.evidence.kinds import EventKind
from regalia.tees.boot.evidence.log import Algorithm, Event, EventLog, SpecId
from regalia.tees.boot.evidence.replay import STARTUP_LOCALITY
from regalia.tees.boot.evidence.uefi import (
    EFI_GLOBAL_VARIABLE,
    EFI_IMAGE_SECURITY_DATABASE,
    UefiVariable,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

CCEL_PADDING = b"\xff" * 64
# EFI_CC_MR_INDEX for each PCR (UEFI 2.10, chapter 38). PCR 0 is MRTD, which no event extends.
CC_INDEX = {1: 1, 7: 1, 2: 2, 3: 2, 4: 2, 5: 2, 6: 2} | dict.fromkeys(range(8, 16), 3)
RTMR3_INDEX = 4
_SHIM = uuid.UUID("605dab50-e046-4300-abb6-3dd810dd8b23")


class LogBuilder:
    """Appends events. Registers are PCRs; in a CCEL they are translated."""

    def __init__(self, algorithms: Sequence[Algorithm], *, ccel: bool = False) -> None:
        self._algorithms = tuple(algorithms)
        self._ccel = ccel
        self._events: list[Event] = []

    def measure(self, pcr: int, kind: int, data: bytes, covered: bytes | None = None) -> None:
        """One event; its digest is over ``covered``, or over the data if that is ``None``."""
        content = data if covered is None else covered
        self._append(CC_INDEX.get(pcr, 0) if self._ccel else pcr, kind, data, content)

    def measure_runtime(self, entry: bytes) -> None:
        """An AAEL event, as an agent in a confidential container measures them at run time."""
        data = TAG_AAEL.to_bytes(4, "little") + len(entry).to_bytes(4, "little") + entry
        self._append(RTMR3_INDEX if self._ccel else 8, EventKind.EV_EVENT_TAG, data, data)

    def note(self, data: bytes) -> None:
        """EV_NO_ACTION in the first register."""
        digests = tuple((each, bytes(each.size)) for each in self._algorithms)
        register = 1 if self._ccel else 0
        self._events.append(Event(register, EventKind.EV_NO_ACTION, digests, data))

    def build(self) -> EventLog:
        """The log so far."""
        spec_id = SpecId(
            register=1 if self._ccel else 0,
            platform_class=0,
            version_minor=0,
            version_major=2,
            errata=0,
            uintn_size=2,
            algorithms=self._algorithms,
        )
        return EventLog(spec_id, tuple(self._events), CCEL_PADDING if self._ccel else b"")

    def _append(self, register: int, kind: int, data: bytes, covered: bytes) -> None:
        digests = tuple((each, hash_of(each, covered)) for each in self._algorithms)
        self._events.append(Event(register, kind, digests, data))


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedBoot:
    """A boot of firmware, shim, GRUB and Linux. Every field is a field."""

    secure_boot: bytes = b"\x01"  # data of the variable; empty: it does not exist
    debugger: bool = False
    firmware_error: bool = False
    firmware: bytes = b"simulated firmware"
    option_rom: bytes = b""
    loader: bytes = b"simulated loader"
    commands: tuple[str, ...] = ("set timeout=0", "linux /vmlinuz quiet")
    kernel: bytes = b"simulated kernel"
    kernel_command_line: str = "/vmlinuz quiet"
    initrd: bytes = b"simulated initrd"
    uki_sections: tuple[tuple[str, bytes], ...] = ()
    runtime_events: tuple[str, ...] = ()
    locality: int = 0
    db: bytes = b"simulated db"
    unknown: bytes = b""  # data of an event of unknown type

    def pcr_log(
        self, algorithms: Sequence[Algorithm] = (Algorithm.SHA256, Algorithm.SHA384)
    ) -> EventLog:
        """As a TPM's boot leaves it."""
        builder = LogBuilder(algorithms)
        if self.locality:
            builder.note(STARTUP_LOCALITY + bytes([self.locality]))
        version = "simulated firmware 1".encode("utf-16-le") + b"\x00\x00"
        builder.measure(0, EventKind.EV_S_CRTM_VERSION, version)
        blob = bytes(16)  # address and length
        builder.measure(0, EventKind.EV_EFI_PLATFORM_FIRMWARE_BLOB, blob, self.firmware)
        self._boot(builder)
        return builder.build()

    def ccel(self) -> EventLog:
        """As a TD's boot leaves it."""
        builder = LogBuilder((Algorithm.SHA384,), ccel=True)
        table = b"\x09TdxTable\x00" + bytes(32)
        builder.measure(1, EventKind.EV_EFI_HANDOFF_TABLES2, table, b"simulated TD HOB")
        self._boot(builder)
        return builder.build()

    def _boot(self, builder: LogBuilder) -> None:
        self._configure(builder)
        self._start_loader(builder)
        self._load(builder)
        builder.measure(5, EventKind.EV_EFI_ACTION, b"Exit Boot Services Invocation")
        builder.measure(5, EventKind.EV_EFI_ACTION, b"Exit Boot Services Returned with Success")
        if self.unknown:
            builder.measure(8, 0x0000_8000, self.unknown)
        for entry in self.runtime_events:
            builder.measure_runtime(entry.encode())

    def _configure(self, builder: LogBuilder) -> None:
        """Secure Boot's variables, in the profile's order, then the separator."""
        if self.debugger:
            builder.measure(7, EventKind.EV_EFI_ACTION, b"UEFI Debug Mode")
        for guid, name, data in (
            (EFI_GLOBAL_VARIABLE, "SecureBoot", self.secure_boot),
            (EFI_GLOBAL_VARIABLE, "PK", b"simulated PK"),
            (EFI_GLOBAL_VARIABLE, "KEK", b"simulated KEK"),
            (EFI_IMAGE_SECURITY_DATABASE, "db", self.db),
            (EFI_IMAGE_SECURITY_DATABASE, "dbx", b""),
        ):
            variable = UefiVariable(guid, name, data).encode()
            builder.measure(7, EventKind.EV_EFI_VARIABLE_DRIVER_CONFIG, variable)
        self._separate(builder, 7)
        builder.measure(1, EventKind.EV_PLATFORM_CONFIG_FLAGS, b"ACPI DATA", b"simulated tables")
        order = UefiVariable(EFI_GLOBAL_VARIABLE, "BootOrder", b"\x01\x00\x00\x00")
        builder.measure(1, EventKind.EV_EFI_VARIABLE_BOOT, order.encode(), order.data)

    def _start_loader(self, builder: LogBuilder) -> None:
        if self.option_rom:
            builder.measure(2, EventKind.EV_EFI_BOOT_SERVICES_DRIVER, bytes(32), self.option_rom)
        action = b"Calling EFI Application from Boot Option"
        builder.measure(4, EventKind.EV_EFI_ACTION, action)
        for pcr in (1, 2, 3, 4, 5, 6):
            self._separate(builder, pcr)
        authority = UefiVariable(EFI_IMAGE_SECURITY_DATABASE, "db", b"simulated certificate")
        builder.measure(7, EventKind.EV_EFI_VARIABLE_AUTHORITY, authority.encode())
        # UEFI_GPT_DATA: header of 92 bytes, number of partitions, one entry of 128 bytes.
        partitions = b"EFI PART".ljust(92, b"\x00") + (1).to_bytes(8, "little") + bytes(128)
        builder.measure(5, EventKind.EV_EFI_GPT_EVENT, partitions)
        image = EventKind.EV_EFI_BOOT_SERVICES_APPLICATION
        builder.measure(4, image, bytes(32), self.loader)
        builder.measure(14, EventKind.EV_IPL, b"MokList\x00", b"simulated MokList")
        sbat = UefiVariable(_SHIM, "SbatLevel", b"sbat,1,2021030218\n").encode()
        builder.measure(7, EventKind.EV_EFI_VARIABLE_AUTHORITY, sbat)

    def _load(self, builder: LogBuilder) -> None:
        for command in self.commands:
            text = command.encode()
            builder.measure(8, EventKind.EV_IPL, b"grub_cmd: " + text + b"\x00", text)
        builder.measure(9, EventKind.EV_IPL, b"/vmlinuz\x00", self.kernel)
        image = EventKind.EV_EFI_BOOT_SERVICES_APPLICATION
        builder.measure(4, image, bytes(32), self.kernel)
        line = self.kernel_command_line.encode()
        builder.measure(8, EventKind.EV_IPL, b"kernel_cmdline: " + line + b"\x00", line)
        for name, section in self.uki_sections:
            label = name.encode("utf-16-le") + b"\x00\x00"
            builder.measure(11, EventKind.EV_IPL, label, name.encode() + b"\x00")
            builder.measure(11, EventKind.EV_IPL, label, section)
        options = self.kernel_command_line.encode("utf-16-le") + b"\x00\x00"
        for tag, title, content in (
            (TAG_LOAD_OPTIONS, b"LOADED_IMAGE::LoadOptions\x00", options),
            (TAG_INITRD, b"Linux initrd\x00", self.initrd),
        ):
            data = tag.to_bytes(4, "little") + len(title).to_bytes(4, "little") + title
            builder.measure(9, EventKind.EV_EVENT_TAG, data, content)

    def _separate(self, builder: LogBuilder, pcr: int) -> None:
        if self.firmware_error:
            builder.measure(pcr, EventKind.EV_SEPARATOR, b"\x2a\x00\x00\x00", b"\x01\x00\x00\x00")
        else:
            builder.measure(pcr, EventKind.EV_SEPARATOR, bytes(4))
