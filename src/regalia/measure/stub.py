"""What systemd's UEFI stub does with the sections of a unified kernel image.

Sources: systemd-stub(7), systemd-measure(1) and systemd's src/fundamental/uki.h (sections and their
order), src/boot/stub.c (command line, initrds), src/boot/cpio.c (generated archives). Behavior
differs between versions; each difference is named by the version that brought it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from regalia.core.errors import CoreCode, ParseError
from regalia.measure.codes import MeasureCode

if TYPE_CHECKING:
    from regalia.measure.images.pe import PeImage

OLDEST = 252  # before, PCR 11 was not used like this
INNER_KERNEL_UNMEASURED_SINCE = 258  # the stub loads the kernel without the firmware's help

_LEADING_SPACES_DROPPED_SINCE = 255

# The sections that the stub measures into PCR 11, in its order, and since when. The order of the
# section table does not matter.
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

# Sections that reach the kernel as files of archives of their own, in this order, and since when.
_ARCHIVED = (
    (".pcrsig", "tpm2-pcr-signature.json", 252),
    (".pcrpkey", "tpm2-pcr-public-key.pem", 252),
    (".osrel", "os-release", 257),
    (".profile", "profile", 257),
)
_MAGIC = re.compile(rb"#### LoaderInfo: systemd-stub (\d{3,4})[^0-9]")
_ALIGNMENT = 4  # bytes, of each archive among several


def stub_version(image: PeImage) -> int:
    """The version that the stub in the image states of itself, in its section .sdmagic.

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

    Up to 257 the firmware loads the kernel. With Secure Boot the stub, which was verified with the
    kernel inside, overrides the firmware's check of it, and with the check goes the measurement.

    Args:
        version: of systemd's stub.
        secure_boot: whether the firmware enforces it.
    """
    return version < INNER_KERNEL_UNMEASURED_SINCE and not secure_boot


def uki_sections(image: PeImage, version: int) -> dict[str, memoryview]:
    """The non-empty sections that have a meaning for this version of the stub, by name.

    Args:
        image: raw, untrusted.
        version: of systemd's stub.

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
    """The names of the sections that go into PCR 11, in the order of their measurement.

    Args:
        sections: of the image, by name.
        version: of systemd's stub.
    """
    return [name for name, since in MEASURED_SINCE.items() if since <= version and name in sections]


def load_options(section: memoryview, version: int) -> bytes:
    """The command line as the kernel receives it: UTF-16, little endian, with its final NUL.

    The stub reads up to a NUL, turns each control character into a space, and drops spaces at the
    end; since 255 also at the beginning, and DEL is a control character.

    Args:
        section: ``.cmdline`` of the image.
        version: of systemd's stub.

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
    """The initrd that the kernel receives, as parts of one byte string; none if there is none.

    Microcode and the image's own initrd come first, then one archive for each section that is
    passed as a file. A single part is passed as it is; several are each padded with zeros.

    Args:
        sections: of the image, by name.
        version: of systemd's stub.
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
    """The cpio archive (newc) in which the stub passes one file, ``/.extra/NAME``, mode 0444.

    Args:
        name: of the file.
        data: its content.
    """
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
