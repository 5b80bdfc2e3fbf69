"""What conditions may say of TDX and SGX claims: ``claims.tdx`` and ``claims.sgx``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regalia.appraisal.condition_types import all_bool, record
from regalia.core.bits import bit
from regalia.tees.intel.names import SgxAttributeBit, TdAttributeBit

if TYPE_CHECKING:
    from regalia.appraisal.condition_types import Fields, Kind, Values
    from regalia.tees.intel.claims import IntelClaims, SgxClaims, TdxClaims

_COMMON: dict[str, Kind | Fields] = {
    "quote_version": "int",
    "tcb_status": "text",
    "current_tcb_status": "text",
    "qe_status": "text",
    "advisory_ids": "list of text",
    "tcb_date": "text",
    "tcb_evaluation_data_number": "int",
    "collateral_issued": "time",
    "collateral_next_update": "time",
    "fmspc": "text",
    "pce_svn": "int",
    "ppid": "text",
    "platform_instance_id": "text",  # empty if the certificate has none
    "dynamic_platform": "bool",  # true also if the certificate does not say, like the next two
    "cached_keys": "bool",
    "smt": "bool",
}
_REGISTERS = (
    "mr_seam",
    "mr_signer_seam",
    "mr_td",
    "mr_config_id",
    "mr_owner",
    "mr_owner_config",
    "rtmr0",
    "rtmr1",
    "rtmr2",
    "rtmr3",
)


def _texts(names: tuple[str, ...]) -> dict[str, Kind | Fields]:
    return dict.fromkeys(names, "text")


TDX_FIELDS: Fields = record(
    **_COMMON,
    module_status="text",  # empty for modules that have no identity
    tee_tcb_svn="text",
    attributes=record(**all_bool([name.lower() for name in TdAttributeBit.__members__])),
    xfam="text",
    mr_service_td="text",  # empty in bodies of TDX 1.0
    event_log="bool",
    **_texts(_REGISTERS),
)
SGX_FIELDS: Fields = record(
    **_COMMON,
    mr_enclave="text",
    mr_signer="text",
    isv_prod_id="int",
    isv_svn="int",
    config_id="text",
    config_svn="int",
    attributes=record(**all_bool([name.lower() for name in SgxAttributeBit.__members__])),
    xfrm="text",
)


def tdx_values(claims: TdxClaims) -> Values:
    """Values of ``TDX_FIELDS``. Bytes are lower-case hex, in the order of the quote."""
    return {
        **_common(claims),
        "module_status": str(claims.module_status or ""),
        "tee_tcb_svn": claims.tee_tcb_svn.hex(),
        "attributes": {
            name.lower(): bit(claims.td_attributes, index)
            for name, index in TdAttributeBit.__members__.items()
        },
        "xfam": claims.xfam.to_bytes(8, "little").hex(),
        "mr_service_td": (claims.mr_service_td or b"").hex(),
        "event_log": claims.event_log is not None,
        **{name: getattr(claims, name).hex() for name in _REGISTERS},
    }


def sgx_values(claims: SgxClaims) -> Values:
    """Values of ``SGX_FIELDS``."""
    return {
        **_common(claims),
        "mr_enclave": claims.mr_enclave.hex(),
        "mr_signer": claims.mr_signer.hex(),
        "isv_prod_id": claims.isv_prod_id,
        "isv_svn": claims.isv_svn,
        "config_id": claims.config_id.hex(),
        "config_svn": claims.config_svn,
        "attributes": {
            name.lower(): bit(claims.attributes, index)
            for name, index in SgxAttributeBit.__members__.items()
        },
        "xfrm": claims.xfrm.to_bytes(8, "little").hex(),
    }


def _common(claims: IntelClaims) -> Values:
    return {
        "quote_version": claims.quote_version,
        "tcb_status": str(claims.tcb_status),
        "current_tcb_status": str(claims.current_tcb_status),
        "qe_status": str(claims.qe_status),
        "advisory_ids": list(claims.advisory_ids),
        "tcb_date": claims.tcb_date,
        "tcb_evaluation_data_number": claims.tcb_evaluation_data_number,
        "collateral_issued": claims.collateral_issued,
        "collateral_next_update": claims.collateral_next_update,
        "fmspc": claims.fmspc.hex(),
        "pce_svn": claims.pce_svn,
        "ppid": claims.ppid.hex(),
        "platform_instance_id": (claims.platform_instance_id or b"").hex(),
        "dynamic_platform": claims.dynamic_platform is not False,
        "cached_keys": claims.cached_keys is not False,
        "smt": claims.smt is not False,
    }
