"""Intel's extension of a PCK certificate: which platform, at which TCB it was certified.

Intel SGX PCK Certificate and Certificate Revocation List Profile Specification, section 1.3.5:
the extension 1.2.840.113741.1.13.1 holds a SEQUENCE of (OID, value) pairs, some of them nested.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509

from regalia.appraisal.codes import AttestCode
from regalia.core.codec import exact
from regalia.core.errors import AttestationError, CoreCode, ParseError
from regalia.tees.intel.evidence.bodies import SVN_COUNT
from regalia.tees.intel.names import SgxType

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regalia.appraisal.pki import Certificate

OID_SGX = "1.2.840.113741.1.13.1"
_SGX = x509.ObjectIdentifier(OID_SGX)
PPID_SIZE = 16  # bytes, like CPUSVN and the platform instance id
PCEID_SIZE = 2
FMSPC_SIZE = 6

_INTEGER, _OCTET_STRING, _OID, _ENUMERATED, _BOOLEAN, _SEQUENCE = 0x02, 0x04, 0x06, 0x0A, 0x01, 0x30
_LONG_LENGTH = 0x80
_LENGTH_BYTES_MAX = 2  # a certificate is below 64 KiB
_PREFIX = bytes.fromhex("2a864886f84d010d01")  # 1.2.840.113741.1.13.1, the contents
_TRUE = b"\xff"
_FALSE = b"\x00"
_SVN_MAX = 0xFF
_ONE_BYTE_MAX = 0x7F  # of an INTEGER that is not negative
_PCE_SVN_MAX = 0xFFFF

# Last arcs of the OIDs below OID_SGX.
_PPID, _TCB, _PCEID, _FMSPC, _TYPE, _INSTANCE, _CONFIGURATION = range(1, 8)
_TCB_PCE_SVN, _TCB_CPU_SVN = SVN_COUNT + 1, SVN_COUNT + 2
_REQUIRED = (_PPID, _TCB, _PCEID, _FMSPC, _TYPE)
_DYNAMIC_PLATFORM, _CACHED_KEYS, _SMT = 1, 2, 3


@dataclass(frozen=True, slots=True, kw_only=True)
class PckFacts:
    """What the PCK certificate says about the platform. As trustworthy as the certificate.

    The last four are absent from certificates of single-socket platforms (Processor CA).
    """

    ppid: bytes  # 16
    svns: tuple[int, ...]  # SGX TCB components 1 to 16
    pce_svn: int
    cpu_svn: bytes  # 16, raw
    pce_id: bytes  # 2
    fmspc: bytes  # 6
    sgx_type: SgxType
    platform_instance_id: bytes | None  # 16
    dynamic_platform: bool | None
    cached_keys: bool | None
    smt: bool | None


def read_pck(certificate: Certificate) -> PckFacts:
    """Read the SGX extension.

    Raises:
        ParseError: MALFORMED, it does not hold what Intel's profile says.
        AttestationError: LEAF_BINDING_MISMATCH, there is none.
    """
    for extension in certificate.extensions:
        if extension.oid == _SGX:
            if not isinstance(extension.value, x509.UnrecognizedExtension):
                raise _malformed("cannot be read")
            return _facts(extension.value.value)
    raise AttestationError(
        AttestCode.LEAF_BINDING_MISMATCH, f"{certificate} has no SGX extension ({OID_SGX})"
    )


def _facts(der: bytes) -> PckFacts:
    values = dict(_pairs(_whole(der, _SEQUENCE, "the extension"), b""))
    missing = [arc for arc in _REQUIRED if arc not in values]
    if missing or not set(values) <= set(range(1, 8)):
        raise _malformed(f"has the values {sorted(values)}, want 1 to 5 and perhaps 6 and 7")
    tcb = dict(_pairs(_contents(values[_TCB], _SEQUENCE, "TCB"), bytes((_TCB,))))
    if set(tcb) != set(range(1, _TCB_CPU_SVN + 1)):
        raise _malformed(f"has the TCB values {sorted(tcb)}, want 1 to {_TCB_CPU_SVN}")
    configuration: dict[int, tuple[int, bytes]] = {}
    if _CONFIGURATION in values:
        contents = _contents(values[_CONFIGURATION], _SEQUENCE, "configuration")
        configuration = dict(_pairs(contents, bytes((_CONFIGURATION,))))
        if not set(configuration) <= {_DYNAMIC_PLATFORM, _CACHED_KEYS, _SMT}:
            raise _malformed(f"has the configuration values {sorted(configuration)}, known 1 to 3")
    instance = values.get(_INSTANCE)
    return PckFacts(
        ppid=_octets(values[_PPID], PPID_SIZE, "PPID"),
        svns=tuple(
            _integer(tcb[arc], _INTEGER, _SVN_MAX, f"TCB component {arc}")
            for arc in range(1, SVN_COUNT + 1)
        ),
        pce_svn=_integer(tcb[_TCB_PCE_SVN], _INTEGER, _PCE_SVN_MAX, "PCESVN"),
        cpu_svn=_octets(tcb[_TCB_CPU_SVN], SVN_COUNT, "CPUSVN"),
        pce_id=_octets(values[_PCEID], PCEID_SIZE, "PCEID"),
        fmspc=_octets(values[_FMSPC], FMSPC_SIZE, "FMSPC"),
        sgx_type=_sgx_type(values[_TYPE]),
        platform_instance_id=(
            None if instance is None else _octets(instance, PPID_SIZE, "platform instance id")
        ),
        dynamic_platform=_flag(configuration, _DYNAMIC_PLATFORM),
        cached_keys=_flag(configuration, _CACHED_KEYS),
        smt=_flag(configuration, _SMT),
    )


def _sgx_type(value: tuple[int, bytes]) -> SgxType:
    number = _integer(value, _ENUMERATED, _SVN_MAX, "SGX type")
    if number not in set(SgxType):
        raise _malformed(f"has the SGX type {number}")
    return SgxType(number)


def _flag(configuration: dict[int, tuple[int, bytes]], arc: int) -> bool | None:
    if arc not in configuration:
        return None
    contents = _contents(configuration[arc], _BOOLEAN, f"configuration {arc}")
    if contents not in (_TRUE, _FALSE):
        raise _malformed(f"has a configuration {arc} that is no BOOLEAN")
    return contents == _TRUE


def _pairs(contents: bytes, parent: bytes) -> Iterator[tuple[int, tuple[int, bytes]]]:
    """(last arc, (tag, contents)) of each (OID, value) pair; no arc twice."""
    # An OID below _PREFIX, up to its last arc. Its length is below 128, so there is one encoding.
    head = bytes((_OID, len(_PREFIX + parent) + 1)) + _PREFIX + parent
    seen: set[int] = set()
    at = 0
    while at < len(contents):
        tag, pair, at = _element(contents, at)
        if tag != _SEQUENCE or not pair.startswith(head) or len(pair) == len(head):
            raise _malformed(f"holds something else than pairs of an OID below {OID_SGX} and value")
        arc = pair[len(head)]
        value_tag, value, end = _element(pair, len(head) + 1)
        if end != len(pair):
            raise _malformed("holds something else than pairs of OID and value")
        if arc in seen:
            raise _malformed(f"holds value {arc} twice")
        seen.add(arc)
        yield arc, (value_tag, value)


def _element(data: bytes, at: int) -> tuple[int, bytes, int]:
    """(tag, contents, where the next begins) of the DER element at ``at``."""
    if at + 2 > len(data):
        raise _malformed("ends within an element")
    tag, size = data[at], data[at + 1]
    start = at + 2
    if size & _LONG_LENGTH:
        count = size & ~_LONG_LENGTH
        start += count
        size = int.from_bytes(data[at + 2 : start], "big")
        if (
            not 0 < count <= _LENGTH_BYTES_MAX
            or size < _LONG_LENGTH
            or size >> 8 * (count - 1) == 0
        ):
            raise _malformed("has a length that is not DER")
    end = start + size
    if end > len(data):
        raise _malformed("ends within an element")
    return tag, data[start:end], end


def _whole(data: bytes, tag: int, what: str) -> bytes:
    found, contents, end = _element(data, 0)
    if end != len(data):
        raise _malformed("has bytes behind it")
    return _contents((found, contents), tag, what)


def _contents(value: tuple[int, bytes], tag: int, what: str) -> bytes:
    if value[0] != tag:
        raise _malformed(f"has a {what} of ASN.1 tag {value[0]:#x}, want {tag:#x}")
    return value[1]


def _octets(value: tuple[int, bytes], size: int, what: str) -> bytes:
    return exact(_contents(value, _OCTET_STRING, what), size, what=f"PCK certificate: {what}")


def _integer(value: tuple[int, bytes], tag: int, largest: int, what: str) -> int:
    """INTEGER or ENUMERATED, 0 to ``largest``, in its one canonical form."""
    contents = _contents(value, tag, what)
    if len(contents) == 1 and contents[0] <= min(largest, _ONE_BYTE_MAX):  # as mostly
        return contents[0]
    number = int.from_bytes(contents, "big", signed=True)
    shortest = number.to_bytes(number.bit_length() // 8 + 1, "big", signed=True)
    if contents != shortest or not 0 <= number <= largest:
        raise _malformed(f"has a {what} that is not an integer from 0 to {largest}")
    return number


def _malformed(what: str) -> ParseError:
    return ParseError(CoreCode.MALFORMED, f"PCK certificate: the SGX extension {what}")
