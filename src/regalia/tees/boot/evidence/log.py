"""TCG event logs (TPM, CCEL): bytes to events and back. Spec: docs/spec/event-logs.md.

Layout and names follow the TCG PC Client Platform Firmware Profile 1.05 (PFP), section 10: a
TCG_PCClientPCREvent that carries the Spec ID, then TCG_PCR_EVENT2 structures, little endian. The
log of a confidential VM (UEFI 2.10, chapter 38) has the same layout; its register indices are
those of EFI_CC_EVENT. A parsed log is raw and untrusted: ``regalia.tees.boot.evidence`` proves it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

from regalia.core.codec import MIB
from regalia.core.errors import CoreCode, ParseError
from regalia.wire.evidence_codes import EvidenceCode, unsupported_version

LOG_MAX = 1 * MIB  # bytes, with padding
EVENTS_MAX = 8192
EVENT_DATA_MAX = MIB // 4  # bytes; the largest seen hold a dbx or a GPT, about 20 KiB
REGISTER_MAX = 23  # PCRs are 0 to 23

EV_NO_ACTION = 0x0000_0003
SPEC_ID_SIGNATURE = b"Spec ID Event03\x00"
_SPEC_ID_LEGACY = (b"Spec ID Event00\x00", b"Spec ID Event02\x00")
_SPEC_ID_MARK = b"Spec ID Event"
SPEC_IDS = (3,)  # the number behind the mark; 0 and 2 are those of logs with SHA-1 only
_KIND_MAX = 0x13  # of the event types that do not belong to UEFI
_EFI_KINDS = range(0x8000_0000, 0x8000_0200)

_HEADER = struct.Struct("<II20sI")  # pcrIndex, eventType, digest, eventDataSize
_SPEC_ID = struct.Struct("<16sIBBBBI")
_EVENT = struct.Struct("<III")  # pcrIndex, eventType, digests.count
_U16 = struct.Struct("<H")
_U32 = struct.Struct("<I")
_DIGEST_SIZE = struct.Struct("<HH")


class Algorithm(IntEnum):
    """TPM_ALG_ID of the hashes that banks may use (TCG Algorithm Registry)."""

    SHA1 = 0x0004
    SHA256 = 0x000B
    SHA384 = 0x000C
    SHA512 = 0x000D
    SM3_256 = 0x0012
    SHA3_256 = 0x0027
    SHA3_384 = 0x0028
    SHA3_512 = 0x0029

    __hash__ = int.__hash__  # Enum's is written in Python, and takes longer than the look-up

    @property
    def size(self) -> int:
        """Bytes of a digest."""
        return _SIZES[self]


_SIZES = {
    Algorithm.SHA1: 20,
    Algorithm.SHA256: 32,
    Algorithm.SHA384: 48,
    Algorithm.SHA512: 64,
    Algorithm.SM3_256: 32,
    Algorithm.SHA3_256: 32,
    Algorithm.SHA3_384: 48,
    Algorithm.SHA3_512: 64,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecId:
    """TCG_EfiSpecIdEvent, the first event: the version of the log and its banks."""

    register: int  # 0; 1 in CCEL, whose first register is RTMR0
    platform_class: int
    version_minor: int
    version_major: int
    errata: int
    uintn_size: int  # 1: 32 bits, 2: 64 bits
    algorithms: tuple[Algorithm, ...]  # in the order of the log; at least one
    vendor_info: bytes = b""

    def encode(self) -> bytes:
        """The whole TCG_PCClientPCREvent."""
        data = _SPEC_ID.pack(
            SPEC_ID_SIGNATURE,
            self.platform_class,
            self.version_minor,
            self.version_major,
            self.errata,
            self.uintn_size,
            len(self.algorithms),
        )
        data += b"".join(_DIGEST_SIZE.pack(each, each.size) for each in self.algorithms)
        data += bytes([len(self.vendor_info)]) + self.vendor_info
        return _HEADER.pack(self.register, EV_NO_ACTION, b"", len(data)) + data


@dataclass(frozen=True, slots=True)
class Event:
    """TCG_PCR_EVENT2.

    Attributes:
        register: PCR index, or the index of EFI_CC_EVENT.
        kind: eventType; the names are in ``regalia.tees.boot.evidence.kinds``.
        digests: one per bank, what the register was extended with.
        data: the event field, which the digest may cover or merely name.
    """

    register: int
    kind: int
    digests: tuple[tuple[Algorithm, bytes], ...]
    data: bytes

    def digest(self, algorithm: Algorithm) -> bytes:
        """The digest of one bank; KeyError if the log has no such bank."""
        for bank, digest in self.digests:
            if bank is algorithm:
                return digest
        raise KeyError(algorithm)

    def encode(self) -> bytes:
        """The whole structure."""
        parts = [_EVENT.pack(self.register, self.kind, len(self.digests))]
        parts += [_U16.pack(bank) + digest for bank, digest in self.digests]
        parts += [_U32.pack(len(self.data)), self.data]
        return b"".join(parts)


@dataclass(frozen=True, slots=True)
class EventLog:
    """A log as its bytes say, untrusted. ``padding`` fills the rest of the table's memory."""

    spec_id: SpecId
    events: tuple[Event, ...]
    padding: bytes = b""  # 0xFF throughout, or zero throughout

    def encode(self) -> bytes:
        """``parse_event_log(b).encode() == b`` for every ``b`` that parses."""
        events = b"".join(event.encode() for event in self.events)
        return self.spec_id.encode() + events + self.padding


def looks_like_event_log(data: bytes) -> bool:
    """Whether a file begins as a TCG event log does.

    A log of the older layout has SHA-1 digests only, and no magic number unless the firmware
    wrote a Spec ID; it is told by events that follow each other to the end of the file.

    Args:
        data: raw, untrusted.
    """
    if len(data) < _HEADER.size:
        return False
    if data[_HEADER.size :].startswith(_SPEC_ID_MARK):
        return True
    at, padding = 0, _padding_from(data)
    for _ in range(EVENTS_MAX):
        if at and padding <= at <= len(data):
            return True
        if at + _HEADER.size > len(data):
            return False
        register, kind, digest, size = _HEADER.unpack_from(data, at)
        known = kind <= _KIND_MAX or _EFI_KINDS.start <= kind < _EFI_KINDS.stop
        if register > REGISTER_MAX or not known or not any(digest):
            return False
        at += _HEADER.size + size
    return False


class _Reader:
    """Takes fields off a log; every read says what it was for."""

    __slots__ = ("at", "data", "number")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0
        self.number = -1  # of the event that is read; the Spec ID event has none

    def unpack(self, layout: struct.Struct, what: str) -> tuple[int, ...]:
        return layout.unpack(self.take(layout.size, what))

    def take(self, size: int, what: str) -> bytes:
        taken = self.data[self.at : self.at + size]
        if len(taken) != size:
            where = f"event {self.number}'s {what}" if self.number >= 0 else f"the Spec ID {what}"
            raise _malformed(f"{where} needs {size} bytes at {self.at}, {len(taken)} are left")
        self.at += size
        return taken


def parse_event_log(data: bytes) -> EventLog:
    """Parse one log, whole.

    Args:
        data: raw, untrusted; the file of the operating system or the memory of the ACPI table.

    Raises:
        ParseError: MALFORMED, TOO_LARGE or EVENTLOG_SHA1_ONLY.
    """
    if len(data) > LOG_MAX:
        raise ParseError(CoreCode.TOO_LARGE, f"event log: {len(data)} bytes, at most {LOG_MAX}")
    reader = _Reader(data)
    spec_id = _parse_spec_id(reader)
    # Every event has exactly the header's banks in the header's order (PFP 10.2.2).
    banks = tuple((each, each.size) for each in spec_id.algorithms)
    layout = struct.Struct("<III" + "".join(f"H{size}s" for _, size in banks) + "I")
    events: list[Event] = []
    # No event starts like either kind of padding: see ``_parse_event``.
    padding = _padding_from(data)
    while reader.at < padding:
        if len(events) == EVENTS_MAX:
            raise ParseError(CoreCode.TOO_LARGE, f"event log: more than {EVENTS_MAX} events")
        reader.number = len(events)
        event = _plain_event(reader, layout, spec_id.algorithms)
        events.append(event or _parse_event(reader, banks, reader.number))
    return EventLog(spec_id, tuple(events), data[reader.at :])


def _padding_from(data: bytes) -> int:
    """Where the bytes begin that are all the same filler to the end; the length without any."""
    fill = data[-1:]
    return len(data.rstrip(fill)) if fill in (b"\x00", b"\xff") else len(data)


def _parse_spec_id(reader: _Reader) -> SpecId:
    """The first event, in the old layout so that an old reader can skip it (PFP 10.4.5.1)."""
    header = reader.take(_HEADER.size, "event")
    register, kind, digest, size = _HEADER.unpack(header)
    body = reader.take(size, "event's data")
    if kind != EV_NO_ACTION or body.startswith(_SPEC_ID_LEGACY):
        raise ParseError(
            EvidenceCode.EVENTLOG_SHA1_ONLY,
            "event log: it does not start with a Spec ID Event03, so it has SHA-1 digests only",
        )
    data = _Reader(body)
    fields = _SPEC_ID.unpack(data.take(_SPEC_ID.size, "header"))
    signature, platform_class, minor, major, errata, uintn_size, count = fields
    if signature.startswith(_SPEC_ID_MARK) and signature != SPEC_ID_SIGNATURE:
        number = signature[len(_SPEC_ID_MARK) :].rstrip(b"\x00")
        if number.isdigit() and int(number) not in SPEC_IDS:  # two digits at most
            raise unsupported_version("event log: Spec ID Event", int(number), SPEC_IDS)
    if signature != SPEC_ID_SIGNATURE:
        raise _malformed(f"the Spec ID's signature is {signature!r}")
    if register > 1 or any(digest):
        raise _malformed("the Spec ID event names another register, or a digest")
    algorithms = _parse_algorithms(data, count)
    vendor_info = data.take(data.take(1, "vendorInfoSize")[0], "vendorInfo")
    if data.at != size:
        raise _malformed(f"the Spec ID event has {size - data.at} bytes after its end")
    return SpecId(
        register=register,
        platform_class=platform_class,
        version_minor=minor,
        version_major=major,
        errata=errata,
        uintn_size=uintn_size,
        algorithms=algorithms,
        vendor_info=vendor_info,
    )


def _parse_algorithms(data: _Reader, count: int) -> tuple[Algorithm, ...]:
    if not 1 <= count <= len(Algorithm):
        raise _malformed(f"the Spec ID names {count} algorithms")
    found: list[Algorithm] = []
    for _ in range(count):
        number, size = data.unpack(_DIGEST_SIZE, "digestSizes")
        if number not in _SIZES:
            raise _malformed(f"hash algorithm {number:#06x} is not known")
        algorithm = Algorithm(number)
        if size != algorithm.size or algorithm in found:
            raise _malformed(f"the Spec ID lists {algorithm.name} twice or with {size} bytes")
        found.append(algorithm)
    return tuple(found)


def _plain_event(
    reader: _Reader, layout: struct.Struct, banks: tuple[Algorithm, ...]
) -> Event | None:
    """The next event in one go, if all is well with it; ``_parse_event`` says what is not."""
    data, at = reader.data, reader.at + layout.size
    if at > len(data):
        return None
    register, kind, count, *digests, size = layout.unpack_from(data, reader.at)
    fits = size <= EVENT_DATA_MAX and at + size <= len(data)
    if not fits or register > REGISTER_MAX or count != len(banks) or (*digests[::2],) != banks:
        return None
    reader.at = at + size
    # The header's algorithms, which are the same numbers: replay looks for them by identity.
    return Event(
        register, kind, tuple(zip(banks, digests[1::2], strict=True)), data[at : at + size]
    )


def _parse_event(reader: _Reader, banks: tuple[tuple[Algorithm, int], ...], number: int) -> Event:
    # Padding starts no event: an index of 0xFFFFFFFF is none, and zeros give no digests.
    register, kind, count = reader.unpack(_EVENT, "header")
    if register > REGISTER_MAX:
        raise _malformed(f"event {number} names register {register:#x}")
    if count != len(banks):
        raise _malformed(f"event {number} has {count} digests, the log has {len(banks)} banks")
    digests: list[tuple[Algorithm, bytes]] = []
    for bank, size in banks:
        (found,) = reader.unpack(_U16, "digest")
        if found != bank:
            raise _malformed(f"event {number} has algorithm {found:#06x}, want {bank.name}")
        digests.append((bank, reader.take(size, "digest")))
    (size,) = reader.unpack(_U32, "size")
    if size > EVENT_DATA_MAX:
        raise ParseError(
            CoreCode.TOO_LARGE,
            f"event log: event {number} has {size} bytes of data, at most {EVENT_DATA_MAX}",
        )
    return Event(register, kind, tuple(digests), reader.take(size, "data"))


def _malformed(what: str) -> ParseError:
    return ParseError(CoreCode.MALFORMED, f"event log: {what}")
