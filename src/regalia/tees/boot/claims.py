"""What a verified event log tells of a boot; part of the claims of TEEs that measure boots.

``regalia.tees.boot.evidence.facts`` reads these from proven events. ``None`` means that no register
which the hardware signed says anything about it. Spec: docs/spec/event-logs.md, section 5.
"""

from __future__ import annotations

from dataclasses import dataclass

# Boot loader and kernel images (4), GRUB's commands (8), kernel command line and initrd (9), the
# parts of a unified kernel image (11). TCG PC Client profile; UAPI Linux TPM PCR Registry.
WORKLOAD_PCRS = (4, 8, 9, 11)


@dataclass(frozen=True, slots=True, kw_only=True)
class BootFacts:
    """Digests are of the log's bank, except those that say SHA-256.

    Attributes:
        secure_boot: whether UEFI Secure Boot was on.
        deployed_mode, audit_mode: variables DeployedMode and AuditMode, if firmware measures them.
        firmware_debugger: whether the firmware announced a debugger ("UEFI Debug Mode").
        firmware_error: whether a separator says that the firmware met an error.
        pk, kek, db, dbx: SHA-256 of the Secure Boot variables' data.
        authorities: SHA-256 of every structure that names what verified an image: the variable,
            the certificate or digest in it, and shim's and the kernel's likewise.
        boot_images: digests of everything that may be a program of the boot: loaders, kernels,
            and in RTMR1 drivers too. For PE images they are Authenticode digests.
        option_roms: digests of drivers and option ROMs of devices (PCR 2); ``None`` for RTMRs.
        loader_texts: every text that a boot loader measured, in order, without labels.
        loader_digests: digests of all else in the registers of boot loaders, in order.
        kernel_command_lines: those of the texts that the log labels so.
        loader_commands: those of the texts that the log labels as GRUB's commands.
        load_options: digests that the log labels as the load options of Linux (in UTF-16).
        initrds: digests that the log labels as the initrd of Linux.
        uki_sections: name and digest of each section of a unified kernel image.
        runtime_events: events of a confidential container's agent: domain, operation, content.
        runtime_digests: digests of all else in RTMR3, in order; empty for PCRs, where such events
            are among the loader's.
        exit_boot_services: whether the firmware handed over to an operating system.
        unknown_events: how many events are of a type without a known meaning.
    """

    secure_boot: bool | None
    deployed_mode: bool | None
    audit_mode: bool | None
    firmware_debugger: bool | None
    firmware_error: bool | None
    pk: bytes | None
    kek: bytes | None
    db: bytes | None
    dbx: bytes | None
    authorities: tuple[bytes, ...]
    boot_images: tuple[bytes, ...] | None
    option_roms: tuple[bytes, ...] | None
    loader_texts: tuple[str, ...]
    loader_digests: tuple[bytes, ...]
    kernel_command_lines: tuple[str, ...]
    loader_commands: tuple[str, ...]
    load_options: tuple[bytes, ...]
    initrds: tuple[bytes, ...]
    uki_sections: tuple[tuple[str, bytes], ...]
    runtime_events: tuple[str, ...]
    runtime_digests: tuple[bytes, ...]
    exit_boot_services: bool
    unknown_events: int
