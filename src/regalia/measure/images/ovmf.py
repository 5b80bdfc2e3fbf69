"""Parser of OVMF firmware images: their GUIDed table, and their SEV and TDX metadata.

Spec: QEMU, docs/specs/sev-guest-firmware.rst (the table); edk2, OvmfPkg/ResetVector/X64/
OvmfSevMetadata.asm and OvmfPkg/ResetVector/X64/IntelTdxMetadata.asm; Intel 344991, "TDX Virtual
Firmware Design Guide", section 11 (TDVF metadata). All numbers are little-endian, including the
first three fields of GUIDs. Addresses are guest physical.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import TYPE_CHECKING, NoReturn
from uuid import UUID

from regalia.core.codec import MIB
from regalia.core.errors import CoreCode, ParseError
from regalia.wire.evidence_codes import EvidenceCode, unsupported_version

if TYPE_CHECKING:
    from collections.abc import Iterable

PAGE_SIZE = 4096  # bytes
LIMIT = 64 * MIB  # bytes of an image
FOUR_GIB = 1 << 32  # guest physical address at which the image ends
SECTIONS_MAX = 64

TABLE_FOOTER = UUID("96b582de-1fb2-45f7-baea-a366c55a082d")
SEV_ES_RESET_BLOCK = UUID("00f771de-1a7e-4fcb-890e-68c77e2fb44e")
SEV_HASH_TABLE = UUID("7255371f-3a3b-4b04-927b-1da6efa8d454")
SEV_METADATA = UUID("dc886566-984a-4798-a75e-5585a7bf67cc")
TDX_METADATA = UUID("e47a6535-984a-4798-865e-4685a7bf8ec2")
TDX_METADATA_HEADER = UUID("e9eaf9f3-168e-44d5-a8eb-7f4d8738f6ae")

_AFTER_TABLE = 32  # bytes between the table and the end of the image, with the reset vector
_ENTRY = struct.Struct("<H16s")  # size including this, and GUID; stored after the entry's data
_METADATA = struct.Struct("<4sIII")  # signature, length, version, number of sections
METADATA_VERSIONS = (1,)  # of both metadata descriptors
_SEV_SIGNATURE = b"ASEV"
_TDX_SIGNATURE = b"TDVF"
_SEV_SECTION = struct.Struct("<III")
_TDX_SECTION = struct.Struct("<IIQQII")


class SevSectionType(IntEnum):
    """Purpose of a SEV section, which determines how the host prepares its pages."""

    SNP_SEC_MEM = 0x1
    SNP_SECRETS = 0x2
    CPUID = 0x3
    SVSM_CAA = 0x4
    SNP_KERNEL_HASHES = 0x10


# Sections of exactly one page: only the first page of a longer one would be launched and measured.
_ONE_PAGE = (SevSectionType.SNP_SECRETS, SevSectionType.CPUID, SevSectionType.SNP_KERNEL_HASHES)


class TdxSectionType(IntEnum):
    """Kind of a TDVF section."""

    BFV = 0  # boot firmware volume: the code
    CFV = 1  # configuration firmware volume: the variables
    TD_HOB = 2
    TEMP_MEM = 3
    PERM_MEM = 4
    PAYLOAD = 5
    PAYLOAD_PARAM = 6
    TD_INFO = 7


class TdxAttribute(IntFlag):
    """Attribute bits of a TDVF section. The other bits are reserved."""

    MR_EXTEND = 1 << 0  # the contents are measured
    PAGE_AUG = 1 << 1  # the pages are added after launch, so they are not measured


_TDX_ATTRIBUTES = int(TdxAttribute.MR_EXTEND | TdxAttribute.PAGE_AUG)


@dataclass(frozen=True, slots=True, kw_only=True)
class SevSection:
    """One section of the SEV metadata."""

    gpa: int
    size: int  # bytes, in whole pages
    kind: SevSectionType


@dataclass(frozen=True, slots=True, kw_only=True)
class TdxSection:
    """One section of the TDX metadata."""

    data_offset: int  # offset in the image
    data_size: int  # bytes in the image; the rest of the memory is zero
    gpa: int
    size: int  # bytes in memory, in whole pages
    kind: TdxSectionType
    attributes: TdxAttribute


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class OvmfImage:
    """An image, and the information for the host in it; None for what it does not contain."""

    data: bytes
    reset_eip: int | None  # initial instruction pointer of all vCPUs but the first
    hash_table_gpa: int | None  # address of the table of kernel, initrd and command line hashes
    sev_sections: tuple[SevSection, ...] | None
    tdx_sections: tuple[TdxSection, ...] | None


def parse_ovmf(data: bytes) -> OvmfImage:
    """Parse an image, which consists of whole pages and ends with a GUIDed table.

    Args:
        data: raw, untrusted.

    Raises:
        ParseError: TOO_LARGE, MALFORMED, UNSUPPORTED_VERSION or RESERVED_BIT_SET.
    """
    if len(data) > LIMIT:
        raise ParseError(CoreCode.TOO_LARGE, f"OVMF image: {len(data)} bytes, at most {LIMIT}")
    if not data or len(data) % PAGE_SIZE:
        _malformed(f"{len(data)} bytes, want whole pages of {PAGE_SIZE}")
    table = _parse_table(data)
    try:
        return OvmfImage(
            data=data,
            reset_eip=_address(table, SEV_ES_RESET_BLOCK),
            hash_table_gpa=_address(table, SEV_HASH_TABLE),
            sev_sections=_parse_sev(data, table),
            tdx_sections=_parse_tdx(data, table),
        )
    except struct.error as exc:
        raise ParseError(CoreCode.MALFORMED, "OVMF image: metadata ends early") from exc


def _parse_table(data: bytes) -> dict[UUID, bytes]:
    """The entries by GUID. The table is parsed backwards from its footer."""
    end = len(data) - _AFTER_TABLE - _ENTRY.size
    size, footer = _ENTRY.unpack_from(data, end)
    if footer != TABLE_FOOTER.bytes_le:
        _malformed("no GUIDed table 48 bytes before its end; is this an OVMF image?")
    start = end + _ENTRY.size - size
    if not 0 <= start <= end:
        _malformed(f"a GUIDed table of {size} bytes")
    table: dict[UUID, bytes] = {}
    while end > start:
        if end - start < _ENTRY.size:
            _malformed("bytes left over in front of the GUIDed table's first entry")
        size, raw = _ENTRY.unpack_from(data, end - _ENTRY.size)
        guid = UUID(bytes_le=raw)
        if not _ENTRY.size <= size <= end - start:
            _malformed(f"table entry {guid} of {size} bytes")
        if guid in table:
            _malformed(f"table entry {guid} stands twice")
        table[guid] = data[end - size : end - _ENTRY.size]
        end -= size
    return table


def _address(table: dict[UUID, bytes], guid: UUID) -> int | None:
    """The address in the first four bytes of an entry; None if it is zero or there is no entry."""
    if guid not in table:
        return None
    (value,) = struct.unpack_from("<I", table[guid])
    return value or None


def _parse_metadata(
    data: bytes, entry: bytes, *, signature: bytes, row: struct.Struct
) -> tuple[int, list[tuple[int, ...]]]:
    """Offset of a metadata descriptor in the image, and its rows."""
    if len(entry) != 4:  # noqa: PLR2004 - the offset is a 32-bit number
        _malformed(f"a metadata offset of {len(entry)} bytes")
    start = len(data) - int.from_bytes(entry, "little")  # the offset counts from the end
    if not 0 <= start < len(data):
        _malformed("metadata lies outside of the image")
    name = signature.decode("ascii")
    found, length, version, count = _METADATA.unpack_from(data, start)
    if found != signature:
        _malformed(f"no {name} signature where the table points")
    if version not in METADATA_VERSIONS:
        raise unsupported_version(
            f"OVMF image: {name} metadata version", version, METADATA_VERSIONS
        )
    if not 1 <= count <= SECTIONS_MAX:
        _malformed(f"{count} {name} sections, want 1 to {SECTIONS_MAX}")
    if length != _METADATA.size + count * row.size:
        _malformed(f"{name} metadata of {length} bytes does not hold {count} sections exactly")
    rows = start + _METADATA.size
    return start, [row.unpack_from(data, rows + index * row.size) for index in range(count)]


def _parse_sev(data: bytes, table: dict[UUID, bytes]) -> tuple[SevSection, ...] | None:
    if SEV_METADATA not in table:
        return None
    _, rows = _parse_metadata(data, table[SEV_METADATA], signature=_SEV_SIGNATURE, row=_SEV_SECTION)
    sections = []
    for gpa, size, kind in rows:
        if kind not in set(SevSectionType):
            _malformed(f"SEV section of unknown type {kind:#x}")
        section = SevSection(gpa=gpa, size=size, kind=SevSectionType(kind))
        if not size or (section.kind in _ONE_PAGE and size != PAGE_SIZE):
            _malformed(f"SEV section {section.kind.name} of {size} bytes")
        sections.append(section)
    _require_apart([(s.gpa, s.size) for s in sections], below=FOUR_GIB - len(data))
    return tuple(sections)


def _parse_tdx(data: bytes, table: dict[UUID, bytes]) -> tuple[TdxSection, ...] | None:
    if TDX_METADATA not in table:
        return None
    start, rows = _parse_metadata(
        data, table[TDX_METADATA], signature=_TDX_SIGNATURE, row=_TDX_SECTION
    )
    if data[max(0, start - 16) : start] != TDX_METADATA_HEADER.bytes_le:
        _malformed("the TDX metadata's own GUID does not stand in front of it")
    sections = tuple(_tdx_section(data, row) for row in rows)
    _require_apart([(s.gpa, s.size) for s in sections], below=1 << 52)
    return sections


def _tdx_section(data: bytes, row: tuple[int, ...]) -> TdxSection:
    data_offset, data_size, gpa, size, kind, attributes = row
    if kind not in set(TdxSectionType):
        _malformed(f"TDX section of unknown type {kind}")
    name = TdxSectionType(kind).name
    if attributes & ~_TDX_ATTRIBUTES:
        raise ParseError(
            EvidenceCode.RESERVED_BIT_SET,
            f"OVMF image: TDX section {name} has attributes {attributes:#x}",
        )
    section = TdxSection(
        data_offset=data_offset,
        data_size=data_size,
        gpa=gpa,
        size=size,
        kind=TdxSectionType(kind),
        attributes=TdxAttribute(attributes),
    )
    if data_size and data_offset + data_size > len(data):
        _malformed(
            f"TDX section {name} ends at {data_offset + data_size:#x} of a file of"
            f" {len(data):#x} bytes; the split CODE and VARS files do not do, give the whole image"
        )
    if data_size > size:
        _malformed(f"TDX section {name} has {data_size} bytes of data for {size} of memory")
    if section.kind in (TdxSectionType.BFV, TdxSectionType.CFV) and not data_size:
        _malformed(f"TDX section {name} is empty")
    if TdxAttribute.PAGE_AUG in section.attributes and (
        data_size or TdxAttribute.MR_EXTEND in section.attributes
    ):
        _malformed(f"TDX section {name} has contents and is added after launch")
    return section


def _require_apart(ranges: Iterable[tuple[int, int]], *, below: int) -> None:
    """Refuse partial pages, overlapping sections, and memory that ends above ``below``."""
    position = 0
    for gpa, size in sorted(ranges):
        if gpa % PAGE_SIZE or size % PAGE_SIZE:
            _malformed(f"a section at {gpa:#x} of {size:#x} bytes is not whole pages")
        if gpa < position:
            _malformed(f"the section at {gpa:#x} overlaps the one before it")
        position = gpa + size
    if position > below:
        _malformed(f"a section ends at {position:#x}, at most {below:#x}")


def _malformed(what: str) -> NoReturn:
    raise ParseError(CoreCode.MALFORMED, f"OVMF image: {what}")
