"""From evidence of any TEE to claims: chooses the verifier, and holds what it needs.

Evidence + Binding -> Claims (of the CPU's TEE, with those of every device)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from regalia.appraisal.appraisal_context import AppraisalContext
from regalia.appraisal.check_log import NO_LOG
from regalia.appraisal.codes import AttestCode
from regalia.appraisal.pki import Cache
from regalia.core.clock import rfc3339
from regalia.core.errors import AttestationError
from regalia.tees.azure.evidence import snp_report_within, verify_azure_snp, verify_azure_tdx
from regalia.tees.intel.evidence import Preparer, verify_sgx, verify_tdx
from regalia.tees.nitro.evidence import verify_nitro
from regalia.tees.nvidia.evidence import prepare, verify_nvidia
from regalia.tees.snp.evidence import verify_snp
from regalia.tees.tpm.evidence.verify import verify_tpm
from regalia.verifier.collateral import (
    Freshness,
    checks,
    mark_grace,
    require_certificates_not_denied,
    require_not_denied,
)
from regalia.verifier.composite import verify_composite
from regalia.wire.evidence import DeviceKind, Tee

if TYPE_CHECKING:
    from datetime import datetime

    from regalia.appraisal.check_log import CheckLog
    from regalia.appraisal.claims import Claims, DeviceClaims
    from regalia.appraisal.collateral_rule import CollateralRule
    from regalia.tees.intel.evidence import IntelAnchors
    from regalia.tees.intel.evidence.verified_collateral import PreparedCollateral as PreparedIntel
    from regalia.tees.nvidia.evidence import PreparedNvidia
    from regalia.tees.tpm.evidence.anchors import PreparedCollateral as PreparedTpm
    from regalia.verifier.anchors import TrustAnchors
    from regalia.verifier.collateral import CollateralSet
    from regalia.wire.evidence import Binding, DeviceEvidence, Evidence


@dataclass(frozen=True, slots=True)
class Verifier:
    """A relying party's verifier: the same anchors and collateral for all evidence.

    Attributes:
        anchors: pinned roots.
        collateral: what the operator provides.
        cache: authorities that were parsed and whose signatures held.
        nvidia, tpm: their collateral, prepared.

    Raises:
        ParseError: devices' or TPMs' collateral is malformed.
    """

    anchors: TrustAnchors
    collateral: CollateralSet
    cache: Cache = field(default_factory=Cache)
    nvidia: PreparedNvidia = field(init=False)
    tpm: PreparedTpm = field(init=False)
    _intel: Preparer = field(default_factory=Preparer)

    def __post_init__(self) -> None:
        object.__setattr__(self, "nvidia", prepare(self.collateral.nvidia))
        object.__setattr__(self, "tpm", self.collateral.tpm.prepare())

    def intel(self, anchors: IntelAnchors) -> PreparedIntel:
        """Intel's collateral, verified once for each content."""
        return self._intel.get(self.collateral.intel, anchors=anchors, cache=self.cache)

    def appraisal_context(
        self, rule: CollateralRule, now: datetime, check_log: CheckLog
    ) -> AppraisalContext:
        """Those of one appraisal, which finds what this verifier found before.

        Raises:
            ValueError: ``now`` has no time zone (the caller's bug).
        """
        return AppraisalContext(now=now, rule=rule, cache=self.cache, check_log=check_log)

    def verify(
        self,
        evidence: Evidence,
        *,
        expected: Binding,
        rule: CollateralRule,
        now: datetime,
        check_log: CheckLog = NO_LOG,
    ) -> Claims:
        """Genuine, fresh, and made for exactly this purpose, devices included?

        Args:
            evidence: raw, untrusted.
            expected: what the report data must commit to. Its ``device_evidence`` is computed
                here from the devices that came along.
            rule: what the policy demands of collateral.
            now: the moment of the appraisal, aware.
            check_log: records the checks.

        Raises:
            ParseError: evidence or collateral is malformed.
            AttestationError: it is not genuine, or not for this purpose.
            ValueError: ``now`` has no time zone (the caller's bug).
        """
        at = self.appraisal_context(rule, now, check_log)
        # Once for all devices, and not at all for a machine that has none.
        of_devices = (
            self.appraisal_context(rule.for_devices(), now, check_log) if evidence.devices else at
        )

        def cpu(evidence: Evidence, report_data: bytes) -> Claims:
            return self._cpu(evidence, report_data, at)

        def device(evidence: DeviceEvidence, nonce: bytes) -> DeviceClaims:
            return self._device(evidence, nonce, of_devices)

        claims = verify_composite(
            evidence, binding=expected, verify_cpu=cpu, verify_device=device, check_log=check_log
        )
        # ``_cpu`` has already applied the deny lists to the CPU's claims.
        return self.apply_deny_lists(claims, at) if claims.devices else claims

    def verify_cpu(
        self,
        evidence: Evidence,
        *,
        report_data: bytes,
        rule: CollateralRule,
        now: datetime,
        check_log: CheckLog = NO_LOG,
    ) -> Claims:
        """The CPU's evidence alone, against a given report data. Raises as ``verify``."""
        return self._cpu(evidence, report_data, self.appraisal_context(rule, now, check_log))

    def verify_device(
        self,
        evidence: DeviceEvidence,
        *,
        nonce: bytes,
        rule: CollateralRule,
        now: datetime,
        check_log: CheckLog = NO_LOG,
    ) -> DeviceClaims:
        """One device's evidence, against a given nonce. Raises as ``verify``.

        Of the rule only its grace counts: ``CollateralRule.for_devices`` says why.
        """
        return self._device(
            evidence, nonce, self.appraisal_context(rule.for_devices(), now, check_log)
        )

    def require_admissible(self, evidence: Evidence, at: AppraisalContext) -> None:
        """What comes before every vendor's checks: the bundle is in date, no certificate denied.

        Raises:
            ParseError: a certificate is malformed.
            AttestationError: COLLATERAL_STALE or DEVICE_DENIED.
        """
        given = self.collateral
        if given.validity is not None:
            at.check_log.begin(checks.BUNDLE, rfc3339(at.now), str(given.validity))
        given.require_fresh(at.now, at.rule.grace)
        if given.denied:
            at.check_log.begin(checks.CERTIFICATES)
        require_certificates_not_denied(evidence, given.denied, given.certificates)

    def apply_deny_lists(self, claims: Claims, at: AppraisalContext) -> Claims:
        """What the site's own deny-lists and the age of its bundle add to a vendor's verdict.

        Raises:
            AttestationError: COLLATERAL_STALE or DEVICE_DENIED.
        """
        if self.collateral.denied:
            at.check_log.begin(checks.DEVICES, claims.instance.hex())
        require_not_denied(claims, self.collateral.denied)
        late = self.collateral.require_fresh(at.now, at.rule.grace) is Freshness.GRACE
        return mark_grace(claims) if late else claims

    def _cpu(self, evidence: Evidence, report_data: bytes, at: AppraisalContext) -> Claims:
        self.require_admissible(evidence, at)
        return self.apply_deny_lists(self._by_vendor(evidence, report_data, at), at)

    def _by_vendor(self, evidence: Evidence, report_data: bytes, at: AppraisalContext) -> Claims:
        # Each arm gives the vendor's verifier its part of the anchors and of the collateral.
        anchors, given = self.anchors, self.collateral
        match evidence.tee:
            case Tee.SEV_SNP if anchors.snp is not None:
                return verify_snp(
                    evidence,
                    anchors=anchors.snp,
                    collateral=given.snp(evidence.report),
                    report_data=report_data,
                    at=at,
                )
            case Tee.TDX | Tee.SGX if anchors.intel is not None:
                verify = verify_tdx if evidence.tee is Tee.TDX else verify_sgx
                return verify(
                    evidence,
                    anchors=anchors.intel,
                    collateral=self.intel(anchors.intel),
                    report_data=report_data,
                    at=at,
                )
            case Tee.NITRO if anchors.nitro is not None:
                return verify_nitro(
                    evidence,
                    anchors=anchors.nitro,
                    collateral=given.nitro,
                    report_data=report_data,
                    at=at,
                )
            case Tee.AZURE_SNP if anchors.snp is not None:
                return verify_azure_snp(
                    evidence,
                    anchors=anchors.snp,
                    collateral=given.snp(self._hint(evidence)),
                    report_data=report_data,
                    at=at,
                )
            case Tee.AZURE_TDX if anchors.intel is not None:
                return verify_azure_tdx(
                    evidence,
                    anchors=anchors.intel,
                    collateral=self.intel(anchors.intel),
                    report_data=report_data,
                    at=at,
                )
            case Tee.TPM if anchors.tpm is not None:
                return verify_tpm(
                    evidence,
                    anchors=anchors.tpm,
                    collateral=self.tpm,
                    report_data=report_data,
                    at=at,
                )
            case _:
                raise AttestationError(
                    AttestCode.ROOT_UNTRUSTED, f"no root is pinned for {evidence.tee}"
                )

    def _hint(self, evidence: Evidence) -> bytes:
        """Parsed twice, so only where there is a VCEK to choose."""
        return snp_report_within(evidence) if self.collateral.vceks else b""

    def _device(self, evidence: DeviceEvidence, nonce: bytes, at: AppraisalContext) -> DeviceClaims:
        match evidence.kind:
            case DeviceKind.NVIDIA_GPU | DeviceKind.NVIDIA_SWITCH if self.anchors.nvidia:
                return verify_nvidia(
                    evidence,
                    anchors=self.anchors.nvidia,
                    collateral=self.nvidia,
                    nonce=nonce,
                    at=at,
                )
            case _:
                raise AttestationError(
                    AttestCode.ROOT_UNTRUSTED, f"no root is pinned for {evidence.kind}"
                )
