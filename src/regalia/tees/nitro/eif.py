"""Parser of the Enclave Image Format (EIF) of AWS Nitro Enclaves.

Source: aws/aws-nitro-enclaves-image-format, src/defs/mod.rs (structures) and
src/utils/eif_reader.rs (coverage of the checksum). All numbers are big-endian. A header of 548
bytes holds a table of section offsets and sizes. Every section starts with its own header of 12
bytes, which repeats its size. The sections fill the rest of the file.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from enum import IntEnum
from typing import NoReturn

from regalia.core.codec import MIB
from regalia.core.errors import CoreCode, ParseError
from regalia.wire.evidence_codes import EvidenceCode, unsupported_version

LIMIT = 4096 * MIB  # bytes of an image
MAGIC = b".eif"
VERSIONS = (3, 4)
SECTIONS_MAX = 32
HEADER_SIZE = 548  # bytes
SECTION_HEADER_SIZE = 12  # bytes
METADATA_SINCE_VERSION = 4
FLAG_ARM64 = 1 << 0

_HEADER = struct.Struct(">4sHHQQHH32Q32QII")
_SECTION = struct.Struct(">HHQ")


class EifSectionType(IntEnum):
    """Kind of content of a section."""

    KERNEL = 1
    CMDLINE = 2
    RAMDISK = 3
    SIGNATURE = 4
    METADATA = 5


_MEASURED = (EifSectionType.KERNEL, EifSectionType.CMDLINE, EifSectionType.RAMDISK)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class EifImage:
    """The parts of an image, untrusted."""

    version: int
    arm64: bool
    measured: tuple[tuple[EifSectionType, memoryview], ...]  # kernel, command line, ramdisks
    signature: memoryview | None
    metadata: memoryview | None


def parse_eif(data: bytes) -> EifImage:
    """Parse an image, which has one kernel, one command line and at least one ramdisk.

    They may stand in any order: the registers are computed over them as they stand in the file.

    Args:
        data: raw, untrusted.

    Raises:
        ParseError: TOO_LARGE, MALFORMED, UNSUPPORTED_VERSION, RESERVED_BIT_SET or TRAILING_DATA.
    """
    if len(data) > LIMIT:
        raise ParseError(CoreCode.TOO_LARGE, f"EIF: {len(data)} bytes, at most {LIMIT}")
    if data[:4] != MAGIC:
        _malformed("does not start with .eif")
    if len(data) < HEADER_SIZE:
        _malformed(f"{len(data)} bytes, the header alone has {HEADER_SIZE}")
    _, version, flags, _, _, reserved, count, *rest = _HEADER.unpack_from(data)
    offsets, sizes = rest[:SECTIONS_MAX], rest[SECTIONS_MAX : 2 * SECTIONS_MAX]
    unused, checksum = rest[2 * SECTIONS_MAX :]
    if version not in VERSIONS:
        raise unsupported_version("EIF: version", version, VERSIONS)
    if flags & ~FLAG_ARM64 or reserved or unused:
        raise ParseError(EvidenceCode.RESERVED_BIT_SET, "EIF: reserved header bits are not zero")
    if not 1 <= count <= SECTIONS_MAX:
        _malformed(f"{count} sections, want 1 to {SECTIONS_MAX}")
    # Unused entries must be zero, so that a reader that ignores the count sees the same sections.
    if any(offsets[count:]) or any(sizes[count:]):
        _malformed("the section table has entries behind the last section")
    sections = _sections(data, list(zip(offsets[:count], sizes[:count], strict=True)))
    _require_checksum(data, checksum)
    return _image(version, sections, arm64=bool(flags & FLAG_ARM64))


def _sections(data: bytes, table: list[tuple[int, int]]) -> list[tuple[EifSectionType, memoryview]]:
    """The sections in the order of the file, which determines the PCRs.

    The table may list them in another order, because the tools that write it list ramdisks last.
    """
    view = memoryview(data)
    position = HEADER_SIZE
    sections = []
    for offset, size in sorted(table):
        if offset != position:
            _malformed(f"a section at {offset}, want {position}, where the part before it ends")
        if offset + SECTION_HEADER_SIZE + size > len(data):
            _malformed("a section ends behind the end of the file")
        kind, flags, own_size = _SECTION.unpack_from(data, offset)
        if kind not in set(EifSectionType):
            _malformed(f"a section of unknown type {kind}")
        if flags:
            raise ParseError(EvidenceCode.RESERVED_BIT_SET, f"EIF: section flags {flags:#x}")
        if own_size != size:
            _malformed(f"a section of {own_size} bytes, and of {size} in the table")
        start = offset + SECTION_HEADER_SIZE
        position = start + size
        sections.append((EifSectionType(kind), view[start:position]))
    if position != len(data):
        raise ParseError(
            EvidenceCode.TRAILING_DATA, f"EIF: {len(data) - position} bytes behind the sections"
        )
    return sections


def _require_checksum(data: bytes, wanted: int) -> None:
    """Check the CRC-32 (IEEE) over all bytes except the field itself, the header's last."""
    found = zlib.crc32(memoryview(data)[: HEADER_SIZE - 4])
    found = zlib.crc32(memoryview(data)[HEADER_SIZE:], found)
    if found != wanted:
        _malformed(f"CRC-32 {found:08x}, the header says {wanted:08x}")


def _image(
    version: int, sections: list[tuple[EifSectionType, memoryview]], *, arm64: bool
) -> EifImage:
    found: dict[EifSectionType, list[memoryview]] = {kind: [] for kind in EifSectionType}
    for kind, body in sections:
        found[kind].append(body)
    for kind, bodies in found.items():
        optional = kind in (EifSectionType.SIGNATURE, EifSectionType.METADATA)
        if kind is not EifSectionType.RAMDISK and len(bodies) > 1:
            _malformed(f"{len(bodies)} {kind.name} sections")
        if not optional and not bodies:
            _malformed(f"no {kind.name} section")
    if found[EifSectionType.METADATA] and version < METADATA_SINCE_VERSION:
        _malformed(f"a METADATA section in version {version}")

    def one(kind: EifSectionType) -> memoryview | None:
        return found[kind][0] if found[kind] else None

    return EifImage(
        version=version,
        arm64=arm64,
        measured=tuple((kind, body) for kind, body in sections if kind in _MEASURED),
        signature=one(EifSectionType.SIGNATURE),
        metadata=one(EifSectionType.METADATA),
    )


def _malformed(what: str) -> NoReturn:
    raise ParseError(CoreCode.MALFORMED, f"EIF: {what}")
