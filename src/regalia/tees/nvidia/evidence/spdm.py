"""SPDM 1.1 measurements of a device: bytes to values and back. Spec: docs/spec/nvidia-appraisal.md.

DMTF DSP0274 1.1, sections 10.11.1 (GET_MEASUREMENTS) and 10.11.2 (MEASUREMENTS). A report is the
request followed by its response, little endian; the signature at its end covers everything
before it. One zero byte may follow: tools that hand the report on as text of C send it along.
Nothing here verifies anything: a parsed report is still raw, untrusted evidence.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

from regalia.core.errors import CoreCode, ParseError
from regalia.tees.nvidia.evidence.opaque import OpaqueData, parse_opaque
from regalia.wire.evidence_codes import EvidenceCode, unsupported_version

REQUEST_SIZE = 37  # bytes
NONCE_SIZE = 32  # bytes
SIGNATURE_SIZE = 96  # bytes: r ‖ s, big endian; ECDSA P-384
DIGEST_SIZE = 48  # bytes: SHA-384
REPORT_MAX = 32 * 1024  # bytes; NVIDIA's are below 5 KiB
OPAQUE_MAX = 1024  # bytes (DSP0274 10.11.2, OpaqueLength)
SLOT_MAX = 7
VERSIONS = (0x11,)  # SPDMVersion: major and minor, four bits each

_VERSION_1_1 = 0x11
_GET_MEASUREMENTS = 0xE0
_MEASUREMENTS = 0x60
_SIGNATURE_REQUESTED = 0x01  # GET_MEASUREMENTS Param1, bit 0
_ALL_MEASUREMENTS = 0xFF  # GET_MEASUREMENTS Param2
_SPECIFICATION_DMTF = 0x01
_RAW_BIT_STREAM = 0x80  # DMTFSpecMeasurementValueType, bit 7: no digest but raw bytes

_REQUEST = struct.Struct("<BBBB32sB")
_HEADER = struct.Struct("<BBBBB3s")  # of the response
_BLOCK = struct.Struct("<BBHBH48s")
_BLOCK_HEAD = struct.Struct("<BBHBH")
_BLOCK_HEADER = _BLOCK_HEAD.size  # bytes of a block before its value
_VALUE = struct.Struct("<7x48s")
_IN_A_ROW = bytes(range(1, 256))
_BLOCK_SIZES = (3 + DIGEST_SIZE, DIGEST_SIZE)  # MeasurementSize, DMTFSpecMeasurementValueSize
_TAIL = struct.Struct("<32sH")  # responder nonce, OpaqueLength
_REPORT_MIN = REQUEST_SIZE + _HEADER.size + _TAIL.size + SIGNATURE_SIZE


@dataclass(frozen=True, slots=True, kw_only=True)
class SpdmReport:
    """One signed GET_MEASUREMENTS exchange, untrusted.

    The three columns of the measurement record have the same length.
    """

    nonce: bytes  # 32, the requester's: the verifier's challenge
    slot: int  # of the certificate chain that signed
    indices: bytes  # of the blocks, one byte each, ascending
    kinds: bytes  # DMTFSpecMeasurementValueType, one byte each: 1 is mutable firmware, 0x80 raw
    values: tuple[bytes, ...]  # 48 each, but for those that are raw
    responder_nonce: bytes  # 32
    opaque: tuple[tuple[int, bytes], ...]  # (type, data) in the device's order, types unique
    opaque_version: bytes | None = None  # 4, of the header; None for opaque data without one
    opaque_value_types: tuple[int, ...] = ()  # one for each field, if there is a header
    signature: bytes  # 96
    zero_behind: bool = False  # one zero byte follows, signed by nobody

    def measurements(self) -> dict[int, bytes]:
        """Digests by block index. What is raw is no measurement that one compares."""
        every = zip(self.indices, self.kinds, self.values, strict=False)
        return {index: value for index, kind, value in every if kind < _RAW_BIT_STREAM}

    def encode(self) -> bytes:
        """The bytes. ``parse_report(b).encode() == b`` for every ``b`` that parses."""
        record = b"".join(
            _BLOCK_HEAD.pack(index, _SPECIFICATION_DMTF, 3 + len(value), kind, len(value)) + value
            for index, kind, value in zip(self.indices, self.kinds, self.values, strict=True)
        )
        opaque = OpaqueData(self.opaque, self.opaque_version, self.opaque_value_types).encode()
        return b"".join(
            (
                _REQUEST.pack(
                    _VERSION_1_1,
                    _GET_MEASUREMENTS,
                    _SIGNATURE_REQUESTED,
                    _ALL_MEASUREMENTS,
                    self.nonce,
                    self.slot,
                ),
                _HEADER.pack(
                    _VERSION_1_1,
                    _MEASUREMENTS,
                    0,
                    self.slot,
                    len(self.indices),
                    len(record).to_bytes(3, "little"),
                ),
                record,
                _TAIL.pack(self.responder_nonce, len(opaque)),
                opaque,
                self.signature,
                bytes(self.zero_behind),
            )
        )


class Columns(NamedTuple):
    """What a report says of its device: the parts that stay while its firmware does."""

    indices: bytes
    kinds: bytes
    values: tuple[bytes, ...]
    opaque: OpaqueData


class SpdmParts(NamedTuple):
    """A report cut into its parts; their sizes are right, and record and opaque data unread."""

    nonce: bytes
    slot: int
    blocks: int
    record: bytes
    responder_nonce: bytes
    opaque: bytes
    signature: bytes
    signed: bytes  # everything before the signature, as received
    zero_behind: bool

    def read(self) -> Columns:
        """Measurement record and opaque data. Raises ParseError: MALFORMED, UNSUPPORTED_VERSION."""
        indices, kinds, values = _record(self.record, self.blocks)
        return Columns(indices, kinds, values, parse_opaque(self.opaque))

    def report(self, columns: Columns) -> SpdmReport:
        """The whole, with what ``read`` gave for these same bytes."""
        return SpdmReport(
            nonce=self.nonce,
            slot=self.slot,
            indices=columns.indices,
            kinds=columns.kinds,
            values=columns.values,
            responder_nonce=self.responder_nonce,
            opaque=columns.opaque.fields,
            opaque_version=columns.opaque.version,
            opaque_value_types=columns.opaque.value_types,
            signature=self.signature,
            zero_behind=self.zero_behind,
        )


def parse_report(data: bytes) -> SpdmReport:
    """Parse one exchange: exact sizes, ascending blocks, no opaque field twice.

    Args:
        data: raw, untrusted.

    Raises:
        ParseError: MALFORMED, TOO_LARGE, TRAILING_DATA, UNSUPPORTED_VERSION or RESERVED_BIT_SET.
    """
    parts = split_report(data)
    return parts.report(parts.read())


def split_report(data: bytes) -> SpdmParts:
    """``parse_report`` but for the insides of record and opaque data.

    Raises:
        ParseError: MALFORMED, TOO_LARGE, TRAILING_DATA, UNSUPPORTED_VERSION or RESERVED_BIT_SET.
    """
    if len(data) > REPORT_MAX:
        raise ParseError(
            CoreCode.TOO_LARGE, f"SPDM report: {len(data)} bytes, at most {REPORT_MAX}"
        )
    if data[:1] and data[0] not in VERSIONS:
        raise _version(data[0])
    if len(data) < _REPORT_MIN:
        raise _malformed(f"{len(data)} bytes, want at least {_REPORT_MIN}")
    nonce, slot = _request(data)
    blocks, record_size = _response_header(data, slot)
    start = REQUEST_SIZE + _HEADER.size
    end = start + record_size
    if end + _TAIL.size + SIGNATURE_SIZE > len(data):
        raise _malformed("the measurement record ends beyond the report")
    record = data[start:end]
    responder_nonce, opaque_size = _TAIL.unpack_from(data, end)
    start = end + _TAIL.size
    end = start + opaque_size
    if opaque_size > OPAQUE_MAX:
        raise ParseError(
            CoreCode.TOO_LARGE, f"SPDM report: opaque data of {opaque_size}, at most {OPAQUE_MAX}"
        )
    rest = len(data) - end
    zero_behind = rest == SIGNATURE_SIZE + 1 and data[-1] == 0
    if rest > SIGNATURE_SIZE and not zero_behind:
        raise ParseError(
            EvidenceCode.TRAILING_DATA,
            f"SPDM report: {rest} bytes follow the opaque data, want {SIGNATURE_SIZE}",
        )
    if rest < SIGNATURE_SIZE:
        raise _malformed(f"a signature of {rest} bytes, want {SIGNATURE_SIZE}")
    return SpdmParts(
        *(nonce, slot, blocks, record, responder_nonce, data[start:end]),
        *(data[end : end + SIGNATURE_SIZE], data[:end], zero_behind),
    )


def _request(data: bytes) -> tuple[bytes, int]:
    """Nonce and slot of a request for all measurements, signed."""
    _, code, attributes, operation, nonce, slot = _REQUEST.unpack_from(data)
    if (code, attributes, operation) != (
        _GET_MEASUREMENTS,
        _SIGNATURE_REQUESTED,
        _ALL_MEASUREMENTS,
    ):
        raise _malformed(
            "it does not begin with a GET_MEASUREMENTS request for all measurements, signed"
        )
    if slot > SLOT_MAX:
        raise ParseError(EvidenceCode.RESERVED_BIT_SET, f"SPDM report: SlotIDParam {slot:#04x}")
    return nonce, slot


def _response_header(data: bytes, slot: int) -> tuple[int, int]:
    """Number of blocks, and size of the record that holds them."""
    version, code, param1, param2, blocks, size = _HEADER.unpack_from(data, REQUEST_SIZE)
    if version != _VERSION_1_1:
        raise _version(version)
    if code != _MEASUREMENTS:
        raise _malformed(f"the response has code {code:#04x}, want MEASUREMENTS (0x60)")
    if param1:
        raise ParseError(EvidenceCode.RESERVED_BIT_SET, f"SPDM report: Param1 is {param1:#04x}")
    if param2 != slot:
        raise _malformed(f"the response is of slot {param2:#04x}, the request of {slot:#04x}")
    record_size = int.from_bytes(size, "little")
    if not blocks or record_size <= blocks * _BLOCK_HEADER:
        raise _malformed(f"{blocks} measurement blocks in {record_size} bytes")
    return blocks, record_size


def _record(record: bytes, blocks: int) -> tuple[bytes, bytes, tuple[bytes, ...]]:
    """The record's columns. Most devices send digests only, so all blocks are of one size."""
    if len(record) == blocks * _BLOCK.size:
        indices = record[0 :: _BLOCK.size]
        specification, *sizes = (record[at :: _BLOCK.size] for at in (1, 2, 3, 5, 6))
        kinds = record[4 :: _BLOCK.size]
        wanted = [byte.to_bytes() * blocks for byte in (_BLOCK_SIZES[0], 0, DIGEST_SIZE, 0)]
        ones = _SPECIFICATION_DMTF.to_bytes() * blocks
        if sizes == wanted and specification == ones and indices == _IN_A_ROW[:blocks]:
            return indices, kinds, tuple(chain.from_iterable(_VALUE.iter_unpack(record)))
    return _record_of_any_sizes(record, blocks)


def _record_of_any_sizes(record: bytes, blocks: int) -> tuple[bytes, bytes, tuple[bytes, ...]]:
    """Digests of one size and raw values of any, as a GPU's boot processor mixes them."""
    indices, kinds, values = bytearray(), bytearray(), []
    at = 0
    while at + _BLOCK_HEADER <= len(record):
        index, specification, size, kind, value_size = _BLOCK_HEAD.unpack_from(record, at)
        at += _BLOCK_HEADER
        if specification != _SPECIFICATION_DMTF:
            raise _malformed("a measurement block is not of the DMTF specification")
        if size != value_size + 3 or not value_size or at + value_size > len(record):
            raise _malformed(f"measurement {index} has sizes {size} and {value_size}")
        if kind < _RAW_BIT_STREAM and value_size != DIGEST_SIZE:
            raise _malformed(f"measurement {index} is not of {DIGEST_SIZE} bytes")
        indices.append(index)
        kinds.append(kind)
        values.append(record[at : at + value_size])
        at += value_size
    if at != len(record) or len(indices) != blocks:
        raise _malformed(f"{len(indices)} measurement blocks where {blocks} are announced")
    if indices[0] == 0 or bytes(sorted(set(indices))) != bytes(indices):
        raise _malformed("measurement indices are not ascending from 1 or more")
    return bytes(indices), bytes(kinds), tuple(values)


def _version(version: int) -> ParseError:
    return unsupported_version("SPDM report: SPDMVersion", version, VERSIONS)


def _malformed(what: str) -> ParseError:
    return ParseError(CoreCode.MALFORMED, f"SPDM report: {what}")
