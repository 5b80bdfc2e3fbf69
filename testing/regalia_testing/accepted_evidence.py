"""One healthy piece of evidence of every kind, with a verifier that accepts it.

What every TEE must stand (mutation, no network, its cost) is tested and measured over this table;
a new kind of evidence is one more line in it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

from regalia.appraisal.collateral_rule import NO_GRACE, CollateralRule, RevocationRule
from regalia.core.types import Digest, ModelId, PolicyId
from regalia.tees.snp.evidence.wire import Product
from regalia.tees.tpm.evidence.anchors import TpmAnchors
from regalia.verifier.anchors import TrustAnchors
from regalia.verifier.collateral import CollateralSet, parse_collateral
from regalia.verifier.verifier import Verifier
from regalia.wire.collateral import CollateralKind
from regalia.wire.evidence import NO_DEVICES, Binding, Role, Tee
from regalia_testing.anchors import simulated_anchors
from regalia_testing.composite_testbed import composite_testbed
from regalia_testing.tees.azure.simulator import AzureSimulator
from regalia_testing.tees.intel.defects import IntelDefects
from regalia_testing.tees.intel.simulator import IntelSimulator
from regalia_testing.tees.nitro.simulator import NitroSimulator
from regalia_testing.tees.snp.defects import HEALTHY, SnpDefects
from regalia_testing.tees.snp.simulator import SnpSimulator
from regalia_testing.tees.tpm.authority import TpmAuthority
from regalia_testing.tees.tpm.simulator import TpmSimulator

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from regalia.appraisal.claims import Claims
    from regalia.wire.evidence import Evidence

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
STRICT = CollateralRule(RevocationRule.REQUIRED, NO_GRACE)
# AWS's and software TPMs' authorities publish no lists that an air-gapped verifier could have.
NO_LISTS = CollateralRule(RevocationRule.ANY, NO_GRACE)
GPUS = 8  # beside one CPU, in the composite sample
MEASUREMENT = hashlib.sha384(b"the expected measurement").digest()
RUNTIME_CONFIG = b"the measured configuration"
BINDING = Binding(
    role=Role.RELEASE,
    audience="accepted_evidence",
    challenge=hashlib.sha256(b"the challenge").digest(),
    hpke_public_key=b"the runtime's HPKE key",
    wrap_public_key=b"the runtime's wrapping key",
    model_id=ModelId(bytes(range(32))),
    policy_id=PolicyId(bytes(range(32))),
    device_evidence=Digest(NO_DEVICES),
)
_HCL_REPORT = b'"hcl_report":"'
_SNP_SIGNED = range(0x330)  # the signed part and the signature; what follows is zero


@dataclass(frozen=True, slots=True)
class AcceptedEvidence:
    """Evidence and its verifier, which keeps its cache: the second appraisal is a warm one.

    Attributes:
        signed: where in ``evidence.report`` the bytes stand of which none may be altered.
    """

    evidence: Evidence
    verifier: Verifier
    signed: Sequence[int]
    rule: CollateralRule = STRICT
    binding: Binding = BINDING
    now: datetime = NOW

    def verify(self, evidence: Evidence) -> Claims:
        """Appraise some evidence in place of the sample's. Raises as ``Verifier.verify``."""
        return self.verifier.verify(evidence, expected=self.binding, rule=self.rule, now=self.now)


Make = Callable[[Path], AcceptedEvidence]  # from an absent or empty directory


def accepted_snp(platform: SnpSimulator, defects: SnpDefects = HEALTHY) -> AcceptedEvidence:
    """Of a simulated SEV-SNP platform."""
    evidence = platform.evidence(
        BINDING.report_data(),
        measurement=MEASUREMENT,
        runtime_config=RUNTIME_CONFIG,
        defects=defects,
    )
    return AcceptedEvidence(evidence, platform.verifier(), _SNP_SIGNED)


def _snp_vcek(folder: Path) -> AcceptedEvidence:
    return accepted_snp(SnpSimulator.create(folder, Product.GENOA, now=NOW))


def _snp_vlek(folder: Path) -> AcceptedEvidence:
    platform = SnpSimulator.create(folder, Product.TURIN, now=NOW)
    return accepted_snp(platform, SnpDefects(signing_key="vlek"))


def _tdx(folder: Path) -> AcceptedEvidence:
    return accepted_tdx(IntelSimulator.create(folder, now=NOW))


def accepted_tdx(platform: IntelSimulator) -> AcceptedEvidence:
    """Of a TD on a simulated Intel platform."""
    evidence = platform.tdx_evidence(
        BINDING.report_data(), measurement=MEASUREMENT, runtime_config=RUNTIME_CONFIG
    )
    return AcceptedEvidence(evidence, platform.verifier(), range(len(evidence.report)))


def _sgx(folder: Path) -> AcceptedEvidence:
    platform = IntelSimulator.create(folder, now=NOW)
    evidence = platform.sgx_evidence(
        BINDING.report_data(),
        measurement=MEASUREMENT,
        runtime_config=RUNTIME_CONFIG,
        defects=IntelDefects(version=3),
    )
    return AcceptedEvidence(evidence, platform.verifier(), range(len(evidence.report)))


def _nitro(folder: Path) -> AcceptedEvidence:
    return accepted_nitro(NitroSimulator.create(folder, clock=lambda: NOW))


def accepted_nitro(platform: NitroSimulator) -> AcceptedEvidence:
    """Of an enclave on a simulated instance: each has a key of its own."""
    evidence = platform.evidence(
        BINDING.report_data(), measurement=MEASUREMENT, runtime_config=RUNTIME_CONFIG
    )
    verifier = Verifier(TrustAnchors(nitro=platform.anchors()), CollateralSet((), ()))
    return AcceptedEvidence(evidence, verifier, range(len(evidence.report)), NO_LISTS)


def _tpm(_: Path) -> AcceptedEvidence:
    return accepted_tpm(TpmSimulator.create(TpmAuthority.create(now=NOW)))


def accepted_tpm(tpm: TpmSimulator, *also_enrolled: TpmSimulator) -> AcceptedEvidence:
    """Of a simulated TPM, beside others of the same authority."""
    authority = tpm.authority
    evidence = tpm.evidence(BINDING.report_data(), config=RUNTIME_CONFIG)
    collateral = CollateralSet(
        certificates=(authority.issuer(),),
        crls=authority.crls(),
        documents={
            CollateralKind.EK_ROOT: (authority.root(),),
            CollateralKind.ENROLMENT: tuple(
                each.enrolment(NOW).encode() for each in (tpm, *also_enrolled)
            ),
        },
    )
    verifier = Verifier(TrustAnchors(tpm=TpmAnchors.production()), collateral)
    return AcceptedEvidence(evidence, verifier, range(len(evidence.report)))


def _azure(folder: Path, tee: Tee) -> AcceptedEvidence:
    vm = AzureSimulator.create(folder, tee, now=NOW)
    evidence = vm.evidence(
        BINDING.report_data(), measurement=MEASUREMENT, runtime_config=RUNTIME_CONFIG
    )
    return AcceptedEvidence(evidence, vm.verifier(), _azure_signed(evidence.report, tee))


def _azure_signed(document: bytes, tee: Tee) -> Sequence[int]:
    """All but what of Intel's TD report nobody can check: a MAC with the CPU's own key, and what
    the TD quote beside it says again. ``tests/tees/azure`` alters that part field by field.
    """
    at = document.index(_HCL_REPORT) + len(_HCL_REPORT)
    unseen = range(at + 0x20 // 3 * 4, at + (0x420 // 3 + 1) * 4)  # in base64
    if tee is Tee.AZURE_SNP:
        unseen = range(0)
    return [at for at in range(len(document)) if at not in unseen]


def _azure_snp(folder: Path) -> AcceptedEvidence:
    return _azure(folder, Tee.AZURE_SNP)


def _azure_tdx(folder: Path) -> AcceptedEvidence:
    return _azure(folder, Tee.AZURE_TDX)


def _composite(folder: Path) -> AcceptedEvidence:
    return _machine(folder, GPUS, 0)


def _linked(folder: Path) -> AcceptedEvidence:
    return _machine(folder, 1, 1)


def _machine(folder: Path, gpus: int, switches: int) -> AcceptedEvidence:
    cpu = SnpSimulator.create(folder / "cpu", Product.GENOA, now=NOW)
    machine = composite_testbed(cpu, gpus, switches, now=NOW)
    devices = machine.devices.evidence(machine.nonce(BINDING))
    evidence = machine.evidence(devices, binding=BINDING)
    return AcceptedEvidence(evidence, machine.verifier, _SNP_SIGNED)


class Simulated(Protocol):
    """What a simulator needs for ``accepted_of``."""

    @property
    def root(self) -> bytes:
        """DER."""

    @property
    def collateral_directory(self) -> Path:
        """What a verifier is given."""

    def evidence(
        self, report_data: bytes, *, measurement: bytes, runtime_config: bytes
    ) -> Evidence:
        """Healthy evidence, all of whose report is signed."""


def accepted_of(platform: Simulated) -> AcceptedEvidence:
    """Of a simulator whose collateral lies in files, with lists of every authority."""
    evidence = platform.evidence(
        BINDING.report_data(), measurement=MEASUREMENT, runtime_config=RUNTIME_CONFIG
    )
    files = {path.name: path.read_bytes() for path in platform.collateral_directory.iterdir()}
    anchors = simulated_anchors([platform.root])
    return AcceptedEvidence(
        evidence, Verifier(anchors, parse_collateral(files)), range(len(evidence.report))
    )


ACCEPTED_EVIDENCE: Mapping[str, Make] = MappingProxyType(
    {
        "SEV-SNP, VCEK": _snp_vcek,
        "SEV-SNP, VLEK": _snp_vlek,
        "TDX": _tdx,
        "SGX": _sgx,
        "Nitro": _nitro,
        "TPM": _tpm,
        "Azure, SEV-SNP": _azure_snp,
        "Azure, TDX": _azure_tdx,
        f"SEV-SNP with {GPUS} GPUs": _composite,
        "SEV-SNP with a GPU and a switch": _linked,
    }
)
