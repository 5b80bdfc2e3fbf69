"""PCR 4, 9 and 11 after a unified kernel image (UKI) was started.

Sources: TCG PC Client Platform Firmware Profile, section 3.3.4.5 (PCR 4); edk2,
SecurityPkg/Library/DxeTpm2MeasureBootLib (how an image is hashed) and SecurityPkg/Tcg/Tcg2Dxe
(action and separator); Linux, drivers/firmware/efi/libstub (PCR 9); systemd, see
``regalia.measure.stub`` (PCR 11) and systemd-pcrphase.service(8) (boot phases).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from regalia.core.errors import CoreCode, ParseError, UsageError
from regalia.measure.codes import MeasureCode
from regalia.measure.images.pe import parse_pe
from regalia.measure.pcr import PcrEvent, replay
from regalia.measure.stub import (
    MEASURED_SINCE,
    OLDEST,
    kernel_initrd,
    load_options,
    measured_sections,
    uki_sections,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regalia.measure.images.pe import PeImage
    from regalia.measure.pcr import Bank

PCR_BOOT_MANAGER = 4
PCR_KERNEL_EFI_STUB = 9
PCR_KERNEL_IMAGE = 11

PHASES = ("enter-initrd", "leave-initrd", "sysinit", "ready")
_PHASES_MAX = 32
_CALLING_APPLICATION = b"Calling EFI Application from Boot Option"
_SEPARATOR = bytes(4)


class Start(StrEnum):
    """How the firmware comes to start the first image, which decides the order in PCR 4."""

    BOOT_OPTION = "boot-option"  # from a disk or the network
    QEMU_KERNEL = "qemu-kernel"  # OVMF with QEMU's -kernel


@dataclass(frozen=True, slots=True, kw_only=True)
class UkiBoot:
    """How the image is started."""

    systemd: int  # version of the stub in the image
    bank: Bank
    start: Start
    earlier: tuple[PeImage, ...]  # what the firmware starts before it: shim, a boot loader
    inner_kernel: bool  # whether the firmware measures the kernel that the stub starts
    phases: tuple[str, ...]  # boot phases that were reached, in order


@dataclass(frozen=True, slots=True, kw_only=True)
class UkiMeasurement:
    """Registers by number, and how they come about."""

    pcrs: dict[int, bytes]
    events: tuple[PcrEvent, ...]
    notes: tuple[str, ...]  # what is not covered, in sentences


def measure_uki(image: PeImage, boot: UkiBoot) -> UkiMeasurement:
    """Compute the registers.

    Args:
        image: raw, untrusted.
        boot: how the machine will boot it.

    Raises:
        ParseError: NOT_A_UKI, UKI_UNPREDICTABLE, or MALFORMED.
        UsageError: STUB_VERSION_UNKNOWN or BAD_USAGE.
    """
    if boot.systemd < OLDEST:
        raise UsageError(
            MeasureCode.STUB_VERSION_UNKNOWN,
            f"systemd {boot.systemd}: its stub is older than {OLDEST}",
        )
    sections = uki_sections(image, boot.systemd)
    events = [*_boot_events(image, sections, boot)]
    notes = []
    if ".cmdline" in sections:
        events += _kernel_events(sections, boot)
    else:
        notes.append(
            "PCR 9 is left out: the image has no .cmdline, so whoever starts it chooses one."
        )
    events += _image_events(sections, boot)
    ignored = sorted({s.name for s in image.sections} & set(MEASURED_SINCE) - set(sections))
    if ignored:
        notes.append(f"systemd {boot.systemd} does not measure {', '.join(ignored)} into PCR 11.")
    return UkiMeasurement(pcrs=replay(events, boot.bank), events=tuple(events), notes=tuple(notes))


def authenticode(image: PeImage, bank: Bank) -> bytes:
    """The digest of an image that UEFI firmware measures, and that Secure Boot signatures cover.

    Args:
        image: raw, untrusted.
        bank: whose hash is used.
    """
    return bank.digest(*image.authenticode_parts())


def _boot_events(
    image: PeImage, sections: dict[str, memoryview], boot: UkiBoot
) -> Iterator[PcrEvent]:
    """PCR 4. OVMF loads an image given with -kernel before it says that it is about to boot."""

    def event(digest: bytes, what: str) -> PcrEvent:
        return PcrEvent(pcr=PCR_BOOT_MANAGER, digest=digest, what=what)

    bank = boot.bank
    chain = [event(authenticode(i, bank), "image started earlier") for i in boot.earlier]
    chain.append(event(authenticode(image, bank), "the unified kernel image, Authenticode"))
    ready = [
        event(bank.digest(_CALLING_APPLICATION), f"action: {_CALLING_APPLICATION.decode()}"),
        event(bank.digest(_SEPARATOR), "separator"),
    ]
    if boot.start is Start.QEMU_KERNEL:
        yield chain[0]
        yield from ready
        yield from chain[1:]
    else:
        yield from ready
        yield from chain
    if boot.inner_kernel:
        try:
            kernel = parse_pe(bytes(sections[".linux"]))
        except ParseError as exc:
            raise ParseError(exc.code, f".linux of the unified kernel image: {exc.what}") from exc
        yield event(authenticode(kernel, bank), "the kernel inside (.linux), Authenticode")


def _kernel_events(sections: dict[str, memoryview], boot: UkiBoot) -> Iterator[PcrEvent]:
    """PCR 9: what the kernel's own EFI stub measures."""
    yield PcrEvent(
        pcr=PCR_KERNEL_EFI_STUB,
        digest=boot.bank.digest(load_options(sections[".cmdline"], boot.systemd)),
        what="command line (LOADED_IMAGE::LoadOptions)",
    )
    initrd = kernel_initrd(sections, boot.systemd)
    if initrd:
        yield PcrEvent(
            pcr=PCR_KERNEL_EFI_STUB, digest=boot.bank.digest(*initrd), what="initrd (Linux initrd)"
        )


def _image_events(sections: dict[str, memoryview], boot: UkiBoot) -> Iterator[PcrEvent]:
    """PCR 11: name and contents of each section, then the phases."""

    def event(data: bytes | memoryview, what: str) -> PcrEvent:
        return PcrEvent(pcr=PCR_KERNEL_IMAGE, digest=boot.bank.digest(data), what=what)

    for name in measured_sections(sections, boot.systemd):
        yield event(name.encode("ascii") + b"\0", f"name of {name}")
        yield event(sections[name], f"contents of {name}")
    if len(boot.phases) > _PHASES_MAX or not all(
        phase and phase.isascii() and phase.isprintable() for phase in boot.phases
    ):
        raise UsageError(CoreCode.BAD_USAGE, "boot phases are printable words between colons")
    for phase in boot.phases:
        yield event(phase.encode("ascii"), f"boot phase {phase}")
