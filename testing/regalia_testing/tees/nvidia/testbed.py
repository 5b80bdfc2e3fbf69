"""Simulated devices and a verifier that trusts them, wired together for tests."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from regalia.appraisal.appraisal_context import AppraisalContext
from regalia.appraisal.collateral_rule import CollateralRule, RevocationRule
from regalia.appraisal.pki import Cache
from regalia.tees.nvidia.evidence import prepare
from regalia.tees.nvidia.evidence.plugin import GPU
from regalia_testing.tees.nvidia.defects import HEALTHY_DEVICE
from regalia_testing.verify import verify_fresh

if TYPE_CHECKING:
    from datetime import datetime

    from regalia.tees.nvidia.claims import NvidiaClaims
    from regalia.tees.nvidia.evidence import NvidiaAnchors, NvidiaCollateral
    from regalia.wire.evidence import DeviceEvidence
    from regalia_testing.tees.nvidia.simulator import NvidiaSimulator, SimulatedDevice

NONCE = hashlib.sha256(b"the expected device nonce").digest()
STRICT = CollateralRule(RevocationRule.REQUIRED, timedelta(0))
LENIENT = CollateralRule(RevocationRule.ANY, timedelta(0))


@dataclass(frozen=True, slots=True)
class NvidiaTestbed:
    """Make evidence with chosen defects, and have it appraised."""

    machine: NvidiaSimulator
    now: datetime
    cache: Cache = field(default_factory=Cache)

    @property
    def gpu(self) -> SimulatedDevice:
        """The first GPU."""
        return self.machine.gpus[0]

    def evidence(self, device: SimulatedDevice | None = None, **defects: Any) -> DeviceEvidence:  # noqa: ANN401 - fields of NvidiaDefects
        """Evidence of a device that is healthy but for ``defects``; of the first GPU."""
        return self.machine.evidence_of(
            device or self.gpu, NONCE, replace(HEALTHY_DEVICE, **defects)
        )

    def verify(  # noqa: PLR0913 - whatever a test has different
        self,
        evidence: DeviceEvidence,
        *,
        anchors: NvidiaAnchors | None = None,
        collateral: NvidiaCollateral | None = None,
        rule: CollateralRule = STRICT,
        nonce: bytes = NONCE,
        now: datetime | None = None,
    ) -> NvidiaClaims:
        """Appraise; whatever is not given is right."""
        return verify_fresh(
            GPU,
            evidence,
            anchors=anchors or self.machine.anchors(),
            collateral=prepare(collateral or self.machine.collateral()),
            report_data=nonce,
            at=AppraisalContext(now=now or self.now, rule=rule, cache=self.cache),
        )
