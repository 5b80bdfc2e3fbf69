"""The policy half of Intel TDX and SGX.

Numbers in the docstrings are the checks of docs/spec/policy.md, section "Order of evaluation".
"""

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
from regalia.appraisal.config_binding import BINDINGS
from regalia.appraisal.finding import finding
from regalia.appraisal.policy_codes import PolicyCode
from regalia.appraisal.policy_plugin import PolicyPlugin, judges
from regalia.tees.intel.claims import SgxClaims, TdxClaims
from regalia.tees.intel.names import SgxAttributeBit, TcbStatus, TdAttributeBit
from regalia.tees.intel.policy.fields import ATTRIBUTES, SGX_FIELDS, TDX_FIELDS
from regalia.tees.intel.policy.section import Sgx, Tdx
from regalia.wire.evidence import Tee

if TYPE_CHECKING:
    from collections.abc import Iterator
    from enum import IntEnum

    from regalia.appraisal.finding import Finding
    from regalia.appraisal.policy_plugin import RuleInput
    from regalia.tees.intel.claims import EventLogClaims, IntelClaims

# -- rules ----------------------------------------------------------------------------------------


@judges("mrtd", "rtmrs.rtmr1", "rtmrs.rtmr2")
def td_workload(case: RuleInput[Tdx, TdxClaims]) -> Iterator[Finding]:
    """(16) What runs: firmware in MRTD, kernel and what it starts in RTMR1 and RTMR2."""
    rtmrs = case.section.rtmrs
    if "any" in (case.section.mrtd, rtmrs.rtmr1, rtmrs.rtmr2):
        yield finding(
            PolicyCode.WORKLOAD_UNPINNED,
            "mrtd, rtmr1 or rtmr2 is open: firmware alone does not say which kernel it starts",
            "List the accepted values of mrtd, rtmr1 and rtmr2.",
        )


@judges("mrenclaves", "mrsigners", "isv_prod_ids")
def enclave_workload(case: RuleInput[Sgx, SgxClaims]) -> Iterator[Finding]:
    """(16) What runs: MRENCLAVE, or a product of a signer from some security version on."""
    section = case.section
    if section.mrenclaves == "any" and "any" in (section.mrsigners, section.isv_prod_ids):
        yield finding(
            PolicyCode.WORKLOAD_UNPINNED,
            "mrenclaves is open, and mrsigners and isv_prod_ids do not both take its place",
            "List the accepted values of mrenclaves, or of mrsigners and isv_prod_ids.",
        )


# -- what conditions may say of the claims --------------------------------------------------------

_LEFT_OUT = {
    **SAID_FOR_ALL,
    **because("tcb_status and qe_status say what they are for", "qe_isv_svn", "cpu_svn"),
    **because("the same on every platform so far", "pce_id"),
    **because("platform_instance_id and the flags say it", "sgx_type"),
}
_TDX_LEFT_OUT = {
    **_LEFT_OUT,
    **because("module_status and current_tcb_status say what they are for", "tee_tcb_svn_2"),
    **because("zero, or the quote is refused", "seam_attributes"),
    **because("drawn anew at each launch", "td_id"),
    **because("read below, as a record and as bytes", "td_attributes", "xfam"),
}
_SGX_LEFT_OUT = {
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


def _bits(names: type[IntEnum]) -> Reading[int]:
    return record_of(flags({name.lower(): index for name, index in names.__members__.items()}))


_TDX: dict[str, Reading[Any]] = {
    **derived(TdxClaims, left_out=_TDX_LEFT_OUT, readings=_READINGS),
    "attributes": _bits(TdAttributeBit).of(lambda claims: claims.td_attributes),
    "xfam": _FEATURES.of(lambda claims: claims.xfam),
}
_SGX: dict[str, Reading[Any]] = {
    **derived(SgxClaims, left_out=_SGX_LEFT_OUT, readings=_READINGS),
    "attributes": _bits(SgxAttributeBit).of(lambda claims: claims.attributes),
    "xfrm": _FEATURES.of(lambda claims: claims.xfrm),
}

# -- the plug-ins ---------------------------------------------------------------------------------

_PLATFORM = (
    *("quote_version_minimum", "revocation", "ppids", "tcb_statuses", "advisories_denied"),
    *("tcb_evaluation_data_number_minimum", "dynamic_platform", "cached_keys", "smt"),
)


def _weakened(claims: IntelClaims) -> bool:
    return claims.tcb_status is not TcbStatus.UP_TO_DATE


TDX = PolicyPlugin(
    tee=Tee.TDX,
    name="tdx",
    section=Tdx,
    claims=TdxClaims,
    fields=TDX_FIELDS,
    order=(
        *_PLATFORM,
        *(field.name for field in ATTRIBUTES),
        *("xfam", "service_td", "mr_seam", "mr_signer_seam"),
        td_workload,
        *("mrtd", "rtmrs.rtmr0", "rtmrs.rtmr1", "rtmrs.rtmr2", "rtmrs.rtmr3"),
        *("mr_owner", "mr_owner_config", "event_log", "mr_config_id"),
    ),
    conditions={"tdx": record_of(_TDX)},
    left_out=_TDX_LEFT_OUT,
    machines="ppids",
    binding=BINDINGS[Tee.TDX],
    weakened=_weakened,
)

SGX = PolicyPlugin(
    tee=Tee.SGX,
    name="sgx",
    section=Sgx,
    claims=SgxClaims,
    fields=SGX_FIELDS,
    order=(
        *_PLATFORM,
        *("provision_key", "xfrm"),
        enclave_workload,
        *("mrenclaves", "mrsigners", "isv_prod_ids", "isv_svn_minimum", "config_svn_minimum"),
        "config_ids",
    ),
    conditions={"sgx": record_of(_SGX)},
    left_out=_SGX_LEFT_OUT,
    machines="ppids",
    binding=BINDINGS[Tee.SGX],
    weakened=_weakened,
)
