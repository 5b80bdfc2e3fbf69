"""UEFI structures that firmware measures. Spec: docs/spec/event-logs.md.

UEFI_VARIABLE_DATA is of the TCG PC Client Platform Firmware Profile 1.05 (section 10.2.6): GUID,
length of the name in UTF-16 units, length of the data, name, data; little endian, no padding.
"""

from __future__ import annotations

import struct
import uuid
from dataclasses import dataclass

from regalia.core.errors import CoreCode, ParseError

EFI_GLOBAL_VARIABLE = uuid.UUID("8be4df61-93ca-11d2-aa0d-00e098032b8c")
EFI_IMAGE_SECURITY_DATABASE = uuid.UUID("d719b2cb-3d3a-4596-a3bc-dad00e67656f")

_VARIABLE = struct.Struct("<16sQQ")


@dataclass(frozen=True, slots=True)
class UefiVariable:
    """One UEFI_VARIABLE_DATA."""

    guid: uuid.UUID
    name: str
    data: bytes

    def encode(self) -> bytes:
        """``parse_variable(b).encode() == b`` for every ``b`` that parses."""
        name = self.name.encode("utf-16-le")
        return _VARIABLE.pack(self.guid.bytes_le, len(name) // 2, len(self.data)) + name + self.data


def parse_variable(data: bytes) -> UefiVariable:
    """Parse one variable, whole.

    Args:
        data: an event's data, untrusted.

    Raises:
        ParseError: MALFORMED.
    """
    if len(data) < _VARIABLE.size:
        raise _malformed(f"{len(data)} bytes, want at least {_VARIABLE.size}")
    guid, name_length, data_length = _VARIABLE.unpack_from(data)
    name_end = _VARIABLE.size + 2 * name_length
    if name_end + data_length != len(data):
        raise _malformed(f"its lengths lead to {name_end + data_length} bytes of {len(data)}")
    try:
        name = data[_VARIABLE.size : name_end].decode("utf-16-le")
    except UnicodeDecodeError as exc:
        raise _malformed("its name is not UTF-16") from exc
    return UefiVariable(uuid.UUID(bytes_le=guid), name, data[name_end:])


def _malformed(what: str) -> ParseError:
    return ParseError(CoreCode.MALFORMED, f"UEFI variable: {what}")
