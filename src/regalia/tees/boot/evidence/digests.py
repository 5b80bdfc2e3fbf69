"""Recompute digests from the data of events: what of a log's text was really measured.

Replay proves the digests only. The data of an event, and its very type, are whatever the sender
of the log wrote, unless the digest covers them. So each event gets a standing, and readers
believe the bytes that the digest covers, nothing else of it.
"""

from __future__ import annotations

import hashlib
import struct
from enum import StrEnum
from typing import TYPE_CHECKING

from regalia.appraisal.codes import AttestCode
from regalia.core.errors import AttestationError, ParseError
from regalia.tees.boot.evidence.kinds import COVERAGE, Coverage, kind_name
from regalia.tees.boot.evidence.log import Algorithm
from regalia.tees.boot.evidence.uefi import parse_variable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from hashlib import _Hash

    from regalia.tees.boot.evidence.log import Event

    Hasher = Callable[[bytes], _Hash]

# EV_SEPARATOR: two words say that all went well, and 1 that the firmware met an error.
SEPARATOR_ZERO = b"\x00\x00\x00\x00"
SEPARATOR_ONES = b"\xff\xff\xff\xff"
SEPARATOR_ERROR = b"\x01\x00\x00\x00"

# Labels of GRUB, upstream and as Red Hat ships it. Upstream's digest covers the text after the
# label; Red Hat's covers the NUL after it too, except for the kernel's command line.
GRUB_LABELS = (
    b"grub_cmd: ",
    b"kernel_cmdline: ",
    b"module_cmdline: ",
    b"grub_cmd ",
    b"grub_kernel_cmdline ",
)
# Tags whose data merely names what was measured (Linux, drivers/firmware/efi/libstub).
TAG_INITRD = 0x8F3B_22EC
TAG_LOAD_OPTIONS = 0x8F3B_22ED
# A runtime event of a confidential container; its digest covers the whole event.
TAG_AAEL = int.from_bytes(b"LEAA", "little")

_TAGGED = struct.Struct("<II")  # taggedEventID, taggedEventDataSize
TAGGED_HEAD_SIZE = _TAGGED.size  # bytes before the data of a tagged event
# Their constructors, as asking hashlib by name costs as much as the hashing.
_HASHES = {
    Algorithm.SHA1: hashlib.sha1,
    Algorithm.SHA256: hashlib.sha256,
    Algorithm.SHA384: hashlib.sha384,
    Algorithm.SHA512: hashlib.sha512,
    Algorithm.SHA3_256: hashlib.sha3_256,
    Algorithm.SHA3_384: hashlib.sha3_384,
    Algorithm.SHA3_512: hashlib.sha3_512,
}


class Standing(StrEnum):
    """How much of an event the hardware vouches for."""

    PROVEN = "proven"  # the digest was recomputed from (part of) the data
    OPAQUE = "opaque"  # the digest is proven; what it is a digest of, the log cannot show
    UNKNOWN = "unknown"  # as opaque, and the type has no meaning here
    UNMEASURED = "unmeasured"  # EV_NO_ACTION: nothing of it was measured


def hash_of(algorithm: Algorithm, data: bytes) -> bytes:
    """The digest that a bank of this algorithm holds; ValueError if it cannot be computed.

    Args:
        algorithm: of the bank.
        data: exact bytes.
    """
    return hasher(algorithm)(data).digest()


def hasher(algorithm: Algorithm) -> Hasher:
    """``hashlib``'s constructor; ValueError if there is none."""
    constructor = _HASHES.get(algorithm)
    if constructor is None:
        raise ValueError(f"{algorithm.name} cannot be computed here")
    return constructor


def appraise_event(event: Event, algorithm: Algorithm, number: int) -> tuple[Standing, bytes]:
    """What of one event the hardware vouches for, given that its digest was replayed.

    Args:
        event: its digest was replayed; its data are untrusted.
        algorithm: of the bank whose registers were replayed.
        number: the event's place in the log, from 0, for the error.

    Returns:
        The standing, and the bytes that the digest covers; those are empty unless PROVEN.

    Raises:
        AttestationError: EVENTLOG_MISMATCH if the digest must cover the data and does not.
    """
    coverage = COVERAGE.get(event.kind)
    if coverage is Coverage.NOTHING:
        return Standing.UNMEASURED, b""
    digest = event.digest(algorithm)
    for candidate in _candidates(event, coverage):
        if hash_of(algorithm, candidate) == digest:
            return Standing.PROVEN, candidate
    if coverage is None:
        return Standing.UNKNOWN, b""
    if _must_match(event, coverage):
        raise AttestationError(
            AttestCode.EVENTLOG_MISMATCH,
            f"event {number} ({kind_name(event.kind)}, register {event.register}): its digest "
            f"is {digest.hex()}, its data lead to {hash_of(algorithm, event.data).hex()}",
        )
    return Standing.OPAQUE, b""


def _candidates(event: Event, coverage: Coverage | None) -> Iterator[bytes]:
    """Byte strings that the digest may be over, the likeliest first."""
    if coverage is Coverage.ELSEWHERE or coverage is None:
        return
    if coverage is Coverage.SEPARATOR:
        if event.data in (SEPARATOR_ZERO, SEPARATOR_ONES):
            yield event.data
        yield SEPARATOR_ERROR  # the data then are a code of the firmware's vendor
        return
    if coverage is Coverage.LOADER:
        yield from _loader_texts(event.data)
    yield event.data
    if coverage is Coverage.AUTHORITY:
        yield event.data[:-1]  # shim until 15.4 logs one byte of memory after the structure
    if coverage is Coverage.VARIABLE:
        try:
            yield parse_variable(event.data).data
        except ParseError:  # then only the data as a whole can be what was measured
            return


def _loader_texts(data: bytes) -> Iterator[bytes]:
    """Texts of GRUB and section names of systemd-stub in an EV_IPL event."""
    label = grub_label(data)
    if label:
        text = data[len(label) :].partition(b"\x00")[0]
        yield text
        yield text + b"\x00"
    elif data[:2] == b".\x00" and data[-2:] == b"\x00\x00":
        # systemd-stub logs a name in UTF-16 and measures it in ASCII, each with its NUL.
        yield data[::2]


def grub_label(data: bytes) -> bytes:
    """The label that an EV_IPL event starts with; empty if there is none. It is not measured."""
    for label in GRUB_LABELS:
        if data.startswith(label):
            return label
    return b""


def tag_of(data: bytes) -> int | None:
    """The taggedEventID of an EV_EVENT_TAG event, or None if its size does not fit."""
    if len(data) < _TAGGED.size:
        return None
    tag, size = _TAGGED.unpack_from(data)
    return int(tag) if _TAGGED.size + size == len(data) else None


def _must_match(event: Event, coverage: Coverage) -> bool:
    """Whether data that the digest does not cover prove that somebody changed the log."""
    if coverage is Coverage.LOADER:
        return bool(grub_label(event.data))
    if coverage is Coverage.TAGGED:
        return tag_of(event.data) == TAG_AAEL
    return coverage not in (Coverage.MAYBE_DATA, Coverage.ELSEWHERE)
