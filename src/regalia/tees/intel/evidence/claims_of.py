"""Claims out of genuine quotes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from regalia.appraisal.claims import MINT
from regalia.core.codec import lp
from regalia.core.errors import CoreCode, ParseError
from regalia.core.types import Digest
from regalia.tees.boot.evidence import Standing
from regalia.tees.intel.claims import EventLogClaims, SgxClaims, TdxClaims
from regalia.tees.intel.evidence.bodies import EnclaveReport, TdReport

if TYPE_CHECKING:
    from regalia.appraisal.evidence_plugin import Parsed
    from regalia.tees.boot.evidence import VerifiedLog
    from regalia.tees.intel.evidence.verify import Platform
    from regalia.tees.intel.evidence.wire import QuoteParts
    from regalia.wire.evidence import Evidence


def _platform(parsed: Parsed[Evidence, QuoteParts], platform: Platform) -> dict[str, Any]:
    """What ``IntelClaims`` has."""
    facts, info, identity = platform.certified.pck.facts, platform.info, platform.identity
    stands = platform.standing
    return {
        "hardware": platform.hardware,
        "revocation": platform.revocation,
        "evidence_digest": parsed.raw.digest(),
        "quote_version": parsed.report.version,
        "report_data": parsed.report.body.report_data,
        "tcb_status": platform.status,
        "current_tcb_status": platform.current_status,
        "qe_status": stands.qe.status,
        "qe_isv_svn": platform.certified.qe_report.isv_svn,
        "advisory_ids": stands.advisories,
        "tcb_date": stands.platform.date,
        "tcb_evaluation_data_number": min(
            info.evaluation_data_number, identity.evaluation_data_number
        ),
        "collateral_issued": min(info.issue_date, identity.issue_date),
        "collateral_next_update": min(info.next_update, identity.next_update),
        "fmspc": facts.fmspc,
        "pce_id": facts.pce_id,
        "cpu_svn": facts.cpu_svn,
        "pce_svn": facts.pce_svn,
        "ppid": facts.ppid,
        "sgx_type": facts.sgx_type,
        "platform_instance_id": facts.platform_instance_id,
        "dynamic_platform": facts.dynamic_platform,
        "cached_keys": facts.cached_keys,
        "smt": facts.smt,
        "mint": MINT,
    }


def event_log_claims(log: VerifiedLog) -> EventLogClaims:
    """What a log that leads to the quoted RTMRs amounts to."""
    standings = [event.standing for event in log.events]
    measured = [event for event in log.events if event.standing is not Standing.UNMEASURED]
    return EventLogClaims(
        digest=Digest.of(
            lp(*(bytes((event.register,)) + event.digest + event.proven for event in measured))
        ),
        events=len(measured),
        opaque=standings.count(Standing.OPAQUE),
        unknown=standings.count(Standing.UNKNOWN),
    )


def tdx_claims(
    parsed: Parsed[Evidence, QuoteParts], platform: Platform, log: EventLogClaims | None
) -> TdxClaims:
    """What a genuine TD quote says, fresh or not. Raises ParseError for a quote of SGX.

    Args:
        parsed: its signature was verified.
        platform: what it stands on.
        log: what an event log shows that leads to the quote's RTMRs; None without one.
    """
    td = parsed.report.body
    if not isinstance(td, TdReport):
        raise ParseError(CoreCode.MALFORMED, "want a TD quote, got that of an SGX enclave")
    module = platform.standing.module
    return TdxClaims(
        **_platform(parsed, platform),
        tee_tcb_svn=td.tee_tcb_svn,
        tee_tcb_svn_2=td.later.tee_tcb_svn_2 if td.later else None,
        module_status=module.status if module else None,
        mr_seam=td.mr_seam,
        mr_signer_seam=td.mr_signer_seam,
        seam_attributes=td.seam_attributes,
        td_attributes=td.td_attributes,
        xfam=td.xfam,
        mr_td=td.mr_td,
        mr_config_id=td.mr_config_id,
        mr_owner=td.mr_owner,
        mr_owner_config=td.mr_owner_config,
        rtmr0=td.rtmr0,
        rtmr1=td.rtmr1,
        rtmr2=td.rtmr2,
        rtmr3=td.rtmr3,
        mr_service_td=td.later.mr_service_td if td.later else None,
        td_id=td.extended.td_id if td.extended else None,
        event_log=log,
    )


def sgx_claims(parsed: Parsed[Evidence, QuoteParts], platform: Platform) -> SgxClaims:
    """What a genuine SGX quote says, fresh or not. Raises ParseError for a quote of a TD.

    Args:
        parsed: its signature was verified.
        platform: what it stands on.
    """
    enclave = parsed.report.body
    if not isinstance(enclave, EnclaveReport):
        raise ParseError(CoreCode.MALFORMED, "want the quote of an SGX enclave, got a TD's")
    return SgxClaims(
        **_platform(parsed, platform),
        enclave_cpu_svn=enclave.cpu_svn,
        misc_select=enclave.misc_select,
        attributes=enclave.attributes,
        xfrm=enclave.xfrm,
        mr_enclave=enclave.mr_enclave,
        mr_signer=enclave.mr_signer,
        isv_prod_id=enclave.isv_prod_id,
        isv_svn=enclave.isv_svn,
        isv_ext_prod_id=enclave.isv_ext_prod_id,
        isv_family_id=enclave.isv_family_id,
        config_id=enclave.config_id,
        config_svn=enclave.config_svn,
    )
