"""The certificate table that a host hands to an SEV-SNP guest beside a report.

AMD 56421 (GHCB specification), section 4.1.8.1: entries of GUID (16 bytes), offset and length
(4 bytes each, little endian), up to an entry of zeros; the certificates follow. The host writes
it, so nothing in it is trusted.
"""

from __future__ import annotations

import struct
from types import MappingProxyType
from typing import TYPE_CHECKING
from uuid import UUID

from regalia.core.errors import CoreCode, ParseError
from regalia.wire.spelling import certificates_in

if TYPE_CHECKING:
    from collections.abc import Mapping

TABLE_MAX = 64 * 1024  # bytes
ENTRIES_MAX = 16
# By the place of the certificate in a chain, leaf first.
VCEK = UUID("63da758d-e664-4564-adc5-f4b93be8accd")
VLEK = UUID("a8074bc2-a25a-483e-aae6-39c045a0b8a1")
ASK = UUID("4ab7b379-bbac-4fe4-a02f-05aef327c782")  # or the ASVK
ARK = UUID("c0b406a4-a803-4952-9743-3fb6014cd0ae")
ORDER = (VCEK, VLEK, ASK, ARK)

_ENTRY = struct.Struct("<16sII")
# Tools write the GUID's first three fields in either byte order; no two of these collide.
_KNOWN: Mapping[bytes, UUID] = MappingProxyType(
    {spelling: guid for guid in ORDER for spelling in (guid.bytes, guid.bytes_le)}
)


def parse_certificate_table(data: bytes) -> tuple[bytes, ...]:
    """The certificates that the table names by a known GUID, DER, leaf first.

    Hosts write them in PEM as well. What is neither stays as it is; the verifier refuses it.

    Args:
        data: raw, untrusted; empty is a table without entries.

    Raises:
        ParseError: TOO_LARGE, or MALFORMED for an entry that points outside, one that stands
            twice, or a table without end.
    """
    if len(data) > TABLE_MAX:
        raise ParseError(CoreCode.TOO_LARGE, f"certificate table: {len(data)} bytes")
    found: dict[UUID, bytes] = {}
    for number in range(ENTRIES_MAX + 1 if data else 0):
        at = number * _ENTRY.size
        if at + _ENTRY.size > len(data):
            raise _malformed("it has no end")
        raw, offset, length = _ENTRY.unpack_from(data, at)
        if not any(raw):
            break
        guid = _KNOWN.get(raw)
        if offset + length > len(data) or not length:
            raise _malformed(f"entry {number} points outside")
        if guid is None:
            continue
        if guid in found:
            raise _malformed(f"entry {number} stands twice")
        found[guid] = data[offset : offset + length]
    else:
        if data:
            raise _malformed(f"more than {ENTRIES_MAX} entries")
    return tuple(der for guid in ORDER if guid in found for der in _in_der(found[guid]))


def encode_certificate_table(certificates: Mapping[UUID, bytes]) -> bytes:
    """A table as a host writes it."""
    at = _ENTRY.size * (len(certificates) + 1)
    head, body = b"", b""
    for guid, der in certificates.items():
        head += _ENTRY.pack(guid.bytes_le, at + len(body), len(der))
        body += der
    return head + bytes(_ENTRY.size) + body


def _in_der(entry: bytes) -> tuple[bytes, ...]:
    return certificates_in(entry) or (entry,)


def _malformed(why: str) -> ParseError:
    return ParseError(CoreCode.MALFORMED, f"certificate table: {why}")
