"""What conditions may say of TDX and SGX claims: ``claims.tdx`` and ``claims.sgx``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from regalia.appraisal.condition_types import (
    SAID_FOR_ALL,
    TEXT,
    Reading,
    because,
    derived,
    flags,
    record_of,
)
from regalia.tees.intel.claims import SgxClaims, TdxClaims
from regalia.tees.intel.names import SgxAttributeBit, TdAttributeBit

if TYPE_CHECKING:
    from regalia.tees.intel.claims import EventLogClaims

_LEFT_OUT = {
    **SAID_FOR_ALL,
    **because("tcb_status and qe_status say what they are for", "qe_isv_svn", "cpu_svn"),
    **because("the same on every platform so far", "pce_id"),
    **because("platform_instance_id and the flags say it", "sgx_type"),
}
TDX_LEFT_OUT = {
    **_LEFT_OUT,
    **because("module_status and current_tcb_status say what they are for", "tee_tcb_svn_2"),
    **because("zero, or the quote is refused", "seam_attributes"),
    **because("drawn anew at each launch", "td_id"),
    **because("read below, as a record and as bytes", "td_attributes", "xfam"),
}
SGX_LEFT_OUT = {
    **_LEFT_OUT,
    **because("tcb_status says what it is for", "enclave_cpu_svn"),
    **because("what it changes is measured", "misc_select"),
    **because("no signer here uses them", "isv_ext_prod_id", "isv_family_id"),
    **because("read below, as a record and as bytes", "attributes", "xfrm"),
}
# Certificates of single-package platforms do not say, which counts as true.
_FLAG: Reading[bool | None] = Reading("bool", lambda value: value is not False)
_HAS_LOG: Reading[EventLogClaims | None] = Reading("bool", lambda log: log is not None)
_READINGS = {
    "TcbStatus": TEXT,
    "TcbStatus | None": TEXT,
    "bool | None": _FLAG,
    "EventLogClaims | None": _HAS_LOG,
}
_FEATURES: Reading[int] = Reading("text", lambda mask: mask.to_bytes(8, "little").hex())

_TDX: dict[str, Reading[Any]] = {
    **derived(TdxClaims, left_out=TDX_LEFT_OUT, readings=_READINGS),
    "attributes": record_of(
        flags({name.lower(): index for name, index in TdAttributeBit.__members__.items()})
    ).of(lambda claims: claims.td_attributes),
    "xfam": _FEATURES.of(lambda claims: claims.xfam),
}
_SGX: dict[str, Reading[Any]] = {
    **derived(SgxClaims, left_out=SGX_LEFT_OUT, readings=_READINGS),
    "attributes": record_of(
        flags({name.lower(): index for name, index in SgxAttributeBit.__members__.items()})
    ).of(lambda claims: claims.attributes),
    "xfrm": _FEATURES.of(lambda claims: claims.xfrm),
}
TDX_CONDITIONS: dict[str, Reading[TdxClaims]] = {"tdx": record_of(_TDX)}
SGX_CONDITIONS: dict[str, Reading[SgxClaims]] = {"sgx": record_of(_SGX)}
