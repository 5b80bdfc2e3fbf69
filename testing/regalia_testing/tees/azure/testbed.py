"""A simulated Azure VM and a verifier that trusts its hardware, wired together for tests."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from regalia.appraisal.pki import Cache
from regalia.tees.azure.claims import AzureSnpClaims, AzureTdxClaims
from regalia.tees.azure.evidence.plugin import AZURE_SNP, AZURE_TDX
from regalia.tees.azure.evidence.wire import parse_azure
from regalia.tees.intel.evidence import prepare
from regalia.tees.intel.evidence.vendor import collateral_of
from regalia.wire.evidence import Evidence
from regalia_testing.tees.azure.defects import HEALTHY
from regalia_testing.tees.azure.simulator import AzureSimulator
from regalia_testing.testbed import PlatformTestbed

if TYPE_CHECKING:
    from regalia.appraisal.evidence_plugin import EvidencePlugin

    Plugin = EvidencePlugin[Any, Any, Any, Any, Any]


@dataclass(frozen=True)
class AzureTestbed(
    PlatformTestbed[AzureSimulator, Evidence, AzureSnpClaims | AzureTdxClaims, Any, Any]
):
    """Make evidence with chosen defects, and have it appraised."""

    PLUGIN = AZURE_SNP
    HEALTHY = HEALTHY

    cache: Cache = field(default_factory=Cache)

    def plugin(self, _evidence: Evidence) -> Plugin:
        """Of the VM's hardware."""
        return AZURE_TDX if self.platform.snp is None else self.PLUGIN

    def collateral_under(self, anchors: Any) -> Any:  # noqa: ANN401 - the hardware's
        """The hardware's."""
        if self.platform.snp is not None:
            return self.platform.snp.collateral()
        raw = collateral_of(self.platform.verifier().collateral)
        return prepare(raw, anchors=anchors, cache=self.cache)


def altered_document(evidence: Evidence, **parts: Any) -> Evidence:  # noqa: ANN401 - fields of a document
    """The same evidence with parts of its document replaced."""
    document = replace(parse_azure(evidence.report), **parts)
    return replace(evidence, report=document.encode())
