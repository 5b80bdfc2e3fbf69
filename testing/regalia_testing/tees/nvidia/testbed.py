"""Simulated devices and a verifier that trusts them, wired together for tests."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from regalia.appraisal.pki import Cache
from regalia.tees.nvidia.claims import NvidiaClaims
from regalia.tees.nvidia.evidence import NvidiaAnchors, prepare
from regalia.tees.nvidia.evidence.plugin import GPU
from regalia.wire.evidence import DeviceEvidence
from regalia_testing.tees.nvidia.defects import HEALTHY_DEVICE
from regalia_testing.tees.nvidia.simulator import NvidiaSimulator
from regalia_testing.testbed import PlatformTestbed

if TYPE_CHECKING:
    from regalia.tees.nvidia.evidence import NvidiaCollateral
    from regalia_testing.tees.nvidia.simulator import SimulatedDevice

NONCE = hashlib.sha256(b"the expected device nonce").digest()


@dataclass(frozen=True)
class NvidiaTestbed(
    PlatformTestbed[NvidiaSimulator, DeviceEvidence, NvidiaClaims, NvidiaAnchors, Any]
):
    """Make evidence with chosen defects, and have it appraised."""

    PLUGIN = GPU
    HEALTHY = HEALTHY_DEVICE

    cache: Cache = field(default_factory=Cache)

    @property
    def machine(self) -> NvidiaSimulator:
        """All devices."""
        return self.platform

    @property
    def gpu(self) -> SimulatedDevice:
        """The first GPU."""
        return self.platform.gpus[0]

    def collateral_under(self, _anchors: NvidiaAnchors) -> Any:  # noqa: ANN401 - prepared
        """Reference values and key denials."""
        return prepare(self.platform.collateral())

    def evidence(self, device: SimulatedDevice | None = None, **defects: Any) -> DeviceEvidence:  # noqa: ANN401 - fields of NvidiaDefects
        """Evidence of a device that is healthy but for ``defects``; of the first GPU."""
        return self.platform.evidence_of(
            device or self.gpu, NONCE, replace(self.HEALTHY, **defects)
        )

    def verify(
        self,
        evidence: DeviceEvidence,
        *,
        collateral: NvidiaCollateral | None = None,
        nonce: bytes = NONCE,
        **given: Any,  # noqa: ANN401 - other arguments of ``verify``
    ) -> NvidiaClaims:
        """Appraise; whatever is not given is right. Raises RegaliaError."""
        prepared = None if collateral is None else prepare(collateral)
        return super().verify(evidence, collateral=prepared, report_data=nonce, **given)
