"""Azure confidential VM appraisal, *is it genuine and fresh?* Spec: docs/spec/azure-appraisal.md.

 (1) Document and HCL report parse, and are of the kind that the envelope names.
 (2) The hardware's report is genuine: checks 1 to 7 of SEV-SNP, or 1 to 12 of TDX.
 (3) SNP: it was asked for at VMPL 0. TDX: the quote and the TD report in the HCL report agree.
 (4) Its report data is the SHA-256 of the runtime data, and zeros; the runtime data parses, and
     its AK is the paravisor's.
 (5) The AK quoted all 24 registers of the SHA-256 bank: checks 1 to 3, 5 and 6 of TPM quotes.
 (6) extraData is the SHA-256 of the report data that the caller expects.
 (7) An event log that came along leads to the registers of the boot, as for a TPM.

The hardware's report is as old as the boot; only the vTPM's quote is fresh. Whoever is measured
by the report is the paravisor, so its measurement must be in the policy's reference set, and it
is left to ``regalia.policy`` with everything that the hardware's and the TPM's verifiers leave.
"""

from __future__ import annotations

from dataclasses import InitVar, dataclass, fields
from typing import TYPE_CHECKING

from regalia.appraisal import claims as claims_format
from regalia.core.errors import AttestationError, CoreCode, ParseError
from regalia.tees.azure.claims import AzureSnpClaims, AzureTdxClaims
from regalia.tees.azure.evidence import checks
from regalia.tees.azure.evidence.codes import AzureCode
from regalia.tees.azure.evidence.guest import (
    parse_parts,
    require_vouched,
    verify_any_quote,
    verify_fresh_quote,
)
from regalia.tees.azure.evidence.hcl import ReportType
from regalia.tees.intel.evidence.bodies import TdReport
from regalia.tees.intel.evidence.claims_of import tdx_claims as claims_of_td
from regalia.tees.intel.evidence.td_report import (
    TD_REPORT_SIZE,
    LocalTdReport,
    parse_local_td_report,
)
from regalia.tees.intel.evidence.verify import verify_genuine as verify_genuine_quote
from regalia.tees.snp.evidence.verify import claims_of as claims_of_report
from regalia.tees.snp.evidence.verify import verify_genuine as verify_genuine_report
from regalia.tees.tpm.evidence.quote import require_chosen
from regalia.wire.evidence import REPORT_DATA_SIZE, Evidence, Tee

if TYPE_CHECKING:
    from regalia.appraisal.appraisal_context import AppraisalContext
    from regalia.tees.azure.claims import AzureVtpm
    from regalia.tees.azure.evidence.guest import GuestParts, VouchedGuest
    from regalia.tees.intel.claims import TdxClaims
    from regalia.tees.intel.evidence.anchors import IntelAnchors
    from regalia.tees.intel.evidence.verified_collateral import PreparedCollateral
    from regalia.tees.intel.evidence.verify import GenuineQuote
    from regalia.tees.snp.claims import SnpClaims
    from regalia.tees.snp.evidence import SnpAnchors, SnpCollateral
    from regalia.tees.snp.evidence.verify import GenuineReport

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


def verify_azure_snp(
    evidence: Evidence,
    *,
    anchors: SnpAnchors,
    collateral: SnpCollateral,
    report_data: bytes,
    at: AppraisalContext,
) -> AzureSnpClaims:
    """Turn raw evidence into claims, or refuse at the first check that fails.

    Args:
        evidence: raw, untrusted; its report is a ``regalia/azure-cvm/v1`` document.
        anchors: AMD's pinned roots.
        collateral: certificates and revocation lists of the verifier's operator.
        report_data: what the vTPM must have quoted the SHA-256 of; ``Binding.report_data()``.
        at: the context of the appraisal.

    Raises:
        ParseError: evidence or collateral is malformed.
        AttestationError: the evidence is not genuine, or not for this ``report_data``.
        ValueError: ``report_data`` has another size (the caller's bug).
    """
    _require_usable(report_data)
    snp, guest = _snp(evidence, anchors=anchors, collateral=collateral, at=at)
    vtpm = verify_fresh_quote(guest, report_data, at)  # (5) (6) (7)
    return snp_claims(evidence, GenuineAzureSnp(snp, guest, vtpm, _MINT))


def verify_genuine_snp(
    evidence: Evidence, *, anchors: SnpAnchors, collateral: SnpCollateral, at: AppraisalContext
) -> GenuineAzureSnp:
    """All checks but 6: a replay passes. Raises as ``verify_azure_snp``."""
    snp, guest = _snp(evidence, anchors=anchors, collateral=collateral, at=at)
    return GenuineAzureSnp(snp, guest, verify_any_quote(guest, at), _MINT)


def _snp(
    evidence: Evidence, *, anchors: SnpAnchors, collateral: SnpCollateral, at: AppraisalContext
) -> tuple[SnpClaims, VouchedGuest]:
    """Checks 1 to 4."""
    check_log = at.check_log
    parts = parse_parts(
        evidence, tee=Tee.AZURE_SNP, report_type=ReportType.SNP, check_log=check_log
    )
    if parts.document.td_quote:
        raise ParseError(CoreCode.MALFORMED, "a TD quote beside an SNP report")
    below = Evidence(Tee.SEV_SNP, parts.hcl.hardware_report, evidence.endorsements, b"")
    genuine: GenuineReport = verify_genuine_report(  # (2)
        below, anchors=anchors, collateral=collateral, at=at
    )
    vmpl = genuine.report.vmpl
    check_log.begin(checks.PARAVISOR_LEVEL, str(vmpl), str(PARAVISOR_VMPL))
    if vmpl != PARAVISOR_VMPL:  # (3)
        raise AttestationError(
            AzureCode.PARAVISOR_LEVEL, f"the report was asked for at VMPL {vmpl}"
        )
    guest = require_vouched(parts, genuine.report.report_data, at)  # (4)
    return claims_of_report(evidence, genuine), guest


def verify_azure_tdx(
    evidence: Evidence,
    *,
    anchors: IntelAnchors,
    collateral: PreparedCollateral,
    report_data: bytes,
    at: AppraisalContext,
) -> AzureTdxClaims:
    """Like ``verify_azure_snp``, for a TD.

    Args:
        evidence: raw, untrusted; its report is a ``regalia/azure-cvm/v1`` document.
        anchors: Intel's pinned root; the one that ``collateral`` was prepared under.
        collateral: of the verifier's operator.
        report_data: what the vTPM must have quoted the SHA-256 of; ``Binding.report_data()``.
        at: the context of the appraisal.
    """
    _require_usable(report_data)
    tdx, guest = _tdx(evidence, anchors=anchors, collateral=collateral, at=at)
    vtpm = verify_fresh_quote(guest, report_data, at)  # (5) (6) (7)
    return tdx_claims(evidence, GenuineAzureTdx(tdx, guest, vtpm, _MINT))


def verify_genuine_tdx(
    evidence: Evidence,
    *,
    anchors: IntelAnchors,
    collateral: PreparedCollateral,
    at: AppraisalContext,
) -> GenuineAzureTdx:
    """All checks but 6: a replay passes. Raises as ``verify_azure_tdx``."""
    tdx, guest = _tdx(evidence, anchors=anchors, collateral=collateral, at=at)
    return GenuineAzureTdx(tdx, guest, verify_any_quote(guest, at), _MINT)


def _tdx(
    evidence: Evidence,
    *,
    anchors: IntelAnchors,
    collateral: PreparedCollateral,
    at: AppraisalContext,
) -> tuple[TdxClaims, VouchedGuest]:
    """Checks 1 to 4."""
    check_log = at.check_log
    parts = parse_parts(
        evidence, tee=Tee.AZURE_TDX, report_type=ReportType.TDX, check_log=check_log
    )
    if evidence.endorsements:
        raise ParseError(CoreCode.MALFORMED, "endorsements beside a TD quote, which has its own")
    below = Evidence(Tee.TDX, parts.document.td_quote, (), b"")
    genuine: GenuineQuote = verify_genuine_quote(  # (2)
        below, anchors=anchors, collateral=collateral, at=at
    )
    claims = claims_of_td(evidence, genuine, None)
    check_log.begin(checks.TD_REPORT)
    if isinstance(genuine.quote.body, TdReport):  # claims_of_td refuses any other
        require_same_td(parts, genuine.quote.body)  # (3)
    return claims, require_vouched(parts, claims.report_data, at)  # (4)


def require_same_td(parts: GuestParts, quoted: TdReport) -> None:
    """(3) Every field that both have. Of the TD report only CPUSVN and MAC stay unseen.

    Raises:
        ParseError: the TD report is malformed.
        AttestationError: TD_REPORT_MISMATCH.
    """
    raw = parts.hcl.hardware_report
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


def snp_claims(evidence: Evidence, genuine: GenuineAzureSnp) -> AzureSnpClaims:
    """Claims without check 6: of unknown age. ``appraisal.unbound`` wraps them."""
    return AzureSnpClaims(
        evidence_digest=evidence.digest(),
        vm=genuine.guest.vm,
        vtpm=genuine.vtpm,
        snp=genuine.snp,
        mint=claims_format.MINT,
    )


def tdx_claims(evidence: Evidence, genuine: GenuineAzureTdx) -> AzureTdxClaims:
    """Likewise, of a TD."""
    return AzureTdxClaims(
        evidence_digest=evidence.digest(),
        vm=genuine.guest.vm,
        vtpm=genuine.vtpm,
        tdx=genuine.tdx,
        mint=claims_format.MINT,
    )


def _require_usable(report_data: bytes) -> None:
    if len(report_data) != REPORT_DATA_SIZE:
        raise ValueError(f"expected report data has {len(report_data)} bytes, want 64")
    require_chosen(report_data)
