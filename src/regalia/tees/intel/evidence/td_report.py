"""TDREPORT of the Intel TDX module: bytes to values. Spec: docs/spec/azure-appraisal.md.

Intel TDX module ABI, TDREPORT_STRUCT: REPORTMACSTRUCT (256 bytes), TEE_TCB_INFO (239, padded with
17) and TDINFO_STRUCT (512). Its MAC is for the quoting enclave of the same machine, so nobody
else can verify a TDREPORT; whoever has one holds it against a quote.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from dataclasses import dataclass

from regalia.core.codec import exact
from regalia.core.errors import CoreCode, ParseError
from regalia.wire.evidence_codes import EvidenceCode, unsupported_version

TD_REPORT_SIZE = 1024  # bytes
TD_REPORT_VERSIONS = (0, 1)
TEE_TYPE_TDX = 0x81

_MAC = struct.Struct("<4B12s16s48s48s64s32s32s")
_TCB_INFO_AT, _TCB_INFO_SIZE = 256, 239
_TCB_INFO = struct.Struct("<8s16s48s48s8s16s95s")
_TD_INFO_AT = 512
_TD_INFO = struct.Struct("<QQ48s48s48s48s48s48s48s48s48s64s")


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalTdReport:
    """What a TDREPORT says that a quote says too. Untrusted."""

    tee_tcb_svn: bytes  # 16
    mr_seam: bytes  # 48
    mr_signer_seam: bytes  # 48
    seam_attributes: bytes  # 8
    td_attributes: int
    xfam: int
    mr_td: bytes  # 48, like the ones below
    mr_config_id: bytes
    mr_owner: bytes
    mr_owner_config: bytes
    rtmr0: bytes
    rtmr1: bytes
    rtmr2: bytes
    rtmr3: bytes
    mr_service_td: bytes  # SERVTD_HASH
    report_data: bytes  # 64


_TD_INFO_NAMES = tuple(LocalTdReport.__dataclass_fields__)[4:-1]


def parse_local_td_report(data: bytes) -> LocalTdReport:
    """Parse a TDREPORT; the two digests in it must be those of its parts.

    Args:
        data: raw, untrusted.

    Raises:
        ParseError: MALFORMED, UNSUPPORTED_VERSION or RESERVED_BIT_SET.
    """
    exact(data, TD_REPORT_SIZE, what="TDREPORT")
    kind, subtype, version, pad, reserved, _cpu_svn, tcb_digest, td_digest, report_data, gap, _ = (
        _MAC.unpack_from(data)
    )
    if kind != TEE_TYPE_TDX:
        raise _malformed(f"REPORTTYPE {kind:#x}, want {TEE_TYPE_TDX:#x}")
    if subtype != 0:
        raise unsupported_version("TDREPORT: subtype", subtype, (0,))
    if version not in TD_REPORT_VERSIONS:
        raise unsupported_version("TDREPORT: version", version, TD_REPORT_VERSIONS)
    tcb_info = data[_TCB_INFO_AT : _TCB_INFO_AT + _TCB_INFO_SIZE]
    td_info = data[_TD_INFO_AT:]
    _valid, svn, seam, signer, attributes, _svn_2, rest = _TCB_INFO.unpack(tcb_info)
    values = _TD_INFO.unpack(td_info)
    between = data[_TCB_INFO_AT + _TCB_INFO_SIZE : _TD_INFO_AT]
    if pad or (reserved + gap + rest + between + values[-1]).strip(b"\x00"):
        raise ParseError(EvidenceCode.RESERVED_BIT_SET, "TDREPORT: reserved bytes are not zero")
    for digest, part in ((tcb_digest, tcb_info), (td_digest, td_info)):
        if not hmac.compare_digest(digest, hashlib.sha384(part).digest()):
            raise _malformed("a digest in REPORTMACSTRUCT is not that of its part")
    return LocalTdReport(
        tee_tcb_svn=svn,
        mr_seam=seam,
        mr_signer_seam=signer,
        seam_attributes=attributes,
        report_data=report_data,
        **dict(zip(_TD_INFO_NAMES, values[:-1], strict=True)),
    )


def encode_local_td_report(report: LocalTdReport) -> bytes:
    """A TDREPORT with the digests that belong there and a MAC of zeros, as simulators need it."""
    tcb_info = _TCB_INFO.pack(
        b"\xff\x01\x03",
        report.tee_tcb_svn,
        report.mr_seam,
        report.mr_signer_seam,
        report.seam_attributes,
        report.tee_tcb_svn,
        b"",
    )
    td_info = _TD_INFO.pack(*(getattr(report, name) for name in _TD_INFO_NAMES), b"")
    digests = (hashlib.sha384(part).digest() for part in (tcb_info, td_info))
    mac = _MAC.pack(TEE_TYPE_TDX, 0, 0, 0, b"", b"", *digests, report.report_data, b"", b"")
    return mac + tcb_info.ljust(_TD_INFO_AT - _TCB_INFO_AT, b"\x00") + td_info


def _malformed(why: str) -> ParseError:
    return ParseError(CoreCode.MALFORMED, f"TDREPORT: {why}")
