"""A simulated hypervisor and a verifier that trusts it, wired together for tests."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from regalia.appraisal.pki import Cache
from regalia.tees.nitro.claims import NitroClaims
from regalia.tees.nitro.evidence import NitroAnchors, NitroCollateral
from regalia.tees.nitro.evidence.plugin import NITRO
from regalia.wire.cbor import encode_cbor
from regalia.wire.evidence import Evidence, Tee
from regalia_testing.tees.nitro.defects import HEALTHY
from regalia_testing.tees.nitro.simulator import NitroSimulator
from regalia_testing.testbed import ANY, MEASUREMENT, REPORT_DATA, RUNTIME_CONFIG, PlatformTestbed

if TYPE_CHECKING:
    from regalia.appraisal.collateral_rule import CollateralRule
    from regalia.wire.cbor import Cbor, Key


@dataclass(frozen=True)
class NitroTestbed(
    PlatformTestbed[NitroSimulator, Evidence, NitroClaims, NitroAnchors, NitroCollateral]
):
    """Make evidence with chosen defects, and have it appraised."""

    PLUGIN = NITRO
    HEALTHY = HEALTHY

    cache: Cache = field(default_factory=Cache)
    rule: CollateralRule = ANY

    def collateral_under(self, _anchors: NitroAnchors) -> NitroCollateral:
        """None: AWS publishes no lists that an air-gapped verifier could have."""
        return NitroCollateral()

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
