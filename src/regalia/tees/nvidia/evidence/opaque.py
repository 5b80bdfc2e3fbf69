"""The two layouts of the opaque data in a measurements report: bytes to fields and back.

    without a header   entries of type u16, size u16, data
    NVDAOD             magic, profile u16, major, minor and two more bytes of version;
                       then entries of type u16, value type u16, size u16, data

Little endian. The magic cannot be an entry of the older layout, whose size would be 16,708 bytes.
Drivers write the newer one since CUDA 13.5 (NVIDIA's attestation SDK 2, of 2026). What the fields
mean is in ``regalia.tees.nvidia.evidence.wire``.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from regalia.core.errors import CoreCode, ParseError
from regalia.wire.evidence_codes import unsupported_version

MAGIC = b"NVDAOD"
PROFILE = 0
HEADER_MAJORS = (0, 1, 2)  # of the header; seen: 2. A minor version only adds fields.

_HEADER = struct.Struct("<6sHBBBB")  # magic, profile, major, minor, two more
_OLD_ENTRY = struct.Struct("<HH")  # type, size
_ENTRY = struct.Struct("<HHH")  # type, value type, size


class OpaqueData(NamedTuple):
    """Fields of opaque data, untrusted.

    Attributes:
        fields: (type, data) in the device's order, types unique.
        version: the four bytes of the header's version, or None for the layout without a header.
        value_types: one for each field; none without a header.
    """

    fields: tuple[tuple[int, bytes], ...]
    version: bytes | None = None
    value_types: tuple[int, ...] = ()

    def encode(self) -> bytes:
        """``parse_opaque(b).encode() == b`` for every ``b`` that parses."""
        if self.version is None:
            return b"".join(_OLD_ENTRY.pack(kind, len(data)) + data for kind, data in self.fields)
        return _HEADER.pack(MAGIC, PROFILE, *self.version) + b"".join(
            _ENTRY.pack(kind, value_type, len(data)) + data
            for (kind, data), value_type in zip(self.fields, self.value_types, strict=True)
        )


def parse_opaque(data: bytes) -> OpaqueData:
    """Parse opaque data of either layout.

    Args:
        data: raw, untrusted; its size is bounded by the caller.

    Raises:
        ParseError: MALFORMED or UNSUPPORTED_VERSION.
    """
    if not data.startswith(MAGIC):
        entries = _entries(data, 0, _OLD_ENTRY)
        return OpaqueData(tuple((kind, value) for kind, _, value in entries))
    if len(data) < _HEADER.size:
        raise _malformed(f"a header of {len(data)} bytes, want {_HEADER.size}")
    _, profile, *version = _HEADER.unpack_from(data)
    if profile != PROFILE:
        raise unsupported_version("NVIDIA opaque data: profile", profile, (PROFILE,))
    if version[0] not in HEADER_MAJORS:
        raise unsupported_version("NVIDIA opaque data: major version", version[0], HEADER_MAJORS)
    entries = _entries(data, _HEADER.size, _ENTRY)
    return OpaqueData(
        tuple((kind, value) for kind, _, value in entries),
        bytes(version),
        tuple(value_type for _, value_type, _ in entries),
    )


def _entries(data: bytes, at: int, entry: struct.Struct) -> list[tuple[int, int, bytes]]:
    """(type, value type, data); entries of the older layout have the value type zero."""
    found: list[tuple[int, int, bytes]] = []
    while at < len(data):
        if at + entry.size > len(data):
            raise _malformed("a field has no whole header")
        kind, *value_type, size = entry.unpack_from(data, at)
        at += entry.size
        if at + size > len(data):
            raise _malformed(f"field {kind} ends beyond the opaque data")
        found.append((kind, value_type[0] if value_type else 0, data[at : at + size]))
        at += size
    if len({kind for kind, _, _ in found}) != len(found):
        raise _malformed("a field occurs twice")
    return found


def _malformed(what: str) -> ParseError:
    return ParseError(CoreCode.MALFORMED, f"SPDM report: opaque data: {what}")
