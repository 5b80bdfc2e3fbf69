"""HCL report of an Azure confidential VM: bytes to values. Spec: docs/spec/azure-appraisal.md.

The paravisor (Host Compatibility Layer) writes it at boot into the vTPM's NV index 0x01400001:
a header, the hardware's report, and runtime data whose digest the report carries. Layout after
Microsoft's "Guest attestation for confidential VMs" and OpenHCL's ``attestation_report``. All
integers are little endian. Nothing here verifies anything.
"""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import msgspec

from regalia.core.codec import exact, unhex
from regalia.core.errors import CoreCode, ParseError
from regalia.wire.evidence_codes import EvidenceCode, unsupported_version

if TYPE_CHECKING:
    from collections.abc import Mapping

HCL_MAX = 16 * 1024  # bytes; the NV index has 2600
HCL_SIGNATURE = b"HCLA"
HCL_VERSIONS = (1, 2)
REQUEST_TYPE = 2  # what the paravisor asked of the hardware: an attestation of its key
HARDWARE_REPORT_SIZE = 1184  # bytes; a TDREPORT takes 1024, zeros follow
RUNTIME_VERSION = 1
HASH_SHA256 = 1
RUNTIME_DATA_MAX = 8 * 1024  # bytes

_HEADER = struct.Struct("<4s4I12s")  # signature, version, size, request type, status, reserved
_RUNTIME = struct.Struct("<5I")  # size, version, report type, hash type, size of the data
_RUNTIME_AT = _HEADER.size + HARDWARE_REPORT_SIZE
_DATA_AT = _RUNTIME_AT + _RUNTIME.size


class ReportType(IntEnum):
    """Which hardware made the report."""

    SNP = 2
    TDX = 4


@dataclass(frozen=True, slots=True)
class HclReport:
    """One report, untrusted.

    Attributes:
        hardware_report: 1184 bytes: an SNP report, or a TDREPORT and zeros.
        runtime_data: exact bytes of the JSON document.
    """

    report_type: ReportType
    hardware_report: bytes
    runtime_data: bytes

    def digest(self) -> bytes:
        """What the first half of the hardware's report data must be."""
        return hashlib.sha256(self.runtime_data).digest()


def parse_hcl(data: bytes) -> HclReport:
    """Parse one HCL report. Zeros may follow it, as they do in the NV index.

    Args:
        data: raw, untrusted.

    Raises:
        ParseError: TOO_LARGE, MALFORMED, UNSUPPORTED_VERSION, RESERVED_BIT_SET or TRAILING_DATA.
    """
    if len(data) > HCL_MAX:
        raise ParseError(CoreCode.TOO_LARGE, f"HCL report: {len(data)} bytes, at most {HCL_MAX}")
    if len(data) < _DATA_AT:
        raise _malformed(f"{len(data)} bytes, want at least {_DATA_AT}")
    signature, version, size, request, status, reserved = _HEADER.unpack_from(data)
    if signature == HCL_SIGNATURE and version not in HCL_VERSIONS:
        raise unsupported_version("HCL report: version", version, HCL_VERSIONS)
    if signature != HCL_SIGNATURE or request != REQUEST_TYPE or status != 0:
        raise _malformed(f"signature {signature!r}, request type {request}, status {status}")
    if any(reserved):
        raise ParseError(
            EvidenceCode.RESERVED_BIT_SET, "HCL report: reserved bytes of the header are not zero"
        )
    return _parse_body(data, size)


def _parse_body(data: bytes, size: int) -> HclReport:
    runtime_size, version, kind, hash_type, data_size = _RUNTIME.unpack_from(data, _RUNTIME_AT)
    if version != RUNTIME_VERSION:
        raise unsupported_version(
            "HCL report: runtime data of version", version, (RUNTIME_VERSION,)
        )
    if kind not in set(ReportType) or hash_type != HASH_SHA256:
        raise _malformed(f"report type {kind}, hash type {hash_type}")
    if data_size > RUNTIME_DATA_MAX:
        raise ParseError(CoreCode.TOO_LARGE, f"HCL report: {data_size} bytes of runtime data")
    end = _DATA_AT + data_size
    if runtime_size != _RUNTIME.size + data_size or size != end or end > len(data):
        raise _malformed(f"sizes {size}, {runtime_size} and {data_size} do not fit together")
    if data.count(0, end) != len(data) - end:
        raise ParseError(EvidenceCode.TRAILING_DATA, "HCL report: bytes behind the runtime data")
    return HclReport(ReportType(kind), data[_HEADER.size : _RUNTIME_AT], data[_DATA_AT:end])


def encode_hcl(report: HclReport, *, version: int) -> bytes:
    """An HCL report without padding. ``parse_hcl`` reads it.

    Args:
        report: what to encode.
        version: of the header; ``HCL_VERSIONS`` are known.

    Raises:
        ParseError: MALFORMED, the hardware report has another size than 1184 bytes.
    """
    data_size = len(report.runtime_data)
    return (
        _HEADER.pack(HCL_SIGNATURE, version, _DATA_AT + data_size, REQUEST_TYPE, 0, b"")
        + exact(report.hardware_report, HARDWARE_REPORT_SIZE, what="hardware report")
        + _RUNTIME.pack(
            _RUNTIME.size + data_size, RUNTIME_VERSION, report.report_type, HASH_SHA256, data_size
        )
        + report.runtime_data
    )


class Jwk(msgspec.Struct, frozen=True, kw_only=True):
    """A key of the runtime data (RFC 7517). Members that stand for its use are not needed."""

    kid: str
    kty: str
    e: str = ""
    n: str = ""


class VmConfiguration(msgspec.Struct, frozen=True, kw_only=True, rename="kebab"):
    """How the VM was configured, as the paravisor saw it at boot."""

    console_enabled: bool  # the host's serial console reaches into the VM
    secure_boot: bool
    tpm_enabled: bool
    tpm_persisted: bool | None = None
    root_cert_thumbprint: str = ""
    vm_unique_id: Annotated[str, msgspec.Meta(min_length=1, max_length=64)] = msgspec.field(
        name="vmUniqueId"
    )


class RuntimeData(msgspec.Struct, frozen=True, kw_only=True, rename="kebab"):
    """The paravisor's claims: its keys and the VM's configuration.

    Members that are not known here are let through: the hardware's report vouches for the exact
    bytes, and newer paravisors say more.
    """

    keys: list[Jwk]
    vm_configuration: VmConfiguration
    user_data: str = ""  # hex of 64 bytes, written by the guest

    def guest_data(self) -> bytes:
        """``user-data``, 64 bytes, or none. Raises ParseError."""
        if not self.user_data:
            return b""
        return unhex(self.user_data.lower(), what="HCL runtime data, user-data", size=64)


def parse_runtime_data(data: bytes) -> RuntimeData:
    """Parse the JSON document; its bytes stay what is hashed. No member may stand in it twice.

    Args:
        data: raw, untrusted.

    Raises:
        ParseError: TOO_LARGE or MALFORMED.
    """
    if len(data) > RUNTIME_DATA_MAX:
        raise ParseError(CoreCode.TOO_LARGE, f"HCL runtime data: {len(data)} bytes")
    try:
        document = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_members,
            parse_float=_no_number,
            parse_constant=_no_number,
        )
        return msgspec.convert(document, RuntimeData)
    except (ValueError, RecursionError, msgspec.MsgspecError) as exc:
        raise ParseError(CoreCode.MALFORMED, f"HCL runtime data: {exc}") from exc


def _members(pairs: list[tuple[str, Any]]) -> Mapping[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member stands twice in an object")
    return members


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"the number {text[:40]}")


def _malformed(why: str) -> ParseError:
    return ParseError(CoreCode.MALFORMED, f"HCL report: {why}")
