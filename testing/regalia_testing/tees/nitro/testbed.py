"""A simulated hypervisor and a verifier that trusts it, wired together for tests."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from regalia.appraisal.appraisal_context import AppraisalContext
from regalia.appraisal.check_log import NO_LOG
from regalia.appraisal.collateral_rule import NO_GRACE, CollateralRule, RevocationRule
from regalia.appraisal.pki import Cache
from regalia.tees.nitro.evidence import NitroCollateral
from regalia.tees.nitro.evidence.plugin import NITRO
from regalia.wire.cbor import encode_cbor
from regalia.wire.evidence import Evidence, Tee
from regalia_testing.tees.nitro.defects import HEALTHY
from regalia_testing.verify import verify_fresh

if TYPE_CHECKING:
    from datetime import datetime

    from regalia.appraisal.check_log import CheckLog
    from regalia.tees.nitro.claims import NitroClaims
    from regalia.tees.nitro.evidence import NitroAnchors
    from regalia.wire.cbor import Cbor, Key
    from regalia_testing.tees.nitro.simulator import NitroSimulator

REPORT_DATA = hashlib.sha512(b"the expected report data").digest()
MEASUREMENT = hashlib.sha384(b"the expected measurement").digest()
RUNTIME_CONFIG = b"the measured configuration"
ANY = CollateralRule(RevocationRule.ANY, NO_GRACE)


@dataclass(frozen=True, slots=True)
class NitroTestbed:
    """Make evidence with chosen defects, and have it appraised."""

    platform: NitroSimulator
    now: datetime
    cache: Cache = field(default_factory=Cache)

    def evidence(self, **defects: Any) -> Evidence:  # noqa: ANN401 - fields of NitroDefects
        """Evidence of an enclave that is healthy but for ``defects``."""
        return self.platform.evidence(
            REPORT_DATA,
            measurement=MEASUREMENT,
            runtime_config=RUNTIME_CONFIG,
            defects=replace(HEALTHY, **defects),
        )

    def fields(self) -> dict[Key, Cbor]:
        """Of a healthy document, for ``signed`` to sign after an alteration."""
        return self.platform.fields(
            REPORT_DATA,
            pcrs=self.platform.pcrs(MEASUREMENT, RUNTIME_CONFIG),
            certificate=self.platform.fixed_leaf(),
            now=self.now,
        )

    def signed(self, payload: dict[Key, Cbor] | bytes) -> Evidence:
        """Evidence around any payload, signed by the key of the certificate in ``fields``."""
        raw = payload if isinstance(payload, bytes) else encode_cbor(payload)
        return Evidence(Tee.NITRO, self.platform.sign(raw), (), RUNTIME_CONFIG)

    def verify(  # noqa: PLR0913 - one word for each thing that may be wrong
        self,
        evidence: Evidence,
        *,
        anchors: NitroAnchors | None = None,
        collateral: NitroCollateral | None = None,
        rule: CollateralRule = ANY,
        report_data: bytes = REPORT_DATA,
        now: datetime | None = None,
        check_log: CheckLog = NO_LOG,
    ) -> NitroClaims:
        """Appraise; whatever is not given is right."""
        return verify_fresh(
            NITRO,
            evidence,
            anchors=anchors or self.platform.anchors(),
            collateral=collateral or NitroCollateral(),
            report_data=report_data,
            at=AppraisalContext(
                now=now or self.now, rule=rule, cache=self.cache, check_log=check_log
            ),
        )
