"""A simulated Azure VM and a verifier that trusts its hardware, wired together for tests."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from regalia.appraisal.appraisal_context import AppraisalContext
from regalia.appraisal.check_log import NO_LOG
from regalia.appraisal.collateral_rule import NO_GRACE, CollateralRule, RevocationRule
from regalia.appraisal.pki import Cache
from regalia.tees.azure.evidence.plugin import AZURE_SNP, AZURE_TDX
from regalia.tees.azure.evidence.wire import parse_azure
from regalia.tees.intel.evidence import prepare
from regalia.tees.intel.evidence.vendor import collateral_of
from regalia_testing.tees.azure.defects import HEALTHY
from regalia_testing.verify import verify_fresh

if TYPE_CHECKING:
    from datetime import datetime

    from regalia.appraisal.check_log import CheckLog
    from regalia.tees.azure.claims import AzureSnpClaims, AzureTdxClaims
    from regalia.wire.evidence import Evidence
    from regalia_testing.tees.azure.simulator import AzureSimulator

REPORT_DATA = hashlib.sha512(b"the expected report data").digest()
MEASUREMENT = hashlib.sha384(b"the expected paravisor").digest()
RUNTIME_CONFIG = b"the measured configuration"
REQUIRED = CollateralRule(RevocationRule.REQUIRED, NO_GRACE)


@dataclass(frozen=True, slots=True)
class AzureTestbed:
    """Make evidence with chosen defects, and have it appraised."""

    platform: AzureSimulator
    now: datetime
    cache: Cache = field(default_factory=Cache)

    def evidence(self, **defects: Any) -> Evidence:  # noqa: ANN401 - fields of AzureDefects
        """Evidence of a VM that is healthy but for ``defects``."""
        return self.platform.evidence(
            REPORT_DATA,
            measurement=MEASUREMENT,
            runtime_config=RUNTIME_CONFIG,
            defects=replace(HEALTHY, **defects),
        )

    def verify(
        self,
        evidence: Evidence,
        *,
        report_data: bytes = REPORT_DATA,
        now: datetime | None = None,
        check_log: CheckLog = NO_LOG,
    ) -> AzureSnpClaims | AzureTdxClaims:
        """Appraise; whatever is not given is right."""
        at = AppraisalContext(
            now=now or self.now, rule=REQUIRED, cache=self.cache, check_log=check_log
        )
        if self.platform.snp is not None:
            return verify_fresh(
                AZURE_SNP,
                evidence,
                anchors=self.platform.snp.anchors(),
                collateral=self.platform.snp.collateral(),
                report_data=report_data,
                at=at,
            )
        if self.platform.intel is None:
            raise TypeError("a VM runs on one kind of hardware")
        anchors = self.platform.intel.anchors()
        collateral = collateral_of(self.platform.intel.verifier().collateral)
        return verify_fresh(
            AZURE_TDX,
            evidence,
            anchors=anchors,
            collateral=prepare(collateral, anchors=anchors, cache=self.cache),
            report_data=report_data,
            at=at,
        )


def altered_document(evidence: Evidence, **parts: Any) -> Evidence:  # noqa: ANN401 - fields of a document
    """The same evidence with parts of its document replaced."""
    document = replace(parse_azure(evidence.report), **parts)
    return replace(evidence, report=document.encode())
