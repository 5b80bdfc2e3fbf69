"""A simulated Intel platform and a verifier that trusts it, wired together for tests."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from regalia.appraisal.pki import Cache
from regalia.tees.intel.claims import SgxClaims, TdxClaims
from regalia.tees.intel.evidence import IntelAnchors, PreparedCollateral, prepare
from regalia.tees.intel.evidence.plugin import SGX, TDX
from regalia.tees.intel.evidence.vendor import collateral_of
from regalia.verifier.collateral import parse_collateral
from regalia.wire.evidence import Evidence, Tee
from regalia_testing.tees.intel.defects import IntelDefects
from regalia_testing.tees.intel.simulator import IntelSimulator
from regalia_testing.testbed import MEASUREMENT, REPORT_DATA, RUNTIME_CONFIG, PlatformTestbed

if TYPE_CHECKING:
    from collections.abc import Callable

    from regalia.appraisal.evidence_plugin import EvidencePlugin
    from regalia.tees.intel.evidence import IntelCollateral

    Plugin = EvidencePlugin[Any, Any, Any, IntelAnchors, PreparedCollateral]

SGX_VERSION = 3
Claims = TdxClaims | SgxClaims


@dataclass(frozen=True)
class IntelTestbed(
    PlatformTestbed[IntelSimulator, Evidence, Claims, IntelAnchors, PreparedCollateral]
):
    """Makes evidence and verifies it; every argument left out is right."""

    PLUGIN = TDX
    HEALTHY = IntelDefects()

    files: dict[str, bytes] = field(default_factory=dict)  # collateral; empty: the platform's

    def plugin(self, evidence: Evidence) -> Plugin:
        """Of the evidence's kind."""
        return self.PLUGIN if evidence.tee is Tee.TDX else SGX

    def collateral_under(self, anchors: IntelAnchors) -> PreparedCollateral:
        """The files, verified. Raises RegaliaError."""
        return prepare(self.raw(), anchors=anchors, cache=self.cache or Cache())

    def defects(self, tee: Tee = Tee.TDX, **defects: object) -> IntelDefects:
        """Healthy but for these."""
        chosen: dict[str, object] = {"version": SGX_VERSION} if tee is Tee.SGX else {}
        return IntelDefects(**{**chosen, **defects})  # type: ignore[arg-type]  # tests name defects

    def evidence(self, tee: Tee = Tee.TDX, **defects: object) -> Evidence:
        """Evidence of a platform with these defects."""
        make = self.platform.tdx_evidence if tee is Tee.TDX else self.platform.sgx_evidence
        return make(
            REPORT_DATA,
            measurement=MEASUREMENT,
            runtime_config=RUNTIME_CONFIG,
            defects=self.defects(tee, **defects),
        )

    def with_file(self, name: str, data: bytes | None) -> IntelTestbed:
        """Collateral with one file more, other, or (None) not there."""
        files = dict(self._files())
        files.pop(name, None)
        if data is not None:
            files[name] = data
        return replace(self, files=files)

    def warm(self) -> IntelTestbed:
        """One that keeps its cache, for many mutants of evidence."""
        return replace(self, cache=Cache())

    def verify_with(self, name: str, evidence: Evidence) -> Callable[[bytes], Claims]:
        """A verification of ``evidence`` for many mutants of one collateral file.

        What the other files hold is parsed and verified once.
        """
        warm = self.warm()
        files = {each: data for each, data in self._files().items() if each != name}
        others = parse_collateral(files)

        def verify(altered: bytes) -> Claims:
            raw = collateral_of(others.with_loose(parse_collateral({name: altered})))
            collateral = prepare(raw, anchors=warm.anchors, cache=warm.cache or Cache())
            return warm.verify(evidence, collateral=collateral)

        return verify

    def raw(self) -> IntelCollateral:
        """The collateral, not verified."""
        return collateral_of(parse_collateral(self._files()))

    def _files(self) -> dict[str, bytes]:
        return self.files or self.platform.files()
