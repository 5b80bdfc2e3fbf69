"""Azure confidential VM appraisal, *is it genuine?* Spec: docs/spec/azure-appraisal.md.

 (1) Document and HCL report parse, and are of the kind that the envelope names.
 (2) The hardware's report is genuine: checks 1 to 7 of SEV-SNP, or 1 to 12 of TDX.
 (3) SNP: it was asked for at VMPL 0. TDX: the quote and the TD report in the HCL report agree.
 (4) Its report data is the SHA-256 of the runtime data, and zeros; the runtime data parses, and
     its AK is the paravisor's.
 (5) The AK quoted all 24 registers of the SHA-256 bank.
 (6) An event log that came along leads to the registers of the boot, as for a TPM.
 (7) extraData is the SHA-256 of the report data that the caller expects: ``Unbound.fresh``.

The hardware's report is as old as the boot; only the vTPM's quote is fresh. Whoever is measured
by the report is the paravisor, so its measurement must be in the policy's reference set, and it
is left to ``regalia.policy`` with everything that the hardware's and the TPM's verifiers leave.
"""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

from regalia.appraisal.check_log import NO_LOG
from regalia.appraisal.claims import MINT, Unbound
from regalia.appraisal.evidence_plugin import Parsed
from regalia.core.errors import AttestationError, CoreCode, ParseError
from regalia.tees.azure.claims import AzureSnpClaims, AzureTdxClaims
from regalia.tees.azure.evidence import checks
from regalia.tees.azure.evidence.codes import AzureCode
from regalia.tees.azure.evidence.guest import parse_parts, require_vouched, verify_guest_quote
from regalia.tees.azure.evidence.hcl import ReportType
from regalia.tees.intel.evidence import verify as intel
from regalia.tees.intel.evidence.bodies import TdReport
from regalia.tees.intel.evidence.td_report import (
    TD_REPORT_SIZE,
    LocalTdReport,
    parse_local_td_report,
)
from regalia.tees.snp.evidence import verify as snp
from regalia.tees.tpm.evidence.verify import NONCE
from regalia.wire.evidence import Tee

if TYPE_CHECKING:
    from regalia.appraisal.appraisal_context import AppraisalContext
    from regalia.appraisal.check_log import CheckLog
    from regalia.tees.azure.evidence.guest import GuestParts
    from regalia.tees.intel.evidence.anchors import IntelAnchors
    from regalia.tees.intel.evidence.verified_collateral import PreparedCollateral
    from regalia.tees.intel.evidence.wire import QuoteParts
    from regalia.tees.snp.evidence import SnpAnchors, SnpCollateral
    from regalia.tees.snp.evidence.wire import SnpReport
    from regalia.wire.evidence import Evidence

PARAVISOR_VMPL = 0

_SAME = tuple(field.name for field in fields(LocalTdReport))  # in a TD report and its quote


def parse_snp(evidence: Evidence, check_log: CheckLog = NO_LOG) -> Parsed[Evidence, GuestParts]:
    """Check 1. Raises ParseError.

    Args:
        evidence: raw, untrusted.
        check_log: records the checks.
    """
    parts = parse_parts(
        evidence, tee=Tee.AZURE_SNP, report_type=ReportType.SNP, check_log=check_log
    )
    if parts.document.td_quote:
        raise ParseError(CoreCode.MALFORMED, "a TD quote beside an SNP report")
    return Parsed(evidence, parts)


def parse_tdx(evidence: Evidence, check_log: CheckLog = NO_LOG) -> Parsed[Evidence, GuestParts]:
    """Check 1. Raises ParseError.

    Args:
        evidence: raw, untrusted.
        check_log: records the checks.
    """
    parts = parse_parts(
        evidence, tee=Tee.AZURE_TDX, report_type=ReportType.TDX, check_log=check_log
    )
    if evidence.endorsements:
        raise ParseError(CoreCode.MALFORMED, "endorsements beside a TD quote, which has its own")
    return Parsed(evidence, parts)


def report_below(
    parsed: Parsed[Evidence, GuestParts], check_log: CheckLog = NO_LOG
) -> Parsed[Evidence, SnpReport]:
    """The paravisor's report, as evidence by itself. Raises ParseError.

    Args:
        parsed: untrusted.
        check_log: records the checks.
    """
    report = parsed.report.hcl.hardware_report
    return snp.parse(parsed.raw.part(Tee.SEV_SNP, report), check_log)


def td_quote_below(
    parsed: Parsed[Evidence, GuestParts], check_log: CheckLog = NO_LOG
) -> Parsed[Evidence, QuoteParts]:
    """The paravisor's TD quote, as evidence by itself. Raises ParseError.

    Args:
        parsed: untrusted.
        check_log: records the checks.
    """
    return intel.parse(parsed.raw.part(Tee.TDX, parsed.report.document.td_quote), check_log)


def verify_genuine_snp(
    parsed: Parsed[Evidence, GuestParts],
    *,
    anchors: SnpAnchors,
    collateral: SnpCollateral,
    at: AppraisalContext,
) -> Unbound[AzureSnpClaims]:
    """Checks 2 to 6: claims of unknown age.

    Args:
        parsed: untrusted.
        anchors: AMD's pinned roots.
        collateral: certificates and revocation lists of the verifier's operator.
        at: the context of the appraisal.

    Raises:
        ParseError: evidence or collateral is malformed.
        AttestationError: the evidence is not genuine.
    """
    report = report_below(parsed, at.check_log)
    found = snp.verify_genuine(report, anchors=anchors, collateral=collateral, at=at)  # (2)
    below = found.dangerous_without_freshness()  # as old as the boot; the vTPM's quote is fresh
    at.check_log.begin(checks.PARAVISOR_LEVEL, str(below.vmpl), str(PARAVISOR_VMPL))
    if below.vmpl != PARAVISOR_VMPL:  # (3)
        raise AttestationError(
            AzureCode.PARAVISOR_LEVEL, f"the report was asked for at VMPL {below.vmpl}"
        )
    guest = require_vouched(parsed.report, below.report_data, at)  # (4)
    vtpm = verify_guest_quote(guest, at)  # (5) (6)
    claims = AzureSnpClaims(
        evidence_digest=parsed.raw.digest(), vm=guest.vm, vtpm=vtpm, snp=below, mint=MINT
    )
    return Unbound(claims, vtpm.extra_data, NONCE, MINT)


def verify_genuine_tdx(
    parsed: Parsed[Evidence, GuestParts],
    *,
    anchors: IntelAnchors,
    collateral: PreparedCollateral,
    at: AppraisalContext,
) -> Unbound[AzureTdxClaims]:
    """Like ``verify_genuine_snp``, for a TD.

    Args:
        parsed: untrusted.
        anchors: Intel's pinned root; the one that ``collateral`` was prepared under.
        collateral: of the verifier's operator.
        at: the context of the appraisal.
    """
    quote = td_quote_below(parsed, at.check_log)
    found = intel.verify_tdx(quote, anchors=anchors, collateral=collateral, at=at)  # (2)
    below = found.dangerous_without_freshness()  # as old as the boot, likewise
    at.check_log.begin(checks.TD_REPORT)
    local, signed, body = parsed.report.hcl.hardware_report, quote.report.signed, quote.report.body
    if isinstance(body, TdReport):  # verify_tdx refuses any other
        at.cache.derived(  # (3)
            "azure td report",
            below.report_data,
            (local, signed),
            lambda: require_same_td(local, body),
        )
    guest = require_vouched(parsed.report, below.report_data, at)  # (4)
    vtpm = verify_guest_quote(guest, at)  # (5) (6)
    claims = AzureTdxClaims(
        evidence_digest=parsed.raw.digest(), vm=guest.vm, vtpm=vtpm, tdx=below, mint=MINT
    )
    return Unbound(claims, vtpm.extra_data, NONCE, MINT)


def require_same_td(raw: bytes, quoted: TdReport) -> None:
    """(3) Every field that both have. Of the TD report only CPUSVN and MAC stay unseen.

    Args:
        raw: of the HCL report, untrusted: the TD report.
        quoted: body of a TD quote that was verified.

    Raises:
        ParseError: the TD report is malformed.
        AttestationError: TD_REPORT_MISMATCH.
    """
    if any(raw[TD_REPORT_SIZE:]):
        raise ParseError(CoreCode.MALFORMED, "HCL report: bytes behind the TDREPORT")
    local = parse_local_td_report(raw[:TD_REPORT_SIZE])
    service_td = quoted.later.mr_service_td if quoted.later else local.mr_service_td
    for name in _SAME:
        want = service_td if name == "mr_service_td" else getattr(quoted, name)
        if getattr(local, name) != want:
            raise AttestationError(
                AzureCode.TD_REPORT_MISMATCH, f"{name} of TD report and quote differ"
            )
