"""Models how systemd's UEFI stub processes and measures a unified kernel image.

Sources: systemd-stub(7), systemd-measure(1) and systemd's src/fundamental/uki.h (sections and their
order), src/boot/stub.c (command line, initrds), src/boot/cpio.c (generated archives). The behavior
depends on the version; the constants name the first version with a behavior.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from regalia.core.errors import CoreCode, ParseError
from regalia.measure.codes import MeasureCode

if TYPE_CHECKING:
    from regalia.measure.images.pe import PeImage

OLDEST = 252  # older versions use PCR 11 differently
INNER_KERNEL_UNMEASURED_SINCE = 258  # since then the stub loads the kernel without the firmware

_LEADING_SPACES_DROPPED_SINCE = 255

# The sections that the stub measures into PCR 11, in the order of their measurement, and the first
# version that does. The order of the section table has no influence.
MEASURED_SINCE = {
    ".linux": 252,
    ".osrel": 252,
    ".cmdline": 252,
    ".initrd": 252,
    ".ucode": 256,
    ".splash": 252,
    ".dtb": 252,
    ".uname": 254,
    ".sbat": 254,
    ".pcrpkey": 252,
    ".profile": 257,
    ".dtbauto": 257,
    ".hwids": 257,
    ".efifw": 258,
}
_CHOSEN_AT_BOOT = (".dtbauto", ".efifw")

# Sections that are passed to the kernel as files in separate cpio archives, in this order: section,
# file name, first version.
_ARCHIVED = (
    (".pcrsig", "tpm2-pcr-signature.json", 252),
    (".pcrpkey", "tpm2-pcr-public-key.pem", 252),
    (".osrel", "os-release", 257),
    (".profile", "profile", 257),
)
_MAGIC = re.compile(rb"#### LoaderInfo: systemd-stub (\d{3,4})[^0-9]")
_ALIGNMENT = 4  # bytes; archives are padded to it if there are several


def stub_version(image: PeImage) -> int:
    """Read the version of the stub in the image, which its section .sdmagic states.

    Raises:
        ParseError: STUB_VERSION_UNKNOWN.
    """
    for section in image.sections:
        if section.name == ".sdmagic":
            found = _MAGIC.search(bytes(image.section_bytes(section)))
            if found:
                return int(found[1])
    raise ParseError(
        MeasureCode.STUB_VERSION_UNKNOWN, "the image does not say which systemd's stub it holds"
    )


def inner_kernel_measured(version: int, *, secure_boot: bool) -> bool:
    """Whether the firmware measures the kernel inside the image when the stub starts it.

    Up to version 257 the firmware loads the kernel. With Secure Boot, the stub overrides the
    firmware's verification of the kernel, because the kernel was already verified as a part of
    the image. The firmware then does not measure the kernel either.

    Args:
        version: version of systemd's stub.
        secure_boot: whether the firmware enforces Secure Boot.
    """
    return version < INNER_KERNEL_UNMEASURED_SINCE and not secure_boot


def uki_sections(image: PeImage, version: int) -> dict[str, memoryview]:
    """The non-empty sections, by name, that this version of the stub uses.

    Args:
        image: the parsed image, untrusted.
        version: version of systemd's stub.

    Raises:
        ParseError: NOT_A_UKI, UKI_UNPREDICTABLE or MALFORMED.
    """
    known = {name for name, since in MEASURED_SINCE.items() if since <= version}
    known.update(name for name, _, since in _ARCHIVED if since <= version)
    found: dict[str, memoryview] = {}
    for section in image.sections:
        if section.name not in known or not section.virtual_size:
            continue
        if section.name in _CHOSEN_AT_BOOT or section.name in found:
            raise ParseError(
                MeasureCode.UKI_UNPREDICTABLE,
                f"the image has {section.name} sections from which the stub chooses"
                if section.name in _CHOSEN_AT_BOOT
                else f"the image has several {section.name} sections",
            )
        found[section.name] = image.section_bytes(section)
    if ".linux" not in found:
        raise ParseError(MeasureCode.NOT_A_UKI, "the image has no .linux section")
    return found


def measured_sections(sections: dict[str, memoryview], version: int) -> list[str]:
    """Names of the sections that are measured into PCR 11, in the order of their measurement.

    Args:
        sections: sections of the image, by name.
        version: version of systemd's stub.
    """
    return [name for name, since in MEASURED_SINCE.items() if since <= version and name in sections]


def load_options(section: memoryview, version: int) -> bytes:
    """The command line as the kernel receives it: UTF-16 in little endian, with a final NUL.

    The stub reads up to the first NUL, replaces control characters by spaces, and drops trailing
    spaces. Since version 255 it also drops leading spaces, and replaces DEL.

    Args:
        section: contents of the section ``.cmdline``.
        version: version of systemd's stub.

    Raises:
        ParseError: MALFORMED if the section is not UTF-8.
    """
    raw, _, _ = bytes(section).partition(b"\0")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise ParseError(CoreCode.MALFORMED, "unified kernel image: .cmdline is not UTF-8") from exc
    text = "".join(max(char, " ") for char in text)
    if version >= _LEADING_SPACES_DROPPED_SINCE:
        text = text.replace("\x7f", " ").lstrip(" ")
    return (text.rstrip(" ") + "\0").encode("utf-16-le")


def kernel_initrd(sections: dict[str, memoryview], version: int) -> tuple[memoryview, ...]:
    """The initrd that the kernel receives, as parts to concatenate; empty if there is none.

    Microcode and the image's own initrd come first, followed by an archive for every section that
    is passed as a file. A single part is passed unchanged; several are padded with zeros.

    Args:
        sections: sections of the image, by name.
        version: version of systemd's stub.
    """
    parts = [sections[name] for name in (".ucode", ".initrd") if name in sections]
    parts += [
        memoryview(archive(file, bytes(sections[name])))
        for name, file, since in _ARCHIVED
        if since <= version and name in sections
    ]
    if len(parts) < 2:  # noqa: PLR2004 - nothing to combine
        return tuple(parts)
    padded: list[memoryview] = []
    for part in parts:
        padded += [part, memoryview(bytes(-len(part) % _ALIGNMENT))]
    return tuple(padded)


def archive(name: str, data: bytes) -> bytes:
    """Build the cpio archive (newc) in which the stub passes the file ``/.extra/NAME``.

    Args:
        name: name of the file, whose mode is 0444.
        data: contents of the file.
    """
    # The stub writes the trailer as a constant, which spells its name's size with a capital B.
    return (
        _member(".extra", inode=1, mode=0o40555, data=b"")
        + _member(f".extra/{name}", inode=2, mode=0o100444, data=data)
        + _member("TRAILER!!!", inode=0, mode=0, data=b"").replace(b"0000000b", b"0000000B")
    )


def _member(name: str, *, inode: int, mode: int, data: bytes) -> bytes:
    path = name.encode("ascii") + b"\0"
    # inode, mode, uid, gid, links, mtime, size, device, special device, size of name, checksum
    fields = (inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(path), 0)
    head = b"070701" + b"".join(b"%08x" % field for field in fields) + path
    return _padded(_padded(head) + data)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % _ALIGNMENT)
