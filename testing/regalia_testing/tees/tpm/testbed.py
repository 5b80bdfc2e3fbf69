"""A simulated TPM and a verifier that knows it, wired together for tests."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from regalia.appraisal.appraisal_context import AppraisalContext
from regalia.appraisal.check_log import NO_LOG
from regalia.appraisal.pki import Cache
from regalia.core.errors import RegaliaError
from regalia.tees.tpm.evidence import TpmAnchors, TpmCollateral
from regalia.tees.tpm.evidence.plugin import TPM
from regalia_testing.tees.tpm.authority import TpmAuthority
from regalia_testing.tees.tpm.simulator import REPORT_DATA, TpmSimulator
from regalia_testing.testbed import REQUIRED
from regalia_testing.verify import verify_fresh

if TYPE_CHECKING:
    from datetime import datetime

    from regalia.appraisal.check_log import CheckLog
    from regalia.appraisal.collateral_rule import CollateralRule
    from regalia.tees.tpm.claims import TpmClaims
    from regalia.tees.tpm.evidence import PreparedCollateral
    from regalia.wire.evidence import Evidence


@dataclass(frozen=True)
class TpmTestbed:
    """Evidence, collateral and expectations that fit; ``dataclasses.replace`` breaks one."""

    tpm: TpmSimulator
    evidence: Evidence
    collateral: TpmCollateral
    now: datetime
    anchors: TpmAnchors
    rule: CollateralRule = REQUIRED
    report_data: bytes = REPORT_DATA

    @classmethod
    def create(cls, *, now: datetime, tpm: TpmSimulator | None = None) -> TpmTestbed:
        """An enrolled TPM, with revocation lists in date."""
        known = tpm or TpmSimulator.create(TpmAuthority.create(now=now))
        collateral = TpmCollateral(
            ek_roots=(known.authority.root(),),
            crls=known.authority.crls(),
            enrolments=(known.enrolment(now).encode(),),
        )
        evidence = known.evidence(REPORT_DATA)
        return cls(known, evidence, collateral, now, TpmAnchors.production())

    def enrolled(self, **changes: Any) -> TpmTestbed:  # noqa: ANN401 - fields of the enrolment
        """With another enrolment."""
        enrolment = replace(self.tpm.enrolment(self.now), **changes)
        return replace(self, collateral=replace(self.collateral, enrolments=(enrolment.encode(),)))

    def provided(self, **changes: Any) -> TpmTestbed:  # noqa: ANN401 - fields of the collateral
        """With other collateral."""
        return replace(self, collateral=replace(self.collateral, **changes))

    @cached_property
    def prepared(self) -> PreparedCollateral:
        """The collateral, read once."""
        return self.collateral.prepare()

    def verify(self, cache: Cache | None = None, check_log: CheckLog = NO_LOG) -> TpmClaims:
        """Have it appraised."""
        remembered = Cache() if cache is None else cache
        return verify_fresh(
            TPM,
            self.evidence,
            anchors=self.anchors,
            collateral=self.prepared,
            report_data=self.report_data,
            at=AppraisalContext(
                now=self.now, rule=self.rule, cache=remembered, check_log=check_log
            ),
        )

    def code(self) -> str:
        """The code of the refusal; empty if it is accepted."""
        try:
            self.verify()
        except RegaliaError as refusal:
            return refusal.code.name
        return ""
