"""A simulated platform and a verifier that trusts it, wired together for tests."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from regalia.appraisal.appraisal_context import AppraisalContext
from regalia.appraisal.collateral_rule import NO_GRACE, CollateralRule, RevocationRule
from regalia.appraisal.pki import Cache
from regalia.core.errors import RegaliaError
from regalia.tees.snp.evidence import SnpCollateral
from regalia.tees.snp.evidence.plugin import SNP
from regalia.tees.snp.evidence.wire import EndorsementKeyKind
from regalia_testing.tees.snp.authority import LeafFor
from regalia_testing.tees.snp.defects import HEALTHY
from regalia_testing.tees.snp.reports import reported_tcb
from regalia_testing.tees.snp.simulator import CSP_ID
from regalia_testing.verify import verify_fresh

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

    from regalia.tees.snp.claims import SnpClaims
    from regalia.tees.snp.evidence import SnpAnchors
    from regalia.wire.evidence import Evidence
    from regalia_testing.der import CertificateSpec
    from regalia_testing.tees.snp.simulator import SnpSimulator

REPORT_DATA = hashlib.sha512(b"the expected report data").digest()
MEASUREMENT = hashlib.sha384(b"the expected measurement").digest()
RUNTIME_CONFIG = b"the measured configuration"
REQUIRED = CollateralRule(RevocationRule.REQUIRED, NO_GRACE)


@dataclass(frozen=True, slots=True)
class SnpTestbed:
    """Make evidence with chosen defects, and have it appraised."""

    platform: SnpSimulator
    now: datetime
    rule: CollateralRule = REQUIRED

    def evidence(self, **defects: Any) -> Evidence:  # noqa: ANN401 - fields of SnpDefects
        """Evidence of a platform that is healthy but for ``defects``."""
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
        anchors: SnpAnchors | None = None,
        collateral: SnpCollateral | None = None,
        report_data: bytes = REPORT_DATA,
        now: datetime | None = None,
    ) -> SnpClaims:
        """Appraise; whatever is not given is right."""
        return verify_fresh(
            SNP,
            evidence,
            anchors=anchors or self.platform.anchors(),
            collateral=collateral or self.platform.collateral(),
            report_data=report_data,
            at=AppraisalContext(now=now or self.now, rule=self.rule, cache=Cache()),
        )


@dataclass(frozen=True, slots=True)
class SnpChain:
    """The three certificates of a testbed, to be altered one at a time."""

    testbed: SnpTestbed
    ark: CertificateSpec
    ask: CertificateSpec  # or the ASVK
    leaf: CertificateSpec
    signing_key: EndorsementKeyKind

    def verify(
        self,
        *,
        ark_signer: RSAPrivateKey | None = None,
        ask_signer: RSAPrivateKey | None = None,
        leaf_signer: RSAPrivateKey | None = None,
    ) -> SnpClaims:
        """Sign the three, each with the right key unless another is given, and appraise."""
        authority = self.testbed.platform.authority
        ark = self.ark.sign(ark_signer or authority.keys.ark)
        ask = self.ask.sign(ask_signer or authority.keys.ark)
        leaf = self.leaf.sign(leaf_signer or authority.issuer_key(self.signing_key))
        evidence = self.testbed.evidence(signing_key=self.signing_key.name.lower())
        return self.testbed.verify(
            replace(evidence, endorsements=(leaf, ask, ark)),
            collateral=SnpCollateral((), (self.testbed.platform.crl,)),
        )


def chain_of(
    testbed: SnpTestbed, signing_key: EndorsementKeyKind = EndorsementKeyKind.VCEK
) -> SnpChain:
    """The right chain of a testbed's healthy platform."""
    platform = testbed.platform
    tcb = reported_tcb(platform.product, HEALTHY)
    key = platform.endorsement_key(signing_key, tcb).public_key()
    leaf = platform.authority.leaf(LeafFor(key, signing_key, tcb, platform.hwid, CSP_ID))
    vlek = signing_key is EndorsementKeyKind.VLEK
    middle = platform.authority.asvk() if vlek else platform.authority.ask()
    return SnpChain(testbed, platform.authority.ark(), middle, leaf, signing_key)


def refused(code: str, call: Callable[..., object], **arguments: object) -> str:
    """Call, demand a refusal with that code, and return what it says."""
    try:
        call(**arguments)
    except RegaliaError as refusal:
        if refusal.code.name == code:
            return refusal.what
        raise AssertionError(f"want {code}, refused with {refusal}") from refusal
    raise AssertionError(f"want {code}, and it was accepted")
