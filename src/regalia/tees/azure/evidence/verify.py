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

from dataclasses import InitVar, dataclass, fields
from typing import TYPE_CHECKING

from regalia.appraisal import claims as claims_format
from regalia.appraisal.check_log import NO_LOG
from regalia.appraisal.evidence_plugin import Parsed
from regalia.core.errors import AttestationError, CoreCode, ParseError
from regalia.tees.azure.claims import AzureSnpClaims, AzureTdxClaims
from regalia.tees.azure.evidence import checks
from regalia.tees.azure.evidence.codes import AzureCode
from regalia.tees.azure.evidence.guest import parse_parts, require_vouched, verify_guest_quote
from regalia.tees.azure.evidence.hcl import ReportType
from regalia.tees.intel.evidence import verify as intel
from regalia.tees.intel.evidence.bodies import TdReport
from regalia.tees.intel.evidence.claims_of import tdx_claims as tdx_claims_of
from regalia.tees.intel.evidence.td_report import (
    TD_REPORT_SIZE,
    LocalTdReport,
    parse_local_td_report,
)
from regalia.tees.snp.evidence import verify as snp
from regalia.wire.evidence import Evidence, Tee

if TYPE_CHECKING:
    from regalia.appraisal.appraisal_context import AppraisalContext
    from regalia.appraisal.check_log import CheckLog
    from regalia.tees.azure.claims import AzureVtpm
    from regalia.tees.azure.evidence.guest import GuestParts, VouchedGuest
    from regalia.tees.intel.claims import TdxClaims
    from regalia.tees.intel.evidence.anchors import IntelAnchors
    from regalia.tees.intel.evidence.verified_collateral import PreparedCollateral
    from regalia.tees.intel.evidence.wire import QuoteParts
    from regalia.tees.snp.claims import SnpClaims
    from regalia.tees.snp.evidence import SnpAnchors, SnpCollateral
    from regalia.tees.snp.evidence.wire import SnpReport

PARAVISOR_VMPL = 0

# Keeps guests from being declared genuine by hand; no wall against code in the same process.
_MINT = object()

_SAME = tuple(field.name for field in fields(LocalTdReport))  # in a TD report and its quote


@dataclass(frozen=True, slots=True)
class GenuineAzureSnp:
    """Passed every check but freshness: a replay passes. Made by ``verify_genuine_snp``."""

    snp: SnpClaims
    guest: VouchedGuest
    vtpm: AzureVtpm
    mint: InitVar[object]

    def __post_init__(self, mint: object) -> None:
        if mint is not _MINT:
            raise TypeError("a genuine guest comes from verify_genuine_snp")


@dataclass(frozen=True, slots=True)
class GenuineAzureTdx:
    """Passed every check but freshness: a replay passes. Made by ``verify_genuine_tdx``."""

    tdx: TdxClaims
    guest: VouchedGuest
    vtpm: AzureVtpm
    mint: InitVar[object]

    def __post_init__(self, mint: object) -> None:
        if mint is not _MINT:
            raise TypeError("a genuine guest comes from verify_genuine_tdx")


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
    return snp.parse(Evidence(Tee.SEV_SNP, report, parsed.raw.endorsements, b""), check_log)


def td_quote_below(
    parsed: Parsed[Evidence, GuestParts], check_log: CheckLog = NO_LOG
) -> Parsed[Evidence, QuoteParts]:
    """The paravisor's TD quote, as evidence by itself. Raises ParseError.

    Args:
        parsed: untrusted.
        check_log: records the checks.
    """
    return intel.parse(Evidence(Tee.TDX, parsed.report.document.td_quote, (), b""), check_log)


def verify_genuine_snp(
    parsed: Parsed[Evidence, GuestParts],
    *,
    anchors: SnpAnchors,
    collateral: SnpCollateral,
    at: AppraisalContext,
) -> GenuineAzureSnp:
    """Checks 2 to 6: a replay passes.

    Args:
        parsed: untrusted.
        anchors: AMD's pinned roots.
        collateral: certificates and revocation lists of the verifier's operator.
        at: the context of the appraisal.

    Raises:
        ParseError: evidence or collateral is malformed.
        AttestationError: the evidence is not genuine.
    """
    check_log, evidence, parts = at.check_log, parsed.raw, parsed.report
    report = report_below(parsed, check_log)
    genuine = snp.verify_genuine(report, anchors=anchors, collateral=collateral, at=at)  # (2)
    vmpl = report.report.vmpl
    check_log.begin(checks.PARAVISOR_LEVEL, str(vmpl), str(PARAVISOR_VMPL))
    if vmpl != PARAVISOR_VMPL:  # (3)
        raise AttestationError(
            AzureCode.PARAVISOR_LEVEL, f"the report was asked for at VMPL {vmpl}"
        )
    guest = require_vouched(parts, report.report.report_data, at)  # (4)
    claims = snp.claims_of(evidence, genuine)
    return GenuineAzureSnp(claims, guest, verify_guest_quote(guest, at), _MINT)  # (5) (6)


def verify_genuine_tdx(
    parsed: Parsed[Evidence, GuestParts],
    *,
    anchors: IntelAnchors,
    collateral: PreparedCollateral,
    at: AppraisalContext,
) -> GenuineAzureTdx:
    """Like ``verify_genuine_snp``, for a TD.

    Args:
        parsed: untrusted.
        anchors: Intel's pinned root; the one that ``collateral`` was prepared under.
        collateral: of the verifier's operator.
        at: the context of the appraisal.
    """
    check_log, evidence, parts = at.check_log, parsed.raw, parsed.report
    quote = td_quote_below(parsed, check_log)
    genuine = intel.verify_genuine(quote, anchors=anchors, collateral=collateral, at=at)  # (2)
    claims = tdx_claims_of(evidence, genuine, None)
    check_log.begin(checks.TD_REPORT)
    if isinstance(quote.report.body, TdReport):  # tdx_claims_of refuses any other
        body, local, signed = quote.report.body, parts.hcl.hardware_report, quote.report.signed
        at.cache.derived(  # (3)
            "azure td report",
            claims.report_data,
            (local, signed),
            lambda: require_same_td(local, body),
        )
    guest = require_vouched(parts, claims.report_data, at)  # (4)
    return GenuineAzureTdx(claims, guest, verify_guest_quote(guest, at), _MINT)  # (5) (6)


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


def snp_claims(genuine: GenuineAzureSnp) -> AzureSnpClaims:
    """Claims of unknown age: ``plugin`` keeps them unbound."""
    return AzureSnpClaims(
        evidence_digest=genuine.snp.evidence_digest,
        vm=genuine.guest.vm,
        vtpm=genuine.vtpm,
        snp=genuine.snp,
        mint=claims_format.MINT,
    )


def tdx_claims(genuine: GenuineAzureTdx) -> AzureTdxClaims:
    """Likewise, of a TD."""
    return AzureTdxClaims(
        evidence_digest=genuine.tdx.evidence_digest,
        vm=genuine.guest.vm,
        vtpm=genuine.vtpm,
        tdx=genuine.tdx,
        mint=claims_format.MINT,
    )
