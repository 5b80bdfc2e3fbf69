"""One healthy piece of evidence of every kind, with a verifier that accepts it.

What every TEE must stand (mutation, no network, its cost) is tested and measured over this table;
a new kind of evidence is one more line in it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

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
from regalia_testing.tees.snp.defects import SnpDefects
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


def accepted_of(
    platform: Simulated,
    *,
    make: Callable[..., Evidence] | None = None,
    signed: Sequence[int] | None = None,
    rule: CollateralRule = STRICT,
    **state: Any,  # noqa: ANN401 - the defects of its kind
) -> AcceptedEvidence:
    """Of a simulator whose collateral lies in files.

    Args:
        platform: the simulator.
        make: its method, if it makes evidence of more than one kind.
        signed: where in the report the bytes stand that count; None: all of them.
        rule: what its collateral can meet.
        state: ``defects``, for a choice among what is accepted.
    """
    evidence = (make or platform.evidence)(
        BINDING.report_data(), measurement=MEASUREMENT, runtime_config=RUNTIME_CONFIG, **state
    )
    files = {path.name: path.read_bytes() for path in platform.collateral_directory.iterdir()}
    verifier = Verifier(simulated_anchors([platform.root]), parse_collateral(files))
    return AcceptedEvidence(
        evidence, verifier, range(len(evidence.report)) if signed is None else signed, rule
    )


def accepted_snp(platform: SnpSimulator, **state: Any) -> AcceptedEvidence:  # noqa: ANN401 - its defects
    """Of a simulated SEV-SNP platform."""
    return accepted_of(platform, signed=_SNP_SIGNED, **state)


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


def _sgx(folder: Path) -> AcceptedEvidence:
    platform = IntelSimulator.create(folder, now=NOW)
    return accepted_of(platform, make=platform.sgx_evidence, defects=IntelDefects(version=3))


def _azure(folder: Path, tee: Tee) -> AcceptedEvidence:
    found = accepted_of(AzureSimulator.create(folder, tee, now=NOW))
    return replace(found, signed=_azure_signed(found.evidence.report, tee))


def _azure_signed(document: bytes, tee: Tee) -> Sequence[int]:
    """All but what of Intel's TD report nobody can check: a MAC with the CPU's own key, and what
    the TD quote beside it says again. ``tests/tees/azure`` alters that part field by field.
    """
    at = document.index(_HCL_REPORT) + len(_HCL_REPORT)
    unseen = range(at + 0x20 // 3 * 4, at + (0x420 // 3 + 1) * 4)  # in base64
    if tee is Tee.AZURE_SNP:
        unseen = range(0)
    return [at for at in range(len(document)) if at not in unseen]


def _machine(folder: Path, gpus: int, switches: int) -> AcceptedEvidence:
    cpu = SnpSimulator.create(folder / "cpu", Product.GENOA, now=NOW)
    machine = composite_testbed(cpu, gpus, switches, now=NOW)
    devices = machine.devices.evidence(machine.nonce(BINDING))
    evidence = machine.evidence(devices, binding=BINDING)
    return AcceptedEvidence(evidence, machine.verifier, _SNP_SIGNED)


ACCEPTED_EVIDENCE: Mapping[str, Make] = MappingProxyType(
    {
        "SEV-SNP, VCEK": lambda folder: accepted_snp(SnpSimulator.create(folder, now=NOW)),
        "SEV-SNP, VLEK": lambda folder: accepted_snp(
            SnpSimulator.create(folder, Product.TURIN, now=NOW),
            defects=SnpDefects(signing_key="vlek"),
        ),
        "TDX": lambda folder: accepted_of(IntelSimulator.create(folder, now=NOW)),
        "SGX": _sgx,
        "Nitro": lambda folder: accepted_of(
            NitroSimulator.create(folder, clock=lambda: NOW), rule=NO_LISTS
        ),
        "TPM": lambda _: accepted_tpm(TpmSimulator.create(TpmAuthority.create(now=NOW))),
        "Azure, SEV-SNP": lambda folder: _azure(folder, Tee.AZURE_SNP),
        "Azure, TDX": lambda folder: _azure(folder, Tee.AZURE_TDX),
        f"SEV-SNP with {GPUS} GPUs": lambda folder: _machine(folder, GPUS, 0),
        "SEV-SNP with a GPU and a switch": lambda folder: _machine(folder, 1, 1),
    }
)
