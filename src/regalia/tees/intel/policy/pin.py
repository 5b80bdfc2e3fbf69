"""The TDX and SGX sections of a policy, from known-good claims."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from regalia.appraisal.claims import Revocation
from regalia.core.bits import bit
from regalia.tees.intel.names import SgxAttributeBit, TdAttributeBit
from regalia.tees.intel.policy.section import Rtmrs, Sgx, TdAttributes, Tdx

if TYPE_CHECKING:
    from regalia.tees.intel.claims import IntelClaims, SgxClaims, TdxClaims
    from regalia.tees.intel.policy.section import Switch


def pin_tdx(claims: TdxClaims, *, pin_machine: bool, pin_config: bool) -> Tdx:
    """The section that these claims meet. RTMR3 stays open: it grows while the TD runs."""
    return Tdx(
        **_common(claims, pin_machine=pin_machine),
        mrtd=[claims.mr_td.hex()],
        rtmrs=Rtmrs(
            rtmr0=[claims.rtmr0.hex()],
            rtmr1=[claims.rtmr1.hex()],
            rtmr2=[claims.rtmr2.hex()],
            rtmr3="any" if any(claims.rtmr3) else [claims.rtmr3.hex()],
        ),
        mr_config_id=[claims.mr_config_id.hex()] if pin_config else "any",
        mr_owner=[claims.mr_owner.hex()],
        mr_owner_config=[claims.mr_owner_config.hex()],
        mr_seam="any",
        mr_signer_seam=[claims.mr_signer_seam.hex()],
        xfam=[claims.xfam.to_bytes(8, "little").hex()],
        attributes=_attributes(claims),
        service_td=_allowed(on=any(claims.mr_service_td or b"")),
        event_log=("any" if claims.event_log is None or claims.event_log.unknown else "required"),
    )


def pin_sgx(claims: SgxClaims, *, pin_machine: bool, pin_config: bool) -> Sgx:
    """The section that these claims meet."""
    return Sgx(
        **_common(claims, pin_machine=pin_machine),
        mrenclaves=[claims.mr_enclave.hex()],
        mrsigners=[claims.mr_signer.hex()],
        isv_prod_ids=[claims.isv_prod_id],
        isv_svn_minimum=claims.isv_svn,
        config_ids=[claims.config_id.hex()] if pin_config else "any",
        config_svn_minimum=claims.config_svn,
        xfrm=[claims.xfrm.to_bytes(8, "little").hex()],
        provision_key=_allowed(on=bit(claims.attributes, SgxAttributeBit.PROVISIONKEY)),
    )


def _common(claims: IntelClaims, *, pin_machine: bool) -> dict[str, Any]:
    revocation: Literal["required", "any"] = (
        "any" if claims.revocation is Revocation.UNKNOWN else "required"
    )
    return {
        "tcb_statuses": sorted(
            {"UpToDate", claims.tcb_status.value, claims.current_tcb_status.value}
        ),
        "advisories_denied": [],
        "tcb_evaluation_data_number_minimum": claims.tcb_evaluation_data_number,
        "quote_version_minimum": claims.quote_version,
        "ppids": [claims.ppid.hex()] if pin_machine else "any",
        "dynamic_platform": _allowed(on=claims.dynamic_platform is not False),
        "cached_keys": _allowed(on=claims.cached_keys is not False),
        "smt": _allowed(on=claims.smt is not False),
        "revocation": revocation,
    }


def _attributes(claims: TdxClaims) -> TdAttributes:
    have = claims.td_attributes
    return TdAttributes(
        sept_ve_disable="required" if bit(have, TdAttributeBit.SEPT_VE_DISABLE) else "any",
        perfmon=_allowed(on=bit(have, TdAttributeBit.PERFMON)),
        pks=_allowed(on=bit(have, TdAttributeBit.PKS)),
        kl=_allowed(on=bit(have, TdAttributeBit.KL)),
        lass=_allowed(on=bit(have, TdAttributeBit.LASS)),
        icssd=_allowed(on=bit(have, TdAttributeBit.ICSSD)),
        tpa=_allowed(on=bit(have, TdAttributeBit.TPA)),
    )


def _allowed(*, on: bool) -> Switch:
    return "allow" if on else "deny"
