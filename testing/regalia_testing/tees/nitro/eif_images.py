"""Writes Nitro enclave images (EIF), for tests of what reads and measures them.

Written from the published structures apart from ``regalia.tees.nitro.eif``.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field

KERNEL, CMDLINE, RAMDISK, SIGNATURE, METADATA = 1, 2, 3, 4, 5
_ENTRIES = 32
_HEADER_SIZE = 548


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """What to write, with room to lie. Sections are (type, contents), in the order of the file."""

    sections: tuple[tuple[int, bytes], ...]
    version: int = 4
    magic: bytes = b".eif"
    flags: int = 0
    section_flags: int = 0
    reserved: int = 0
    table_order: tuple[int, ...] | None = None  # indexes of sections; None: that of the file
    table_changes: dict[int, tuple[int, int]] = field(default_factory=dict)  # added to offset, size
    count_change: int = 0
    trailing: bytes = b""
    checksum_change: int = 0


def eif_image(image: Image) -> bytes:
    """The bytes."""
    body, places = b"", []
    for kind, data in image.sections:
        places.append((_HEADER_SIZE + len(body), len(data)))
        body += struct.pack(">HHQ", kind, image.section_flags, len(data)) + data
    order = range(len(places)) if image.table_order is None else image.table_order
    table = [places[index] for index in order]
    for index, (offset, size) in image.table_changes.items():
        table += [(0, 0)] * (index + 1 - len(table))
        table[index] = (table[index][0] + offset, table[index][1] + size)
    table += [(0, 0)] * (_ENTRIES - len(table))
    head = struct.pack(
        ">4sHHQQHH",
        image.magic,
        image.version,
        image.flags,
        1 << 30,
        2,
        image.reserved,
        len(places) + image.count_change,
    )
    head += b"".join(struct.pack(">Q", offset) for offset, _ in table)
    head += b"".join(struct.pack(">Q", size) for _, size in table)
    head += bytes(4)
    body += image.trailing
    checksum = zlib.crc32(head + body) ^ image.checksum_change
    return head + struct.pack(">I", checksum) + body


def usual_sections(
    *, kernel: bytes, cmdline: bytes, ramdisks: tuple[bytes, ...], signature: bytes | None = None
) -> tuple[tuple[int, bytes], ...]:
    """Sections as nitro-cli writes them: metadata third, the signature last."""
    sections = [(KERNEL, kernel), (CMDLINE, cmdline), (METADATA, b'{"ImageName":"test"}')]
    sections += [(RAMDISK, ramdisk) for ramdisk in ramdisks]
    if signature is not None:
        sections.append((SIGNATURE, signature))
    return tuple(sections)


def signature_section(certificate: bytes, signature: bytes, *, as_integers: bool = True) -> bytes:
    """CBOR: an array of one map. nitro-cli writes the two byte strings as arrays of integers."""

    def octets(data: bytes) -> bytes:
        if not as_integers:
            return cbor_head(2, len(data)) + data
        return cbor_head(4, len(data)) + b"".join(cbor_head(0, byte) for byte in data)

    def text(word: str) -> bytes:
        return cbor_head(3, len(word)) + word.encode("ascii")

    return (
        cbor_head(4, 1)
        + cbor_head(5, 2)
        + text("signing_certificate")
        + octets(certificate)
        + text("signature")
        + octets(signature)
    )


def cbor_head(major: int, argument: int) -> bytes:
    """The initial bytes of a CBOR item, in their shortest form."""
    first = major << 5
    if argument < 24:  # noqa: PLR2004 - RFC 8949, section 3
        return bytes((first | argument,))
    for info, size in ((24, 1), (25, 2), (26, 4)):
        if argument < 1 << (8 * size):
            return bytes((first | info,)) + argument.to_bytes(size, "big")
    raise ValueError("too long")
