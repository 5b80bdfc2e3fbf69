"""A simulated accelerator and a verifier that trusts it, wired together for tests."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from regalia_testing.accepted_evidence import BINDING, MEASUREMENT, RUNTIME_CONFIG
from regalia_testing.tees.accelerator.defects import HEALTHY

if TYPE_CHECKING:
    from regalia.wire.evidence import Evidence
    from regalia_testing.accepted_evidence import AcceptedEvidence
    from regalia_testing.tees.accelerator.simulator import AcceleratorSimulator


@dataclass(frozen=True, slots=True)
class AcceleratorTestbed:
    """Make evidence with chosen defects, and have it appraised."""

    platform: AcceleratorSimulator
    accepted: AcceptedEvidence

    def evidence(self, **defects: Any) -> Evidence:  # noqa: ANN401 - fields of the defects
        """Evidence of a chip that is healthy but for ``defects``."""
        return self.platform.evidence(
            BINDING.report_data(),
            measurement=MEASUREMENT,
            runtime_config=RUNTIME_CONFIG,
            defects=replace(HEALTHY, **defects),
        )

    def verify(self, evidence: Evidence) -> Any:  # noqa: ANN401 - AcceleratorClaims
        """Appraise. Raises as ``Sample.verify``."""
        return self.accepted.verify(evidence)
