"""TDX and SGX appraisal, *is it genuine?* Spec: docs/spec/tdx-appraisal.md.

 (1) The quote parses: exact sizes, known version, everything reserved is zero; what follows it is
     zero too.
 (2) PCK -> PCK Platform or Processor CA -> Intel SGX Root CA (key pinned).
 (3) The PCK signed the QE report.
 (4) The QE report is over the attestation key and the authentication data.
 (5) The three certificates are valid at ``now``.
 (6) The TCB info for the platform's FMSPC and PCEID is there, signed, in date.
 (7) The quoting enclave's identity likewise: TD_QE for TDX, QE for SGX.
 (8) The root's and the PCK CA's revocation lists are in date and name none of the certificates.
 (9) The QE is Intel's, not in debug mode, and reaches a level of its identity.
(10) The attestation key signed header and body.
(11) TDX: MRSIGNERSEAM and SEAMATTRIBUTES are those of a listed module.
(12) Platform and TDX module reach a level of the TCB info, with the module of the launch and with
     the one that runs now; none of the levels is revoked.
(13) TDX: an event log, if one came along, reproduces RTMR0 to RTMR3.
(14) REPORTDATA is what the caller expects, all 64 bytes: ``Unbound.fresh``.

Left to ``regalia.policy``, which gets the claims: which TCB statuses and advisories, the floor of
the evaluation data number, debug and migration, SEPT_VE_DISABLE and the other attributes, XFAM,
measurements, MRSERVICETD, and the list of platforms.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from regalia.appraisal.check_log import NO_LOG
from regalia.appraisal.claims import MINT, NonceField, Unbound
from regalia.appraisal.evidence_plugin import Parsed
from regalia.appraisal.pki.crl import weakest
from regalia.core.clock import rfc3339
from regalia.core.errors import CoreCode, ParseError
from regalia.crypto.sign import SignCode
from regalia.tees.boot.evidence import require_rtmrs
from regalia.tees.boot.evidence.log import parse_event_log
from regalia.tees.intel.evidence import checks
from regalia.tees.intel.evidence.attestation_key import certify
from regalia.tees.intel.evidence.bodies import EnclaveReport, TdReport
from regalia.tees.intel.evidence.chain import require_current
from regalia.tees.intel.evidence.claims_of import event_log_claims, sgx_claims, tdx_claims
from regalia.tees.intel.evidence.documents import EnclaveId, TcbInfoId
from regalia.tees.intel.evidence.qe import require_identity
from regalia.tees.intel.evidence.revocation import check_revocation
from regalia.tees.intel.evidence.select_collateral import for_platform, newest, require_dated
from regalia.tees.intel.evidence.signatures import require_raw_signature
from regalia.tees.intel.evidence.tcb import relaunch, require_module, standing
from regalia.tees.intel.evidence.wire import POINT_SIZE, VERSION_SGX, split_quote
from regalia.wire.evidence import REPORT_DATA_SIZE, Tee
from regalia.wire.evidence_codes import unsupported_version

if TYPE_CHECKING:
    from regalia.appraisal.appraisal_context import AppraisalContext
    from regalia.appraisal.check_log import CheckLog
    from regalia.appraisal.claims import Hardware, Revocation
    from regalia.tees.intel.claims import EventLogClaims, SgxClaims, TdxClaims
    from regalia.tees.intel.evidence.anchors import IntelAnchors
    from regalia.tees.intel.evidence.attestation_key import CertifiedKey
    from regalia.tees.intel.evidence.chain import PckPath
    from regalia.tees.intel.evidence.documents import EnclaveIdentity, TcbInfo
    from regalia.tees.intel.evidence.tcb import Standing
    from regalia.tees.intel.evidence.verified_collateral import PreparedCollateral, Verified
    from regalia.tees.intel.evidence.wire import QuoteParts
    from regalia.tees.intel.names import TcbStatus
    from regalia.wire.evidence import Evidence

NONCE = NonceField(checks.REPORT_DATA, range(REPORT_DATA_SIZE, REPORT_DATA_SIZE + 1))


class Platform(NamedTuple):
    """What checks 2 to 12 found: the platform of a genuine quote, of unknown age."""

    certified: CertifiedKey
    info: TcbInfo
    identity: EnclaveIdentity
    standing: Standing  # under the TDX module that launched the TD
    status: TcbStatus
    current_status: TcbStatus  # under the TDX module that runs now
    revocation: Revocation
    hardware: Hardware


def parse(evidence: Evidence, check_log: CheckLog = NO_LOG) -> Parsed[Evidence, QuoteParts]:
    """Check 1: the quote, of the kind of TEE that the envelope names. Raises ParseError.

    Args:
        evidence: raw, untrusted.
        check_log: records the checks.
    """
    check_log.begin(checks.QUOTE)
    quote = split_quote(evidence.report)
    tee = Tee.TDX if isinstance(quote.body, TdReport) else Tee.SGX
    if evidence.tee is not tee:
        raise ParseError(
            CoreCode.MALFORMED, f"the evidence says {evidence.tee}, the quote is of {tee}"
        )
    if tee is Tee.SGX and evidence.event_log:
        raise ParseError(CoreCode.MALFORMED, "an SGX enclave has no event log")
    if tee is Tee.SGX and quote.version != VERSION_SGX:
        # Intel's quoting enclave for SGX issues no others.
        raise unsupported_version("SGX quote: version", quote.version, (VERSION_SGX,))
    return Parsed(evidence, quote)


def verify_tdx(
    parsed: Parsed[Evidence, QuoteParts],
    *,
    anchors: IntelAnchors,
    collateral: PreparedCollateral,
    at: AppraisalContext,
) -> Unbound[TdxClaims]:
    """Checks 2 to 13 of a TD's quote: claims of unknown age.

    Args:
        parsed: untrusted.
        anchors: the pinned root; the one that ``collateral`` was prepared under.
        collateral: of the verifier's operator.
        at: the context of the appraisal.

    Raises:
        ParseError: the event log is malformed, or the quote is of SGX.
        AttestationError: the evidence is not genuine.
        ValueError: ``collateral`` was prepared under other anchors (the caller's bug).
    """
    platform = verify_platform(parsed, anchors=anchors, collateral=collateral, at=at)
    log = _event_log(parsed, at)
    return Unbound(tdx_claims(parsed, platform, log), parsed.report.body.report_data, NONCE, MINT)


def verify_sgx(
    parsed: Parsed[Evidence, QuoteParts],
    *,
    anchors: IntelAnchors,
    collateral: PreparedCollateral,
    at: AppraisalContext,
) -> Unbound[SgxClaims]:
    """Checks 2 to 12 of an enclave's quote: claims of unknown age. Raises as ``verify_tdx``."""
    platform = verify_platform(parsed, anchors=anchors, collateral=collateral, at=at)
    return Unbound(sgx_claims(parsed, platform), parsed.report.body.report_data, NONCE, MINT)


def verify_platform(
    parsed: Parsed[Evidence, QuoteParts],
    *,
    anchors: IntelAnchors,
    collateral: PreparedCollateral,
    at: AppraisalContext,
) -> Platform:
    """Checks 2 to 12, for both kinds of TEE. The result proves no freshness: a replay passes.

    Args:
        parsed: untrusted.
        anchors: the pinned root; the one that ``collateral`` was prepared under.
        collateral: of the verifier's operator.
        at: the context of the appraisal.

    Raises:
        AttestationError: the evidence is not genuine.
        ValueError: ``collateral`` was prepared under other anchors (the caller's bug).
    """
    if collateral.anchors != anchors:
        raise ValueError("the collateral was prepared under other anchors")
    now, check_log, quote = at.now, at.check_log, parsed.report
    certified = certify(quote, anchors=anchors, at=at)  # (2) (3) (4)
    pck, qe_report = certified.pck, certified.qe_report
    check_log.begin(checks.DATES)
    if check_log is not NO_LOG:
        check_log.note(rfc3339(now), f"{rfc3339(pck.not_before)} to {rfc3339(pck.not_after)}")
    require_current(pck, now)  # (5)
    tdx = parsed.raw.tee is Tee.TDX
    info, identity, revocation = _collateral(pck, collateral, at, tdx=tdx)
    check_log.begin(checks.QE_IDENTITY, qe_report.mr_signer, identity.document.mr_signer)
    require_identity(qe_report, identity.document)  # (9)
    check_log.begin(checks.SIGNATURE)  # (10)
    require_raw_signature(
        certified.key,
        quote.signature,
        quote.signed,
        code=SignCode.SIGNATURE_INVALID,
        what="quote",
    )
    stands, now_status = _standing(quote, certified, info, identity, at)  # (11) (12)
    status = relaunch(stands.status, now_status)
    if check_log is not NO_LOG:
        seen = f"{status} {' '.join(stands.advisories)}".strip()
        check_log.note(seen, "a level not revoked")
    documents = (info.document, identity.document)
    return Platform(certified, *documents, stands, status, now_status, revocation, anchors.hardware)


def _module(body: EnclaveReport | TdReport) -> tuple[bytes, ...]:
    """All that (11) and (12) read of a quote's body: nothing for SGX."""
    if isinstance(body, EnclaveReport):
        return ()
    now = body.later.tee_tcb_svn_2 if body.later else b""
    return body.tee_tcb_svn, now, body.mr_signer_seam, body.seam_attributes


def _standing(
    quote: QuoteParts,
    certified: CertifiedKey,
    info: Verified[TcbInfo],
    identity: Verified[EnclaveIdentity],
    at: AppraisalContext,
) -> tuple[Standing, TcbStatus]:
    """(11) (12) Once for what it depends on: machine, TDX module and Intel's documents."""
    td = quote.body if isinstance(quote.body, TdReport) else None
    facts, check_log = certified.pck.facts, at.check_log

    def judge() -> tuple[Standing, TcbStatus]:
        if td is not None:
            check_log.begin(checks.TDX_MODULE, td.tee_tcb_svn)
            require_module(info.document, td)
        check_log.begin(checks.TCB_LEVEL, facts.cpu_svn, "a level that is listed")
        qe = require_identity(certified.qe_report, identity.document)
        return standing(info.document, facts, td, qe)

    if check_log is not NO_LOG:  # every step is to be recorded
        return judge()
    key, proof = quote.certification[:POINT_SIZE], (quote.certification, *_module(quote.body))
    return at.cache.derived("intel standing", key, proof, judge, held=(info.body, identity.body))


def _collateral(
    pck: PckPath, collateral: PreparedCollateral, at: AppraisalContext, *, tdx: bool
) -> tuple[Verified[TcbInfo], Verified[EnclaveIdentity], Revocation]:
    """(6) (7) (8) What Intel says of the platform and of its quoting enclave, and revocation."""
    now, check_log = at.now, at.check_log
    wanted = f"FMSPC {pck.facts.fmspc.hex()}, PCEID {pck.facts.pce_id.hex()}"
    check_log.begin(checks.TCB_INFO, wanted=wanted)
    kind = TcbInfoId.TDX if tdx else TcbInfoId.SGX
    info = newest(for_platform(collateral, kind, pck.facts), now, f"TCB info for {wanted}")
    freshness = require_dated(info, at, "TCB info")
    check_log.note(wanted, "in date")
    check_log.begin(checks.QE_IDENTITY_DOCUMENT)
    enclave = EnclaveId.TD_QE if tdx else EnclaveId.QE
    identity = newest(
        [each for each in collateral.identities if each.document.id is enclave],
        now,
        f"identity of the quoting enclave {enclave}",
    )
    freshness = weakest(freshness, require_dated(identity, at, "QE identity"))
    check_log.note(enclave, "in date")
    check_log.begin(checks.REVOCATION)
    signers = (info.signer, identity.signer)
    revocation = check_revocation(pck, signers, collateral=collateral, at=at)
    check_log.note(revocation, "checked")
    return info, identity, weakest(freshness, revocation)


def _event_log(parsed: Parsed[Evidence, QuoteParts], at: AppraisalContext) -> EventLogClaims | None:
    """(13) Whatever the log says is the hardware's word only if it leads to all four RTMRs."""
    log, td = parsed.raw.event_log, parsed.report.body
    if not log or not isinstance(td, TdReport):
        return None
    at.check_log.begin(checks.EVENT_LOG)
    rtmrs = (td.rtmr0, td.rtmr1, td.rtmr2, td.rtmr3)

    def replay() -> EventLogClaims:
        return event_log_claims(require_rtmrs(parse_event_log(log), dict(enumerate(rtmrs))))

    found = at.cache.replayed("ccel", rtmrs, log, replay)
    at.check_log.note(f"{found.events} measured events", "RTMR0 to RTMR3")
    return found
