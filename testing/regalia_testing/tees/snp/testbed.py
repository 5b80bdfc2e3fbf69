"""A simulated platform and a verifier that trusts it, wired together for tests."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from regalia.core.errors import RegaliaError
from regalia.tees.snp.claims import SnpClaims
from regalia.tees.snp.evidence import SnpAnchors, SnpCollateral
from regalia.tees.snp.evidence.plugin import SNP
from regalia.tees.snp.evidence.wire import EndorsementKeyKind
from regalia.wire.evidence import Evidence
from regalia_testing.tees.snp.authority import LeafFor
from regalia_testing.tees.snp.defects import HEALTHY
from regalia_testing.tees.snp.reports import reported_tcb
from regalia_testing.tees.snp.simulator import CSP_ID, SnpSimulator
from regalia_testing.testbed import PlatformTestbed

if TYPE_CHECKING:
    from collections.abc import Callable

    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

    from regalia_testing.der import CertificateSpec


@dataclass(frozen=True)
class SnpTestbed(PlatformTestbed[SnpSimulator, Evidence, SnpClaims, SnpAnchors, SnpCollateral]):
    """Make evidence with chosen defects, and have it appraised."""

    PLUGIN = SNP
    HEALTHY = HEALTHY

    def collateral_under(self, _anchors: SnpAnchors) -> SnpCollateral:
        """Certificates and list, as they are."""
        return self.platform.collateral()


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
