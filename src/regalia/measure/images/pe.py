"""Parser of PE/COFF images as UEFI starts them: section table, and coverage of Authenticode.

Spec: Microsoft, "PE Format", and "Windows Authenticode Portable Executable Signature Format",
section "Calculating the PE Image Hash". All numbers are little-endian. Only fields that affect the
measurement are parsed. No signature is verified, so a parsed image is still untrusted.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from regalia.core.codec import MIB
from regalia.core.errors import CoreCode, ParseError

if TYPE_CHECKING:
    from collections.abc import Iterator

LIMIT = 2048 * MIB  # bytes; a unified kernel image with a large initrd fits
SECTIONS_MAX = 96  # the PE format's own limit for executables

_DOS_MAGIC = b"MZ"
_DOS_LFANEW = 0x3C
_SIGNATURE = b"PE\0\0"
_COFF = struct.Struct("<4sHHIIIHH")
# PE32 and PE32+: offsets of NumberOfRvaAndSizes and of the first directory in the optional header.
_OPTIONAL_MAGIC = {0x10B: (92, 96), 0x20B: (108, 112)}
_SIZE_OF_HEADERS = 60  # offset in the optional header
_CHECKSUM = 64  # offset in the optional header
_DIRECTORY_SIZE = 8
_SECURITY_DIRECTORY = 4  # index of the attribute certificate table
_SECTION = struct.Struct("<8sIIIIIIHHI")


@dataclass(frozen=True, slots=True, kw_only=True)
class PeSection:
    """One entry of the section table."""

    name: str  # without the zeros that pad it to 8 bytes
    virtual_size: int  # bytes in memory
    virtual_address: int
    raw_size: int  # bytes in the file
    raw_offset: int


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class PeImage:
    """An image, and the positions of its parts."""

    data: bytes
    headers_size: int
    checksum_offset: int
    security_directory_offset: int | None  # None if the optional header is too short for one
    certificates_size: int  # bytes at the end of the file; 0 if it is not signed
    sections: tuple[PeSection, ...]

    def section_bytes(self, section: PeSection) -> memoryview:
        """The section as it is in memory, ``virtual_size`` bytes.

        Raises:
            ParseError: MALFORMED if part of it is not in the file.
        """
        if section.virtual_size > section.raw_size:
            _malformed(
                f"section {section.name} has {section.virtual_size} bytes in memory"
                f" and {section.raw_size} in the file"
            )
        start = section.raw_offset
        return memoryview(self.data)[start : start + section.virtual_size]

    def authenticode_parts(self) -> Iterator[memoryview]:
        """The parts that the Authenticode hash covers: headers, sections, and trailing data.

        The hash omits the checksum, the certificate table and its directory entry, so that
        signing does not change it. No padding is added, as UEFI firmware adds none.
        """
        view = memoryview(self.data)
        skipped = [(self.checksum_offset, 4)]
        if self.security_directory_offset is not None:
            skipped.append((self.security_directory_offset, _DIRECTORY_SIZE))
        position = 0
        for offset, size in skipped:
            yield view[position:offset]
            position = offset + size
        yield view[position : self.headers_size]
        hashed = self.headers_size
        for section in self.sections_by_file_offset():
            yield view[section.raw_offset : section.raw_offset + section.raw_size]
            hashed += section.raw_size
        yield view[hashed : len(view) - self.certificates_size]

    def sections_by_file_offset(self) -> list[PeSection]:
        """The sections with bytes in the file, in the order of their file offsets."""
        return sorted((s for s in self.sections if s.raw_size), key=lambda s: s.raw_offset)


def parse_pe(data: bytes) -> PeImage:
    """Parse an image.

    Args:
        data: raw, untrusted.

    Raises:
        ParseError: TOO_LARGE or MALFORMED.
    """
    if len(data) > LIMIT:
        raise ParseError(CoreCode.TOO_LARGE, f"PE image: {len(data)} bytes, at most {LIMIT}")
    try:
        image = _parse(data)
    except struct.error as exc:
        raise ParseError(CoreCode.MALFORMED, "PE image: a header ends early") from exc
    _require_contiguous(image)
    return image


def _parse(data: bytes) -> PeImage:
    if data[:2] != _DOS_MAGIC:
        _malformed("does not start with MZ")
    (start,) = struct.unpack_from("<I", data, _DOS_LFANEW)
    signature, _, section_count, _, _, _, optional_size, _ = _COFF.unpack_from(data, start)
    if signature != _SIGNATURE:
        _malformed("no PE signature where the DOS header points")
    if not 1 <= section_count <= SECTIONS_MAX:
        _malformed(f"{section_count} sections, want 1 to {SECTIONS_MAX}")
    optional = start + _COFF.size
    (magic,) = struct.unpack_from("<H", data, optional)
    if magic not in _OPTIONAL_MAGIC:
        _malformed(f"optional header magic {magic:#x}, want PE32 or PE32+")
    count_offset, directories = _OPTIONAL_MAGIC[magic]
    (directory_count,) = struct.unpack_from("<I", data, optional + count_offset)
    if directories + directory_count * _DIRECTORY_SIZE > optional_size:
        _malformed("more data directories than the optional header has room for")
    security, certificates_size = None, 0
    if directory_count > _SECURITY_DIRECTORY:
        security = optional + directories + _SECURITY_DIRECTORY * _DIRECTORY_SIZE
        certificates_size = _certificates_size(data, security)
    table = optional + optional_size
    (headers_size,) = struct.unpack_from("<I", data, optional + _SIZE_OF_HEADERS)
    if not table + section_count * _SECTION.size <= headers_size <= len(data):
        _malformed(f"SizeOfHeaders {headers_size} does not cover the headers or exceeds the file")
    return PeImage(
        data=data,
        headers_size=headers_size,
        checksum_offset=optional + _CHECKSUM,
        security_directory_offset=security,
        certificates_size=certificates_size,
        sections=tuple(
            _section(data, table + index * _SECTION.size) for index in range(section_count)
        ),
    )


def _certificates_size(data: bytes, directory: int) -> int:
    """Size of the certificate table.

    Unlike all other directories, its entry holds a file offset and not a virtual address.
    """
    offset, size = struct.unpack_from("<II", data, directory)
    if size and offset + size != len(data):
        _malformed("the certificate table does not end where the file ends")
    if offset and not size:
        _malformed("an empty certificate table has an offset")
    return int(size)


def _section(data: bytes, offset: int) -> PeSection:
    raw_name, virtual_size, virtual_address, raw_size, raw_offset, *_ = _SECTION.unpack_from(
        data, offset
    )
    name, _, fill = raw_name.partition(b"\0")
    if fill.strip(b"\0") or not name.isascii() or not name.decode("ascii").isprintable():
        _malformed(f"section name {raw_name!r}")
    return PeSection(
        name=name.decode("ascii"),
        virtual_size=virtual_size,
        virtual_address=virtual_address,
        raw_size=raw_size,
        raw_offset=raw_offset,
    )


def _require_contiguous(image: PeImage) -> None:
    """Refuse overlapping sections, and gaps between them that the hash would not cover.

    Authenticode hashes every section, and then the bytes after the sum of their sizes. With gaps
    or overlaps these two rules cover different bytes than expected, and implementations differ.
    """
    position = image.headers_size
    for section in image.sections_by_file_offset():
        if section.raw_offset != position:
            _malformed(
                f"section {section.name} starts at {section.raw_offset:#x} of the file,"
                f" want {position:#x}, where the part before it ends"
            )
        position += section.raw_size
    if position > len(image.data) - image.certificates_size:
        _malformed("a section ends behind the end of the file")


def _malformed(what: str) -> NoReturn:
    raise ParseError(CoreCode.MALFORMED, f"PE image: {what}")
