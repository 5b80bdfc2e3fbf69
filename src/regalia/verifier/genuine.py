"""Evidence by itself: is it genuine, whatever it is bound to? For looking at evidence.

A release and a client go through ``verifier.verifier``, where freshness is part of the walk.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from regalia.appraisal.check_log import NO_LOG
from regalia.appraisal.codes import AttestCode
from regalia.appraisal.unbound import Unbound
from regalia.core.errors import AttestationError
from regalia.tees.azure import evidence as azure
from regalia.tees.intel import evidence as intel
from regalia.tees.intel.evidence.verify import claims_of_tdx
from regalia.tees.nitro import evidence as nitro
from regalia.tees.nitro.evidence.verify import claims_of as claims_of_nitro
from regalia.tees.nvidia import evidence as nvidia
from regalia.tees.nvidia.evidence.verify import claims_of as claims_of_nvidia
from regalia.tees.snp import evidence as snp
from regalia.tees.snp.evidence.verify import claims_of as claims_of_snp
from regalia.tees.tpm import evidence as tpm
from regalia.tees.tpm.evidence.verify import claims_of as claims_of_tpm
from regalia.verifier.collateral import require_device_not_denied
from regalia.wire.evidence import Tee

if TYPE_CHECKING:
    from datetime import datetime

    from regalia.appraisal.appraisal_context import AppraisalContext
    from regalia.appraisal.check_log import CheckLog
    from regalia.appraisal.claims import Claims, DeviceClaims
    from regalia.appraisal.collateral_rule import CollateralRule
    from regalia.verifier.verifier import Verifier
    from regalia.wire.evidence import DeviceEvidence, Evidence


@dataclass(frozen=True, slots=True, kw_only=True)
class GenuineOnly:
    """A verifier that does not look at freshness, at one moment and under one rule.

    Attributes:
        verifier: whose anchors and collateral are used.
        rule: how fresh collateral must be.
        now: the moment of the appraisal, aware.
        check_log: records the checks.

    Raises:
        ValueError: ``now`` has no time zone (the caller's bug).
    """

    verifier: Verifier
    rule: CollateralRule
    now: datetime
    check_log: CheckLog = NO_LOG
    _at: AppraisalContext = field(init=False, repr=False)
    _of_devices: AppraisalContext = field(init=False, repr=False)

    def __post_init__(self) -> None:
        make, rule = self.verifier.appraisal_context, self.rule
        object.__setattr__(self, "_at", make(rule, self.now, self.check_log))
        object.__setattr__(self, "_of_devices", make(rule.for_devices(), self.now, self.check_log))

    def cpu(self, evidence: Evidence) -> Unbound[Claims]:
        """The CPU's evidence alone; devices that came along are not looked at.

        Raises:
            ParseError: evidence or collateral is malformed.
            AttestationError: it is not genuine.
        """
        self.verifier.require_admissible(evidence, self._at)
        claims = self.verifier.apply_deny_lists(self._cpu(evidence), self._at)
        return Unbound(claims, claims.report_data)

    def device(self, evidence: DeviceEvidence) -> Unbound[DeviceClaims]:
        """One device's evidence alone. Raises as ``cpu``."""
        anchors, given = self.verifier.anchors.nvidia, self.verifier.collateral
        if anchors is None:
            raise _untrusted(evidence.kind)
        given.require_fresh(self.now, self.rule.grace)
        found = nvidia.verify_genuine(
            evidence,
            anchors=anchors,
            collateral=self.verifier.nvidia,
            at=self._of_devices,
        )
        claims = claims_of_nvidia(evidence, found)
        require_device_not_denied(claims, given.denied)
        return Unbound(claims, claims.nonce)

    def _cpu(self, evidence: Evidence) -> Claims:  # noqa: PLR0911 - one for each kind
        anchors, given, at = self.verifier.anchors, self.verifier.collateral, self._at
        match evidence.tee:
            case Tee.SEV_SNP if anchors.snp is not None:
                report = snp.verify_genuine(
                    evidence, anchors=anchors.snp, collateral=given.snp(evidence.report), at=at
                )
                return claims_of_snp(evidence, report)
            case Tee.TDX | Tee.SGX if anchors.intel is not None:
                quote = intel.verify_genuine(
                    evidence,
                    anchors=anchors.intel,
                    collateral=self.verifier.intel(anchors.intel),
                    at=at,
                )
                if evidence.tee is Tee.TDX:
                    return claims_of_tdx(evidence, quote, at)
                return intel.sgx_claims(evidence, quote)
            case Tee.NITRO if anchors.nitro is not None:
                document = nitro.verify_genuine(
                    evidence, anchors=anchors.nitro, collateral=given.nitro, at=at
                )
                return claims_of_nitro(evidence, document, document.document.nonce or b"")
            case Tee.AZURE_SNP if anchors.snp is not None:
                snp_guest = azure.verify_genuine_snp(
                    evidence,
                    anchors=anchors.snp,
                    collateral=given.snp(azure.snp_report_within(evidence)),
                    at=at,
                )
                return azure.snp_claims(evidence, snp_guest)
            case Tee.AZURE_TDX if anchors.intel is not None:
                tdx_guest = azure.verify_genuine_tdx(
                    evidence,
                    anchors=anchors.intel,
                    collateral=self.verifier.intel(anchors.intel),
                    at=at,
                )
                return azure.tdx_claims(evidence, tdx_guest)
            case Tee.TPM if anchors.tpm is not None:
                found = tpm.verify_genuine(
                    evidence, anchors=anchors.tpm, collateral=self.verifier.tpm, at=at
                )
                return claims_of_tpm(evidence, found)
            case _:
                raise _untrusted(evidence.tee)


def _untrusted(kind: str) -> AttestationError:
    return AttestationError(AttestCode.ROOT_UNTRUSTED, f"no root is pinned for {kind}")
