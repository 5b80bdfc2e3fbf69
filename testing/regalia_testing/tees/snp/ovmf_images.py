"""Writes firmware images that end as OVMF does, for tests of what reads and measures them.

Written from the specifications apart from ``regalia.measure.images.ovmf``. They start nothing.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from uuid import UUID

PAGE = 4096
TDX_HEADER_GUID = "e9eaf9f3-168e-44d5-a8eb-7f4d8738f6ae"
_FOOTER = "96b582de-1fb2-45f7-baea-a366c55a082d"
_RESET = "00f771de-1a7e-4fcb-890e-68c77e2fb44e"
_HASHES = "7255371f-3a3b-4b04-927b-1da6efa8d454"
_SEV = "dc886566-984a-4798-a75e-5585a7bf67cc"
_TDX = "e47a6535-984a-4798-865e-4685a7bf8ec2"
_SEV_FROM_END = 0x500
_TDX_FROM_END = 0x900

# AmdSev's memory map: page tables, stack, secrets, CPUID, kernel hashes, heap.
SEV_SECTIONS = (
    (0x800000, 0x9000, 1),
    (0x80A000, 0x3000, 1),
    (0x80D000, 0x1000, 2),
    (0x80E000, 0x1000, 3),
    (0x80F000, 0x1000, 0x10),
    (0x810000, 0x10000, 1),
)
HASH_TABLE_GPA = 0x80FC00


@dataclass(frozen=True, slots=True, kw_only=True)
class Firmware:
    """What to write, with room to lie. An empty tuple leaves the metadata out."""

    size: int = 4 * PAGE
    fill: bytes = b"\x5a"
    reset_eip: int | None = 0x80B004
    hash_table_gpa: int | None = HASH_TABLE_GPA
    sev: tuple[tuple[int, int, int], ...] = SEV_SECTIONS
    # data offset, data size, address, memory size, type, attributes
    tdx: tuple[tuple[int, int, int, int, int, int], ...] = ()
    sev_head: tuple[bytes, int] = (b"ASEV", 1)  # signature, version
    tdx_head: tuple[bytes, int] = (b"TDVF", 1)
    tdx_guid: str = TDX_HEADER_GUID
    length_change: int = 0  # of both metadata lengths
    count_change: int = 0  # of both numbers of sections
    footer: str = _FOOTER
    table_size_change: int = 0
    extra_entries: tuple[tuple[str, bytes], ...] = field(default_factory=tuple)


def ovmf_image(firmware: Firmware) -> bytes:
    """The bytes: a reproducible filling, metadata, the GUIDed table, a reset vector."""
    pattern = b"".join(struct.pack("<I", i) + firmware.fill for i in range(firmware.size // 5 + 1))
    image = bytearray(pattern[: firmware.size])
    entries = list(firmware.extra_entries)
    if firmware.tdx:
        body = _metadata(firmware, firmware.tdx_head, firmware.tdx, "<IIQQII")
        head = UUID(firmware.tdx_guid).bytes_le
        _put(image, _TDX_FROM_END + len(head), head + body)
        entries.append((_TDX, struct.pack("<I", _TDX_FROM_END)))
    if firmware.sev:
        body = _metadata(firmware, firmware.sev_head, firmware.sev, "<III")
        _put(image, _SEV_FROM_END, body)
        entries.append((_SEV, struct.pack("<I", _SEV_FROM_END)))
    if firmware.hash_table_gpa is not None:
        entries.append((_HASHES, struct.pack("<II", firmware.hash_table_gpa, 0x400)))
    if firmware.reset_eip is not None:
        entries.append((_RESET, struct.pack("<I", firmware.reset_eip)))
    table = b"".join(_entry(guid, data) for guid, data in entries)
    size = len(table) + 18 + firmware.table_size_change
    table += struct.pack("<H", size) + UUID(firmware.footer).bytes_le
    _put(image, 32 + len(table), table)
    return bytes(image)


def tdvf_sections(
    size: int, *, variables: int = PAGE
) -> tuple[tuple[int, int, int, int, int, int], ...]:
    """OvmfPkgX64's layout for an image of this size: variables in front, then measured code."""
    base = (1 << 32) - size
    return (
        (variables, size - variables, base + variables, size - variables, 0, 1),
        (0, variables, base, variables, 1, 0),
        (0, 0, 0x810000, 0x10000, 3, 0),
        (0, 0, 0x80B000, 0x2000, 3, 0),
        (0, 0, 0x809000, 0x2000, 2, 0),
        (0, 0, 0x800000, 0x6000, 3, 0),
    )


def _metadata(
    firmware: Firmware, head: tuple[bytes, int], rows: tuple[tuple[int, ...], ...], layout: str
) -> bytes:
    body = b"".join(struct.pack(layout, *row) for row in rows)
    length = 16 + len(body) + firmware.length_change
    return struct.pack("<4sIII", head[0], length, head[1], len(rows) + firmware.count_change) + body


def _entry(guid: str, data: bytes) -> bytes:
    return data + struct.pack("<H", len(data) + 18) + UUID(guid).bytes_le


def _put(image: bytearray, from_end: int, data: bytes) -> None:
    start = len(image) - from_end
    image[start : start + len(data)] = data
