"""Bodies of Intel quotes: enclave reports and TD reports, bytes to values and back.

Layouts: Intel SDM volume 3D, REPORT (with the KSS fields); Intel TDX DCAP Quoting Library API,
appendix A.3, "TD Quote Body"; the descriptors of body type 4 follow Intel's ``sgx_quote_5.h``.
All integers are little endian. A parsed body is still raw, untrusted evidence.
"""

from __future__ import annotations

import struct

import msgspec

from regalia.core.codec import exact
from regalia.core.errors import ParseError
from regalia.tees.intel.names import (
    SGX_ATTRIBUTES_DEFINED,
    TD_ATTRIBUTES_DEFINED,
    XFAM_FIXED0,
    XFAM_FIXED1,
    SgxAttributeBit,
)
from regalia.wire.evidence_codes import EvidenceCode

ENCLAVE_REPORT_SIZE = 384  # bytes
TD_REPORT_10_SIZE = 584
TD_REPORT_15_SIZE = 648
TD_REPORT_15_EX_SIZE = 885
REPORT_DATA_SIZE = 64
SVN_COUNT = 16  # components of CPUSVN and of TEE_TCB_SVN

# Reserved bytes are checked apart; packing fills them with zeros.
_ENCLAVE = struct.Struct("<16sI12x16sQQ32s32x32s32x64sHHH42x16s64s")
_ENCLAVE_RESERVED = ((20, 12), (96, 32), (160, 32), (262, 42))  # offset, size
_TD_10 = struct.Struct("<16s48s48s8sQQ48s48s48s48s48s48s48s48s64s")
_TD_15 = struct.Struct("<16s48s")
_TD_15_EX = struct.Struct("<B32s48s48s8s16s16s12s48s8s")


# Structs, since some are made for each quote: a frozen dataclass takes several times as long to
# make. Their fields stand in the order of the layouts above.
class EnclaveReport(msgspec.Struct, frozen=True):
    """An SGX REPORT body: of an application's enclave, or of the quoting enclave itself."""

    cpu_svn: bytes  # 16
    misc_select: int
    isv_ext_prod_id: bytes  # 16
    attributes: int  # flags; ``SgxAttributeBit``
    xfrm: int
    mr_enclave: bytes  # 32
    mr_signer: bytes  # 32
    config_id: bytes  # 64
    isv_prod_id: int
    isv_svn: int
    config_svn: int
    isv_family_id: bytes  # 16
    report_data: bytes  # 64

    def encode(self) -> bytes:
        """The 384 bytes. ``parse_enclave_report(b).encode() == b`` for every ``b`` that parses."""
        return _ENCLAVE.pack(*msgspec.structs.astuple(self))


def parse_enclave_report(data: bytes, *, what: str) -> EnclaveReport:
    """Parse a REPORT body. Everything reserved must be zero, and INIT one.

    Args:
        data: raw, untrusted.
        what: names the value in the error.

    Raises:
        ParseError: MALFORMED or RESERVED_BIT_SET.
    """
    report = EnclaveReport(*_ENCLAVE.unpack(exact(data, ENCLAVE_REPORT_SIZE, what=what)))
    for offset, size in _ENCLAVE_RESERVED:
        if data.count(0, offset, offset + size) != size:
            raise _reserved(f"{what}: reserved bytes are not zero")
    flags = report.attributes
    if flags & ~SGX_ATTRIBUTES_DEFINED:
        raise _reserved(f"{what}: reserved bits of ATTRIBUTES {flags:#x} are not zero")
    if not flags >> SgxAttributeBit.INIT & 1:
        raise _reserved(f"{what}: INIT is not set in ATTRIBUTES")
    return report


class TdReport15(msgspec.Struct, frozen=True):
    """What TDX 1.5 adds (body type 3)."""

    tee_tcb_svn_2: bytes  # 16; of the TDX module that runs now
    mr_service_td: bytes  # 48


class TdReport15Ex(msgspec.Struct, frozen=True):
    """What body type 4 adds to that: identity of the TD and of where it was launched."""

    vmid: int
    td_id: bytes  # 32
    dev_info: bytes  # 48
    init_service_td_hash: bytes  # 48
    init_service_td_attributes: bytes  # 8
    init_cpu_svn: bytes  # 16
    init_tee_tcb_svn: bytes  # 16
    init_tee_fmspc: bytes  # 12
    cur_service_td_hash: bytes  # 48
    cur_service_td_attributes: bytes  # 8


class TdReport(msgspec.Struct, frozen=True):
    """A TD quote body of any type."""

    tee_tcb_svn: bytes  # 16; of the TDX module that launched the TD
    mr_seam: bytes  # 48
    mr_signer_seam: bytes  # 48
    seam_attributes: bytes  # 8
    td_attributes: int  # ``TdAttributeBit``
    xfam: int
    mr_td: bytes  # 48
    mr_config_id: bytes  # 48
    mr_owner: bytes  # 48
    mr_owner_config: bytes  # 48
    rtmr0: bytes  # 48, like the next three
    rtmr1: bytes
    rtmr2: bytes
    rtmr3: bytes
    report_data: bytes  # 64
    later: TdReport15 | None = None
    extended: TdReport15Ex | None = None  # never without ``later``

    def encode(self) -> bytes:
        """``parse_td_report(b, ...).encode() == b`` for every ``b`` that parses."""
        *body, later, extended = msgspec.structs.astuple(self)
        parts = [_TD_10.pack(*body)]
        if later is not None:
            parts.append(_TD_15.pack(*msgspec.structs.astuple(later)))
        if extended is not None:
            parts.append(_TD_15_EX.pack(*msgspec.structs.astuple(extended)))
        return b"".join(parts)


def parse_td_report(data: bytes) -> TdReport:
    """Parse a body of 584, 648 or 885 bytes; the caller has checked which it must be.

    Raises:
        ParseError: RESERVED_BIT_SET, in TDATTRIBUTES or XFAM.
    """
    later = extended = None
    if len(data) >= TD_REPORT_15_SIZE:
        later = TdReport15(*_TD_15.unpack_from(data, TD_REPORT_10_SIZE))
    if len(data) >= TD_REPORT_15_EX_SIZE:
        extended = TdReport15Ex(*_TD_15_EX.unpack_from(data, TD_REPORT_15_SIZE))
    report = TdReport(*(*_TD_10.unpack_from(data), later, extended))
    if report.td_attributes & ~TD_ATTRIBUTES_DEFINED:
        raise _reserved(f"reserved bits of TDATTRIBUTES {report.td_attributes:#x} are not zero")
    if report.xfam & XFAM_FIXED1 != XFAM_FIXED1 or report.xfam & ~XFAM_FIXED0:
        raise _reserved(
            f"XFAM is {report.xfam:#x}: no TDX module sets it so "
            f"(always one {XFAM_FIXED1:#x}, ever one {XFAM_FIXED0:#x})"
        )
    return report


def _reserved(what: str) -> ParseError:
    return ParseError(EvidenceCode.RESERVED_BIT_SET, f"Intel quote: {what}")
