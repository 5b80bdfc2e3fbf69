"""The policy half of Intel TDX and SGX."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regalia.appraisal.config_binding import BINDINGS
from regalia.appraisal.policy_plugin import PolicyPlugin
from regalia.tees.intel.claims import SgxClaims, TdxClaims
from regalia.tees.intel.names import TcbStatus
from regalia.tees.intel.policy.conditions import (
    SGX_CONDITIONS,
    SGX_LEFT_OUT,
    TDX_CONDITIONS,
    TDX_LEFT_OUT,
)
from regalia.tees.intel.policy.rules import enclave_workload, td_workload
from regalia.tees.intel.policy.section import Sgx, Tdx
from regalia.tees.intel.policy.sgx_fields import SGX_FIELDS
from regalia.tees.intel.policy.tdx_fields import ATTRIBUTES, TDX_FIELDS
from regalia.wire.evidence import Tee

if TYPE_CHECKING:
    from regalia.tees.intel.claims import IntelClaims

_PLATFORM = (
    "quote_version_minimum",
    "revocation",
    "ppids",
    "tcb_statuses",
    "advisories_denied",
    "tcb_evaluation_data_number_minimum",
    "dynamic_platform",
    "cached_keys",
    "smt",
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
        "xfam",
        "service_td",
        "mr_seam",
        "mr_signer_seam",
        td_workload,
        "mrtd",
        "rtmrs.rtmr0",
        "rtmrs.rtmr1",
        "rtmrs.rtmr2",
        "rtmrs.rtmr3",
        "mr_owner",
        "mr_owner_config",
        "event_log",
        "mr_config_id",
    ),
    conditions=TDX_CONDITIONS,
    left_out=TDX_LEFT_OUT,
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
        "provision_key",
        "xfrm",
        enclave_workload,
        "mrenclaves",
        "mrsigners",
        "isv_prod_ids",
        "isv_svn_minimum",
        "config_svn_minimum",
        "config_ids",
    ),
    conditions=SGX_CONDITIONS,
    left_out=SGX_LEFT_OUT,
    machines="ppids",
    binding=BINDINGS[Tee.SGX],
    weakened=_weakened,
)
