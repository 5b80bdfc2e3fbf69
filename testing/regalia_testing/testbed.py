"""A simulator wired to its TEE's evidence plug-in: what the testbeds of all TEEs have in common."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar

from regalia.appraisal.appraisal_context import AppraisalContext
from regalia.appraisal.check_log import NO_LOG
from regalia.appraisal.collateral_rule import NO_GRACE, CollateralRule, RevocationRule
from regalia.appraisal.pki import Cache
from regalia_testing.verify import verify_fresh

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from _typeshed import DataclassInstance

    from regalia.appraisal.check_log import CheckLog
    from regalia.appraisal.evidence_plugin import Anchors, EvidencePlugin

REPORT_DATA = hashlib.sha512(b"the expected report data").digest()
MEASUREMENT = hashlib.sha384(b"the expected measurement").digest()
RUNTIME_CONFIG = b"the measured configuration"
REQUIRED = CollateralRule(RevocationRule.REQUIRED, NO_GRACE)
ANY = CollateralRule(RevocationRule.ANY, NO_GRACE)

P = TypeVar("P", bound="Trusted")
R = TypeVar("R")
C = TypeVar("C")
A = TypeVar("A", bound="Anchors")
K = TypeVar("K")


class Trusted(Protocol):
    """A simulator whose own root can be trusted."""

    @property
    def evidence(self) -> Callable[..., Any]:
        """A method that makes evidence, of the arguments of its TEE."""

    def anchors(self) -> Any:  # noqa: ANN401 - the anchors of its TEE
        """This platform's root as the only anchor."""


@dataclass(frozen=True)
class PlatformTestbed(ABC, Generic[P, R, C, A, K]):
    """Has evidence ``R`` of a simulator ``P`` appraised, into claims ``C``.

    Attributes:
        cache: kept from one appraisal to the next; None gives each a new one.
        rule: what collateral must say of revocation.
    """

    platform: P
    now: datetime
    cache: Cache | None = None
    rule: CollateralRule = REQUIRED

    PLUGIN: ClassVar[EvidencePlugin[Any, Any, Any, Any, Any]]
    HEALTHY: ClassVar[DataclassInstance]

    def plugin(self, _evidence: R) -> EvidencePlugin[R, Any, C, A, K]:
        """What appraises the evidence."""
        return self.PLUGIN

    @abstractmethod
    def collateral_under(self, _anchors: A) -> K:
        """What the platform's evidence needs, prepared for these anchors."""

    def evidence(self, **defects: Any) -> Any:  # noqa: ANN401 - fields of the platform's defects
        """Evidence of a platform that is healthy but for ``defects``."""
        return self.platform.evidence(
            REPORT_DATA,
            measurement=MEASUREMENT,
            runtime_config=RUNTIME_CONFIG,
            defects=replace(self.HEALTHY, **defects),
        )

    @cached_property
    def anchors(self) -> A:
        """The platform's root as the only anchor."""
        found: A = self.platform.anchors()
        return found

    @cached_property
    def collateral(self) -> K:
        """What the platform's evidence needs under its own root; prepared once."""
        return self.collateral_under(self.anchors)

    def verify(  # noqa: PLR0913 - one word for each thing that may be wrong
        self,
        evidence: R,
        *,
        anchors: A | None = None,
        collateral: K | None = None,
        rule: CollateralRule | None = None,
        report_data: bytes = REPORT_DATA,
        now: datetime | None = None,
        check_log: CheckLog = NO_LOG,
    ) -> C:
        """Appraise; whatever is not given is right. Raises RegaliaError."""
        if collateral is None:
            collateral = self.collateral if anchors is None else self.collateral_under(anchors)
        return verify_fresh(
            self.plugin(evidence),
            evidence,
            anchors=self.anchors if anchors is None else anchors,
            collateral=collateral,
            report_data=report_data,
            at=AppraisalContext(
                now=now or self.now,
                rule=rule or self.rule,
                cache=Cache() if self.cache is None else self.cache,
                check_log=check_log,
            ),
        )
