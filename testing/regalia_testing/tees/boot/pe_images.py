"""Writes PE images and unified kernel images, for tests of what reads and measures them.

Written from the PE format apart from ``regalia.measure.images.pe``, so that the two check
each other.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FILE_ALIGNMENT = 512
_LFANEW = 0x80
_OPTIONAL_SIZE = {0x20B: 240, 0x10B: 224}
_DIRECTORIES = 16
_CHECKSUM = 0x1234  # nobody looks at it


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A section, with room to lie about it."""

    name: str
    data: bytes
    virtual_size: int | None = None  # None: as many as there are data
    raw_offset: int | None = None  # None: where the part before it ends
    raw_size: int | None = None  # None: the data, rounded up


def pe_image(
    sections: Sequence[Section],
    *,
    trailing: bytes = b"",
    certificates: bytes = b"",
    magic: int = 0x20B,
    directories: int = _DIRECTORIES,
) -> bytes:
    """An image that starts nothing, with these sections in this order."""
    optional_size = _OPTIONAL_SIZE[magic]
    headers = _rounded(_LFANEW + 24 + optional_size + 40 * len(sections))
    table, bodies, position, address = b"", b"", headers, 0x1000
    for section in sections:
        raw_size = _rounded(len(section.data)) if section.raw_size is None else section.raw_size
        virtual = len(section.data) if section.virtual_size is None else section.virtual_size
        offset = position if section.raw_offset is None else section.raw_offset
        table += struct.pack(
            "<8sIIIIIIHHI",
            section.name.encode("utf-8"),
            virtual,
            address,
            raw_size,
            offset,
            *(0, 0, 0, 0, 0x40000040),
        )
        body = section.data.ljust(_rounded(len(section.data)), b"\0")
        bodies += body
        position += len(body)
        address += 0x1000 * (1 + virtual // 0x1000)
    end = position + len(trailing)
    optional = bytearray(optional_size)
    struct.pack_into("<H", optional, 0, magic)
    struct.pack_into("<I", optional, 36, FILE_ALIGNMENT)
    struct.pack_into("<II", optional, 60, headers, _CHECKSUM)
    count_at = optional_size - 8 * _DIRECTORIES - 4
    struct.pack_into("<I", optional, count_at, directories)
    if certificates:
        struct.pack_into("<II", optional, count_at + 4 + 8 * 4, end, len(certificates))
    coff = struct.pack(
        "<4sHHIIIHH", b"PE\0\0", 0x8664, len(sections), 0x5EED, 0, 0, optional_size, 0x22
    )
    dos = b"MZ".ljust(0x3C, b"\0") + struct.pack("<I", _LFANEW)
    head = dos.ljust(_LFANEW, b"\xcc") + coff + bytes(optional) + table
    return head.ljust(headers, b"\0") + bodies + trailing + certificates


def uki_image(
    parts: Mapping[str, bytes], *, systemd: str = "252.39-1", certificates: bytes = b""
) -> bytes:
    """A unified kernel image: a stub that says its version, and these sections behind it."""
    stub = [
        Section(name=".text", data=b"\x90" * 1000),
        Section(
            name=".sdmagic", data=f"#### LoaderInfo: systemd-stub {systemd} ####\0".encode("ascii")
        ),
    ]
    stub += [Section(name=name, data=data) for name, data in parts.items()]
    return pe_image(stub, certificates=certificates)


def _rounded(size: int) -> int:
    return -(-size // FILE_ALIGNMENT) * FILE_ALIGNMENT
