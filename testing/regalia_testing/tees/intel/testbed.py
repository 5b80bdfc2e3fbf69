"""A simulated Intel platform and a verifier that trusts it, wired together for tests."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from regalia.appraisal.appraisal_context import AppraisalContext
from regalia.appraisal.check_log import NO_LOG
from regalia.appraisal.collateral_rule import NO_GRACE, CollateralRule, RevocationRule
from regalia.appraisal.pki import Cache
from regalia.tees.intel.evidence import prepare
from regalia.tees.intel.evidence.plugin import SGX, TDX
from regalia.tees.intel.evidence.vendor import collateral_of
from regalia.verifier.collateral import parse_collateral
from regalia.wire.evidence import Tee
from regalia_testing.tees.intel.defects import IntelDefects
from regalia_testing.verify import verify_fresh

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from regalia.appraisal.check_log import CheckLog
    from regalia.appraisal.evidence_plugin import EvidencePlugin
    from regalia.tees.intel.claims import SgxClaims, TdxClaims
    from regalia.tees.intel.evidence import IntelAnchors, IntelCollateral, PreparedCollateral
    from regalia.tees.intel.evidence.wire import QuoteParts
    from regalia.wire.evidence import Evidence
    from regalia_testing.tees.intel.simulator import IntelSimulator

REPORT_DATA = bytes(range(64))
MEASUREMENT = b"\x3d" * 48
RUNTIME_CONFIG = b'{"format":"test"}'
REQUIRED = CollateralRule(RevocationRule.REQUIRED, NO_GRACE)
SGX_VERSION = 3


@dataclass(frozen=True, slots=True)
class IntelTestbed:
    """Makes evidence and verifies it; every argument left out is right."""

    platform: IntelSimulator
    now: datetime
    files: dict[str, bytes] = field(default_factory=dict)  # collateral; empty: the platform's

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
        files = dict(self.files or self.platform.files())
        files.pop(name, None)
        if data is not None:
            files[name] = data
        return replace(self, files=files)

    def with_prepared(self) -> Callable[[Evidence], TdxClaims | SgxClaims]:
        """A verification with warm collateral, for many mutants."""
        cache = Cache()
        anchors = self.platform.anchors()
        collateral = prepare(self.raw(), anchors=anchors, cache=cache)
        at = AppraisalContext(now=self.now, rule=REQUIRED, cache=cache)

        def verify(evidence: Evidence) -> TdxClaims | SgxClaims:
            claims: TdxClaims | SgxClaims = verify_fresh(
                _plugin(evidence),
                evidence,
                anchors=anchors,
                collateral=collateral,
                report_data=REPORT_DATA,
                at=at,
            )
            return claims

        return verify

    def raw(self) -> IntelCollateral:
        """The collateral, not verified."""
        return collateral_of(parse_collateral(self.files or self.platform.files()))

    def verify(  # noqa: PLR0913 - each is one thing to get wrong
        self,
        evidence: Evidence,
        *,
        anchors: IntelAnchors | None = None,
        rule: CollateralRule = REQUIRED,
        report_data: bytes = REPORT_DATA,
        now: datetime | None = None,
        check_log: CheckLog = NO_LOG,
    ) -> TdxClaims | SgxClaims:
        """Claims, or a refusal."""
        cache = Cache()
        chosen = anchors or self.platform.anchors()
        collateral = prepare(self.raw(), anchors=chosen, cache=cache)
        claims: TdxClaims | SgxClaims = verify_fresh(
            _plugin(evidence),
            evidence,
            anchors=chosen,
            collateral=collateral,
            report_data=report_data,
            at=AppraisalContext(now=now or self.now, rule=rule, cache=cache, check_log=check_log),
        )
        return claims


def _plugin(
    evidence: Evidence,
) -> EvidencePlugin[Evidence, QuoteParts, Any, IntelAnchors, PreparedCollateral]:
    return TDX if evidence.tee is Tee.TDX else SGX
