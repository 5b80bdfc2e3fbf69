"""Intel TDX and SGX quotes: bytes to values and back. Spec: docs/spec/tdx-appraisal.md.

    version 3   SGX: header, enclave report, signature data
    version 4   header, TD report 1.0 (or enclave report), signature data
    version 5   header, body type and size, body, signature data

Layout: Intel SGX ECDSA Quote Library API, appendix A.4 (version 3), and Intel TDX DCAP Quoting
Library API, appendix A.3 (versions 4 and 5). Little endian, but for the ECDSA scalars and points,
which are big endian. Nothing here verifies anything: a parsed quote is raw, untrusted evidence.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

from regalia.core.errors import CoreCode, ParseError
from regalia.core.types import Digest
from regalia.tees.intel.evidence.bodies import (
    ENCLAVE_REPORT_SIZE,
    TD_REPORT_10_SIZE,
    TD_REPORT_15_EX_SIZE,
    TD_REPORT_15_SIZE,
    EnclaveReport,
    parse_enclave_report,
    parse_td_report,
)
from regalia.wire.evidence_codes import EvidenceCode, unsupported_version

if TYPE_CHECKING:
    from regalia.tees.intel.evidence.bodies import TdReport

QUOTE_MAX = 64 * 1024  # bytes; with the zeros that some clouds append, 8000 were seen
VERSION_SGX = 3
VERSION_4 = 4
VERSION_5 = 5
VERSIONS = (VERSION_SGX, VERSION_4, VERSION_5)
ATTESTATION_KEY_ECDSA_P256 = 2
TEE_TYPE_SGX = 0x00000000
TEE_TYPE_TDX = 0x00000081
INTEL_QE_VENDOR_ID = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")
CERTIFICATION_PCK_CHAIN = 5
CERTIFICATION_QE_REPORT = 6
SIGNATURE_SIZE = 64  # bytes, r and s
POINT_SIZE = 64  # bytes, x and y

_HEADER = struct.Struct("<HHIHH16s20s")
_DESCRIPTOR = struct.Struct("<HI")
_CERTIFICATION = struct.Struct("<HI")
_QE_REPORT = struct.Struct(f"<{ENCLAVE_REPORT_SIZE}s{SIGNATURE_SIZE}sH")
_SIGNATURE_LENGTH = struct.Struct("<I")


class BodyType(IntEnum):
    """Kinds of body in a version 5 quote."""

    SGX_ENCLAVE = 1
    TD_10 = 2
    TD_15 = 3
    TD_15_EX = 4


_BODY_SIZES = {
    BodyType.SGX_ENCLAVE: ENCLAVE_REPORT_SIZE,
    BodyType.TD_10: TD_REPORT_10_SIZE,
    BodyType.TD_15: TD_REPORT_15_SIZE,
    BodyType.TD_15_EX: TD_REPORT_15_EX_SIZE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class QeCertification:
    """The quoting enclave's word for the key that signs its quotes, untrusted.

    It stays from quote to quote until the machine makes itself another key or gets another PCK
    certificate.
    """

    attestation_key: bytes  # 64: a point of P-256
    qe_report: EnclaveReport
    qe_report_raw: bytes  # 384, as received
    qe_report_signature: bytes  # 64, over the QE report by the PCK
    qe_auth_data: bytes
    pck_chain: bytes  # PEM, PCK certificate first, as received

    def encode(self, version: int) -> bytes:
        """What follows a quote's signature, in a quote of that version."""
        qe = (
            _QE_REPORT.pack(
                self.qe_report.encode(), self.qe_report_signature, len(self.qe_auth_data)
            )
            + self.qe_auth_data
            + _CERTIFICATION.pack(CERTIFICATION_PCK_CHAIN, len(self.pck_chain))
            + self.pck_chain
        )
        if version != VERSION_SGX:
            qe = _CERTIFICATION.pack(CERTIFICATION_QE_REPORT, len(qe)) + qe
        return self.attestation_key + qe


@dataclass(frozen=True, slots=True, kw_only=True)
class IntelQuote:
    """Every field of one quote, untrusted."""

    version: int
    qe_svn: int  # reserved in TD quotes, like the next one
    pce_svn: int
    user_data: bytes  # 20
    body_type: BodyType  # written in version 5 only
    body: EnclaveReport | TdReport
    signed: bytes  # as received: header, body type and size, body
    signature: bytes  # 64, over ``signed`` by the attestation key
    qe: QeCertification
    trailing_zeros: int  # bytes behind the quote, signed by nobody

    @property
    def tee_type(self) -> int:
        """``TEE_TYPE_SGX`` or ``TEE_TYPE_TDX``."""
        return TEE_TYPE_SGX if isinstance(self.body, EnclaveReport) else TEE_TYPE_TDX

    @property
    def signed_digest(self) -> Digest:
        """SHA-256 of the signed part, header and body: one name for one quote.

        Bytes that nobody signed (zeros behind the quote, the spelling of certificates) give it no
        other, as they do to the digest of the evidence, which names what came.
        """
        return Digest.of(self.signed)

    def encode_signed(self) -> bytes:
        """Header, descriptor and body, from the fields."""
        header = _HEADER.pack(
            self.version,
            ATTESTATION_KEY_ECDSA_P256,
            self.tee_type,
            self.qe_svn,
            self.pce_svn,
            INTEL_QE_VENDOR_ID,
            self.user_data,
        )
        body = self.body.encode()
        if self.version == VERSION_5:
            header += _DESCRIPTOR.pack(self.body_type, len(body))
        return header + body

    def encode(self) -> bytes:
        """``parse_quote(b).encode() == b`` for every ``b`` that parses."""
        certification = self.qe.encode(self.version)
        return (
            self.encode_signed()
            + _SIGNATURE_LENGTH.pack(SIGNATURE_SIZE + len(certification))
            + self.signature
            + certification
            + bytes(self.trailing_zeros)
        )


class QuoteParts(NamedTuple):
    """A quote cut into its parts; sizes are right, and the certification is unread."""

    version: int
    qe_svn: int
    pce_svn: int
    user_data: bytes
    body_type: BodyType
    body: EnclaveReport | TdReport
    signed: bytes
    signature: bytes
    certification: bytes  # the attestation key and everything behind it, but for trailing zeros
    trailing_zeros: int

    def read(self) -> QeCertification:
        """The certification. Raises ParseError as ``parse_quote``."""
        return _qe_certification(self.certification, nested=self.version != VERSION_SGX)

    def quote(self, qe: QeCertification) -> IntelQuote:
        """The whole, with what ``read`` gave for these same bytes."""
        return IntelQuote(
            version=self.version,
            qe_svn=self.qe_svn,
            pce_svn=self.pce_svn,
            user_data=self.user_data,
            body_type=self.body_type,
            body=self.body,
            signed=self.signed,
            signature=self.signature,
            qe=qe,
            trailing_zeros=self.trailing_zeros,
        )


class _Reader:
    """Takes exact sizes off the front, and demands at the end that nothing is left."""

    __slots__ = ("_at", "_data", "_end", "_what")

    def __init__(self, data: bytes, at: int, end: int, what: str) -> None:
        self._data, self._at, self._end, self._what = data, at, end, what

    @property
    def at(self) -> int:
        return self._at

    def take(self, size: int, field: str) -> bytes:
        start, end = self._at, self._at + size
        if end > self._end:
            raise _malformed(f"{self._what} ends within {field}")
        self._at = end
        return self._data[start:end]

    def inner(self, size: int, field: str) -> _Reader:
        start = self._at
        self.take(size, field)
        return _Reader(self._data, start, start + size, field)

    def finish(self) -> None:
        if self._at != self._end:
            raise _malformed(f"{self._what} has {self._end - self._at} bytes too many")


def parse_quote(data: bytes) -> IntelQuote:
    """Parse one quote.

    Args:
        data: raw, untrusted.

    Raises:
        ParseError: TOO_LARGE, MALFORMED, UNSUPPORTED_VERSION (also for body types, attestation
            keys, quoting enclaves and certification data of other kinds), RESERVED_BIT_SET, or
            TRAILING_DATA for bytes behind the quote that are not zero.
    """
    parts = split_quote(data)
    return parts.quote(parts.read())


def split_quote(data: bytes) -> QuoteParts:
    """``parse_quote`` but for the insides of the certification.

    Raises:
        ParseError: TOO_LARGE, MALFORMED, UNSUPPORTED_VERSION, RESERVED_BIT_SET or TRAILING_DATA.
    """
    if len(data) > QUOTE_MAX:
        raise ParseError(CoreCode.TOO_LARGE, f"Intel quote: {len(data)} bytes, at most {QUOTE_MAX}")
    reader = _Reader(data, 0, len(data), "the quote")
    version, qe_svn, pce_svn, user_data, tee_type = _header(reader)
    body_type, body = _body(reader, version, tee_type)
    signed = data[: reader.at]
    (size,) = _SIGNATURE_LENGTH.unpack(reader.take(_SIGNATURE_LENGTH.size, "the signature length"))
    if size < SIGNATURE_SIZE + POINT_SIZE:
        raise _malformed(f"the signature data has {size} bytes")
    signature = reader.take(SIGNATURE_SIZE, "the signature")
    certification = reader.take(size - SIGNATURE_SIZE, "the signature data")
    rest = data[reader.at :]
    if rest.count(0) != len(rest):
        raise ParseError(
            EvidenceCode.TRAILING_DATA,
            f"Intel quote: {len(rest)} bytes behind its end, and not all of them are zero",
        )
    return QuoteParts(
        *(version, qe_svn, pce_svn, user_data, body_type, body),
        *(signed, signature, certification, len(rest)),
    )


def _qe_certification(data: bytes, *, nested: bool) -> QeCertification:
    """Attestation key, QE report, authentication data, PCK chain; nested since version 4."""
    section = _Reader(data, 0, len(data), "the signature data")
    attestation_key = section.take(POINT_SIZE, "the attestation key")
    qe = section
    if nested:
        size = _certification(section, CERTIFICATION_QE_REPORT)
        qe = section.inner(size, "the QE report certification data")
    raw_report, report_signature, auth_size = _QE_REPORT.unpack(
        qe.take(_QE_REPORT.size, "the QE report")
    )
    auth_data = qe.take(auth_size, "the QE authentication data")
    chain = qe.take(_certification(qe, CERTIFICATION_PCK_CHAIN), "the PCK chain")
    qe.finish()
    section.finish()
    return QeCertification(
        attestation_key=attestation_key,
        qe_report=parse_enclave_report(raw_report, what="QE report"),
        qe_report_raw=raw_report,
        qe_report_signature=report_signature,
        qe_auth_data=auth_data,
        pck_chain=chain,
    )


def quote_size(data: bytes) -> int:
    """Where a quote says that it ends; what follows is signed by nobody. For showing.

    Raises:
        ParseError: as ``parse_quote``, but for what follows.
    """
    reader = _Reader(data, 0, len(data), "the quote")
    version, *_, tee_type = _header(reader)
    _body(reader, version, tee_type)
    (size,) = _SIGNATURE_LENGTH.unpack(reader.take(_SIGNATURE_LENGTH.size, "the signature length"))
    reader.take(size, "the signature data")
    return reader.at


def _header(reader: _Reader) -> tuple[int, int, int, bytes, int]:
    """Version, QE and PCE SVN, user data, TEE type."""
    version, key_type, tee_type, qe_svn, pce_svn, vendor, user_data = _HEADER.unpack(
        reader.take(_HEADER.size, "the header")
    )
    if version not in VERSIONS:  # first: another version has another layout
        raise unsupported_version("Intel quote: version", version, VERSIONS)
    if key_type != ATTESTATION_KEY_ECDSA_P256:
        raise _unsupported(f"attestation key type {key_type}, want ECDSA P-256 (2)")
    if tee_type not in (TEE_TYPE_SGX, TEE_TYPE_TDX):
        raise _unsupported(f"TEE type {tee_type:#x}, known are SGX (0) and TDX (0x81)")
    if version == VERSION_SGX and tee_type != TEE_TYPE_SGX:
        raise _unsupported("version 3 is for SGX only")
    if vendor != INTEL_QE_VENDOR_ID:
        raise _unsupported(f"QE vendor {vendor.hex()}, want Intel's")
    return version, qe_svn, pce_svn, user_data, tee_type


def _body(
    reader: _Reader, version: int, tee_type: int
) -> tuple[BodyType, EnclaveReport | TdReport]:
    body_type = BodyType.SGX_ENCLAVE if tee_type == TEE_TYPE_SGX else BodyType.TD_10
    if version == VERSION_5:
        number, size = _DESCRIPTOR.unpack(reader.take(_DESCRIPTOR.size, "the body descriptor"))
        if number not in _BODY_SIZES:
            raise unsupported_version("Intel quote: body type", number, _BODY_SIZES)
        body_type = BodyType(number)
        if size != _BODY_SIZES[body_type]:
            raise _malformed(f"body of {size} bytes, type {number} has {_BODY_SIZES[body_type]}")
        if (body_type is BodyType.SGX_ENCLAVE) != (tee_type == TEE_TYPE_SGX):
            raise _malformed(f"body type {number} in a quote of TEE type {tee_type:#x}")
    raw = reader.take(_BODY_SIZES[body_type], "the body")
    if body_type is BodyType.SGX_ENCLAVE:
        return body_type, parse_enclave_report(raw, what="enclave report")
    return body_type, parse_td_report(raw)


def _certification(reader: _Reader, wanted: int) -> int:
    """The size of certification data of exactly that type."""
    kind, size = _CERTIFICATION.unpack(reader.take(_CERTIFICATION.size, "certification data"))
    if kind != wanted:
        raise _unsupported(f"certification data of type {kind}, want {wanted}")
    return int(size)


def _malformed(what: str) -> ParseError:
    return ParseError(CoreCode.MALFORMED, f"Intel quote: {what}")


def _unsupported(what: str) -> ParseError:
    return ParseError(EvidenceCode.UNSUPPORTED_VERSION, f"Intel quote: {what}")
