"""Facts of a boot, read from a verified log. Spec: docs/spec/event-logs.md, section 5.

Whoever sends a log may call any event anything: no digest covers an event's type, nor GRUB's
labels. Three rules keep that from turning into a false fact:

* What decides (separators, switches of Secure Boot, the debugger's announcement, names of
  sections) is found by its digest, whatever the event is called.
* Secure Boot's variables count before the first separator of their register only, where nothing
  but the firmware extends it, and only if they are there once.
* Lists that a policy may demand to be short (images, option ROMs, the loader's measurements)
  hold everything in their registers that is not known to be harmless.

``kernel_command_lines``, ``loader_commands``, ``load_options`` and ``initrds`` rest on labels, so
they help people read a log. A policy that must hold against a lying log pins ``loader_texts`` and
``loader_digests`` whole.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from regalia.core.errors import ParseError
from regalia.tees.boot.claims import BootFacts
from regalia.tees.boot.evidence.digests import (
    SEPARATOR_ERROR,
    SEPARATOR_ONES,
    SEPARATOR_ZERO,
    TAG_AAEL,
    TAG_INITRD,
    TAG_LOAD_OPTIONS,
    TAGGED_HEAD_SIZE,
    Standing,
    grub_label,
    hash_of,
    tag_of,
)
from regalia.tees.boot.evidence.kinds import EventKind
from regalia.tees.boot.evidence.uefi import (
    EFI_GLOBAL_VARIABLE,
    EFI_IMAGE_SECURITY_DATABASE,
    UefiVariable,
    parse_variable,
)

if TYPE_CHECKING:
    from uuid import UUID

    from regalia.tees.boot.evidence.log import Algorithm
    from regalia.tees.boot.evidence.replay import VerifiedEvent, VerifiedLog

# Strings that firmware measures (PFP 10.4, and 3.3.4.8 for the debugger).
BOOT_ACTIONS = (
    b"Calling EFI Application from Boot Option",
    b"Returning from EFI Application from Boot Option",
    b"Exit Boot Services Invocation",
    b"Exit Boot Services Returned with Failure",
    b"Exit Boot Services Returned with Success",
)
EXITED_BOOT_SERVICES = b"Exit Boot Services Returned with Success"
DEBUGGER = b"UEFI Debug Mode"
# Sections of a unified kernel image that systemd-stub measures (systemd, src/fundamental/uki.c).
UKI_SECTIONS = (
    ".linux",
    ".osrel",
    ".cmdline",
    ".initrd",
    ".ucode",
    ".splash",
    ".dtb",
    ".uname",
    ".sbat",
    ".pcrpkey",
    ".profile",
    ".dtbauto",
    ".hwids",
    ".efifw",
)
_PE_MAGIC = b"MZ"


@dataclass(frozen=True, slots=True)
class _Roles:
    """Which registers hold what. UEFI 2.10, chapter 38, maps PCRs to RTMRs."""

    secure_boot: int
    images: int
    option_roms: int | None
    exit: int
    boot_variables: int
    firmware: tuple[int, ...]
    loader: tuple[int, ...]
    runtime: tuple[int, ...]


_PCR_ROLES = _Roles(
    secure_boot=7,
    images=4,
    option_roms=2,
    exit=5,
    boot_variables=1,
    firmware=(0, 1, 2, 3, 4, 5, 6, 7),
    loader=(8, 9, 11, 12, 13, 14, 15),
    runtime=(),
)
_RTMR_ROLES = _Roles(
    secure_boot=0,
    images=1,
    option_roms=None,
    exit=1,
    boot_variables=0,
    firmware=(0, 1),
    loader=(2,),
    runtime=(3,),
)


class _Reading:
    """One log with the digests that decide, computed once."""

    __slots__ = ("log", "roles", "separators")

    def __init__(self, log: VerifiedLog) -> None:
        self.log = log
        self.roles = _RTMR_ROLES if log.rtmrs else _PCR_ROLES
        self.separators = _digests(log.algorithm, SEPARATOR_ZERO, SEPARATOR_ONES, SEPARATOR_ERROR)

    def measured(self, *registers: int) -> list[VerifiedEvent]:
        """Events that extended one of these registers, in order."""
        return [
            event
            for event in self.log.events
            if event.register in registers and event.standing is not Standing.UNMEASURED
        ]

    def has(self, register: int, data: bytes) -> bool:
        """Whether these very bytes were measured."""
        digest = hash_of(self.log.algorithm, data)
        return any(event.digest == digest for event in self.measured(register))

    def from_firmware(self) -> list[VerifiedEvent]:
        """Events of Secure Boot's register before its first separator."""
        found: list[VerifiedEvent] = []
        for event in self.measured(self.roles.secure_boot):
            if event.digest in self.separators:
                return found
            found.append(event)
        return []  # no separator: the firmware never said that it was done


def read_facts(log: VerifiedLog) -> BootFacts:
    """Everything that the proven part of a log tells. Never raises: what is odd is no fact."""
    reading = _Reading(log)
    roles = reading.roles
    firmware = reading.from_firmware()
    variables = _variables(firmware)
    loader = reading.measured(*roles.loader)
    texts, digests = _loader_contents(loader)
    return BootFacts(
        secure_boot=_switch(firmware, log.algorithm, "SecureBoot"),
        deployed_mode=_switch(firmware, log.algorithm, "DeployedMode"),
        audit_mode=_switch(firmware, log.algorithm, "AuditMode"),
        firmware_debugger=_when(
            roles.secure_boot in log.registers, reading.has(roles.secure_boot, DEBUGGER)
        ),
        firmware_error=_firmware_error(reading),
        pk=_variable_digest(variables, EFI_GLOBAL_VARIABLE, "PK"),
        kek=_variable_digest(variables, EFI_GLOBAL_VARIABLE, "KEK"),
        db=_variable_digest(variables, EFI_IMAGE_SECURITY_DATABASE, "db"),
        dbx=_variable_digest(variables, EFI_IMAGE_SECURITY_DATABASE, "dbx"),
        authorities=_authorities(reading),
        boot_images=_boot_images(reading),
        option_roms=_option_roms(reading),
        loader_texts=texts,
        loader_digests=digests,
        kernel_command_lines=_labelled(loader, (b"kernel_cmdline: ", b"grub_kernel_cmdline ")),
        loader_commands=_labelled(loader, (b"grub_cmd: ", b"grub_cmd ")),
        load_options=_tagged(loader, TAG_LOAD_OPTIONS),
        initrds=_tagged(loader, TAG_INITRD),
        uki_sections=_uki_sections(loader, log.algorithm),
        runtime_events=tuple(_agent_text(each) for each in log.events if _is_agents(each)),
        runtime_digests=tuple(
            each.digest for each in reading.measured(*roles.runtime) if not _is_agents(each)
        ),
        exit_boot_services=reading.has(roles.exit, EXITED_BOOT_SERVICES),
        unknown_events=sum(event.standing is Standing.UNKNOWN for event in log.events),
    )


def _digests(algorithm: Algorithm, *contents: bytes) -> frozenset[bytes]:
    return frozenset(hash_of(algorithm, content) for content in contents)


def _when(covered: bool, value: bool) -> bool | None:  # noqa: FBT001 - both are values
    return value if covered else None


def _variables(events: list[VerifiedEvent]) -> list[UefiVariable]:
    found = []
    for event in events:
        if event.kind == EventKind.EV_EFI_VARIABLE_DRIVER_CONFIG:
            try:
                found.append(parse_variable(event.proven))
            except ParseError:
                continue
    return found


def _switch(events: list[VerifiedEvent], algorithm: Algorithm, name: str) -> bool | None:
    """A variable of one byte. One that does not exist is measured without data (PFP 3.3.4.8)."""
    meaning = {
        hash_of(algorithm, UefiVariable(EFI_GLOBAL_VARIABLE, name, data).encode()): data == b"\x01"
        for data in (b"", b"\x00", b"\x01")
    }
    found = [meaning[event.digest] for event in events if event.digest in meaning]
    return found[0] if len(found) == 1 else None


def _variable_digest(variables: list[UefiVariable], guid: UUID, name: str) -> bytes | None:
    found = [each.data for each in variables if each.guid == guid and each.name == name]
    return hashlib.sha256(found[0]).digest() if len(found) == 1 else None


def _firmware_error(reading: _Reading) -> bool | None:
    """Whether a separator says so.

    A BootOrder of two entries can have the very same bytes, and is measured into one register. The
    type of an event is not measured, so in the others it excuses nothing.
    """
    covered = [index for index in reading.roles.firmware if index in reading.log.registers]
    error = hash_of(reading.log.algorithm, SEPARATOR_ERROR)
    found = any(
        event.digest == error
        and not (
            event.kind == EventKind.EV_EFI_VARIABLE_BOOT
            and event.register == reading.roles.boot_variables
        )
        for event in reading.measured(*covered)
    )
    return _when(bool(covered), found)


def _authorities(reading: _Reading) -> tuple[bytes, ...]:
    return tuple(
        hashlib.sha256(event.proven).digest()
        for event in reading.measured(reading.roles.secure_boot)
        if event.kind == EventKind.EV_EFI_VARIABLE_AUTHORITY and event.standing is Standing.PROVEN
    )


def _boot_images(reading: _Reading) -> tuple[bytes, ...] | None:
    """All that is not proven to be something else than a program.

    The digest of a PE image has a preimage too, which a sender could put into some event as its
    data. It starts with the image's first bytes, so such an event stays an image here.
    """
    if reading.roles.images not in reading.log.registers:
        return None
    harmless = reading.separators | _digests(reading.log.algorithm, *BOOT_ACTIONS)
    return tuple(
        event.digest
        for event in reading.measured(reading.roles.images)
        if event.digest not in harmless
        and (event.standing is not Standing.PROVEN or event.proven.startswith(_PE_MAGIC))
    )


def _option_roms(reading: _Reading) -> tuple[bytes, ...] | None:
    register = reading.roles.option_roms
    if register is None or register not in reading.log.registers:
        return None
    return tuple(
        event.digest
        for event in reading.measured(register)
        if event.digest not in reading.separators
    )


def _loader_contents(
    events: list[VerifiedEvent],
) -> tuple[tuple[str, ...], tuple[bytes, ...]]:
    """Texts, and the digests of what is none. Together they are all of the events."""
    texts: list[str] = []
    digests: list[bytes] = []
    for event in events:
        text = _text(event)
        if text is None:
            digests.append(event.digest)
        else:
            texts.append(text)
    return tuple(texts), tuple(digests)


def _text(event: VerifiedEvent) -> str | None:
    """A proven text, in UTF-8 or UTF-16, without the NUL at its end."""
    if event.standing is not Standing.PROVEN:
        return None
    for encoding in ("utf-8", "utf-16-le"):
        try:
            text = event.proven.decode(encoding).removesuffix("\x00")
        except UnicodeDecodeError:
            continue
        if text and "\x00" not in text:
            return text
    return None


def _labelled(events: list[VerifiedEvent], labels: tuple[bytes, ...]) -> tuple[str, ...]:
    found = []
    for event in events:
        text = _text(event)
        is_loaders = event.kind == EventKind.EV_IPL
        if is_loaders and text is not None and grub_label(event.asserted) in labels:
            found.append(text)
    return tuple(found)


def _tagged(events: list[VerifiedEvent], tag: int) -> tuple[bytes, ...]:
    return tuple(
        event.digest
        for event in events
        if event.kind == EventKind.EV_EVENT_TAG and tag_of(event.asserted) == tag
    )


def _uki_sections(
    events: list[VerifiedEvent], algorithm: Algorithm
) -> tuple[tuple[str, bytes], ...]:
    """systemd-stub measures the name of each section, and then what is in it."""
    names = {hash_of(algorithm, name.encode() + b"\x00"): name for name in UKI_SECTIONS}
    found: list[tuple[str, bytes]] = []
    name: str | None = None
    for event in events:
        if name is not None:
            found.append((name, event.digest))
            name = None
        else:
            name = names.get(event.digest)
    return tuple(found)


def _is_agents(event: VerifiedEvent) -> bool:
    """Whether it is an AAEL event. Its tag is measured, so the type need not be believed."""
    return tag_of(event.proven) == TAG_AAEL


def _agent_text(event: VerifiedEvent) -> str:
    return event.proven[TAGGED_HEAD_SIZE:].decode("utf-8", "backslashreplace")
