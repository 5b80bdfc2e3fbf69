"""A simulated machine with devices, and a verifier that trusts all of it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from regalia.core.types import Digest, ModelId, PolicyId
from regalia.verifier.collateral import CollateralSet
from regalia.verifier.verifier import Verifier
from regalia.wire.collateral import CollateralKind
from regalia.wire.evidence import NO_DEVICES, Binding, Role, device_nonce, devices_digest
from regalia_testing.anchors import simulated_anchors
from regalia_testing.tees.nvidia.defects import HEALTHY_DEVICE
from regalia_testing.tees.nvidia.simulator import NvidiaSimulator
from regalia_testing.testbed import MEASUREMENT, REQUIRED, RUNTIME_CONFIG

if TYPE_CHECKING:
    from datetime import datetime

    from regalia.appraisal.claims import Claims
    from regalia.wire.evidence import DeviceEvidence, Evidence
    from regalia_testing.tees.nvidia.authority import NvidiaKeys
    from regalia_testing.tees.nvidia.defects import NvidiaDefects
    from regalia_testing.tees.snp.simulator import SnpSimulator

BINDING = Binding(
    role=Role.RELEASE,
    audience="log.example",
    challenge=hashlib.sha256(b"challenge").digest(),
    hpke_public_key=b"\x01" * 1216,
    wrap_public_key=b"\x02" * 422,
    model_id=ModelId(bytes(32)),
    policy_id=PolicyId(bytes(32)),
    device_evidence=Digest(NO_DEVICES),
)


@dataclass(frozen=True)
class CompositeTestbed:
    """A CPU, its devices, and whoever appraises them."""

    platform: SnpSimulator
    devices: NvidiaSimulator
    verifier: Verifier
    now: datetime

    def nonce(self, binding: Binding = BINDING) -> bytes:
        """What every device is asked with."""
        return device_nonce(binding.role, binding.challenge, binding.hpke_public_key)

    def all(self, defects: NvidiaDefects = HEALTHY_DEVICE) -> tuple[DeviceEvidence, ...]:
        """Evidence of every device."""
        return self.devices.evidence(self.nonce(), defects)

    def evidence(
        self,
        devices: tuple[DeviceEvidence, ...],
        *,
        bound: tuple[DeviceEvidence, ...] | None = None,
        binding: Binding = BINDING,
    ) -> Evidence:
        """CPU evidence that commits to ``bound`` (else to ``devices``), with ``devices``."""
        digest = devices_digest(devices if bound is None else bound)
        evidence = self.platform.evidence(
            replace(binding, device_evidence=digest).report_data(),
            measurement=MEASUREMENT,
            runtime_config=RUNTIME_CONFIG,
        )
        return replace(evidence, devices=devices)

    def verify(self, evidence: Evidence, binding: Binding = BINDING) -> Claims:
        """Appraise."""
        return self.verifier.verify(evidence, expected=binding, rule=REQUIRED, now=self.now)


def composite_testbed(
    platform: SnpSimulator,
    gpus: int,
    switches: int,
    *,
    now: datetime,
    keys: NvidiaKeys | None = None,
) -> CompositeTestbed:
    """Devices beside a simulated SEV-SNP platform."""
    devices = NvidiaSimulator.make(gpus, switches, now=now, keys=keys)
    extra = devices.collateral()
    collateral = CollateralSet(
        certificates=(platform.ark, platform.ask, platform.asvk),
        crls=(platform.crl,),
        documents={CollateralKind.RIM: extra.rims, CollateralKind.KEY_DENIALS: extra.denials},
    )
    anchors = simulated_anchors((platform.ark, devices.root))
    return CompositeTestbed(platform, devices, Verifier(anchors, collateral), now)
