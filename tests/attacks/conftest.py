"""One relying party for each TEE: a simulated platform, a verifier, a policy pinned on it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from regalia.tees.tpm.evidence.anchors import TpmAnchors, TpmCollateral
from regalia.verifier.anchors import TrustAnchors
from regalia.verifier.collateral import CollateralSet
from regalia.verifier.verifier import Verifier
from regalia.wire.evidence import Tee
from regalia_testing.collateral import tpm_set
from regalia_testing.composite_testbed import composite_testbed
from regalia_testing.relying_party import (
    NO_LISTS,
    REPORT_DATA,
    RUNTIME_CONFIG,
    issuing,
    relying_party_for,
)
from regalia_testing.tees.azure.defects import AzureDefects
from regalia_testing.tees.azure.simulator import AzureSimulator
from regalia_testing.tees.intel.defects import IntelDefects
from regalia_testing.tees.intel.simulator import IntelSimulator
from regalia_testing.tees.nitro.defects import NitroDefects
from regalia_testing.tees.nitro.simulator import NitroSimulator
from regalia_testing.tees.snp.defects import SnpDefects
from regalia_testing.tees.snp.simulator import SnpSimulator
from regalia_testing.tees.tpm.authority import TpmAuthority
from regalia_testing.tees.tpm.simulator import TpmSimulator, registers

if TYPE_CHECKING:
    from collections.abc import Callable

    from regalia.wire.evidence import Evidence
    from regalia_testing.composite_testbed import CompositeTestbed
    from regalia_testing.relying_party import RelyingParty
    from regalia_testing.tees.nvidia.authority import NvidiaKeys
    from regalia_testing.tees.snp.authority import SnpKeys

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


@pytest.fixture(scope="session")
def snp_of(
    authority_keys: SnpKeys, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], RelyingParty]:
    """By product; the chip is pinned too, because Milan is accepted in no other way."""
    made: dict[str, RelyingParty] = {}

    def get(product: str) -> RelyingParty:
        if product not in made:
            folder = tmp_path_factory.mktemp("attacked") / product
            platform = SnpSimulator.create(folder, product, now=NOW, keys=authority_keys)
            made[product] = relying_party_for(
                issuing(platform.evidence, SnpDefects()),
                platform.verifier(),
                NOW,
                pin_machine=product == "Milan",
            )
        return made[product]

    return get


@pytest.fixture(scope="session")
def snp(snp_of: Callable[[str], RelyingParty]) -> RelyingParty:
    return snp_of("Genoa")


@pytest.fixture(scope="session")
def intel(tmp_path_factory: pytest.TempPathFactory) -> IntelSimulator:
    return IntelSimulator.create(tmp_path_factory.mktemp("attacked") / "intel", now=NOW)


@pytest.fixture(scope="session")
def tdx(intel: IntelSimulator) -> RelyingParty:
    return relying_party_for(issuing(intel.tdx_evidence, IntelDefects()), intel.verifier(), NOW)


@pytest.fixture(scope="session")
def sgx(intel: IntelSimulator) -> RelyingParty:
    make = issuing(intel.sgx_evidence, IntelDefects(version=3))
    return relying_party_for(make, intel.verifier(), NOW)


@pytest.fixture(scope="session")
def enrolled_tpm() -> TpmSimulator:
    tpm = TpmSimulator.create(TpmAuthority.create(now=NOW))
    return replace(tpm, pcrs=registers(tpm.boot, RUNTIME_CONFIG))


@pytest.fixture(scope="session")
def tpm(enrolled_tpm: TpmSimulator) -> RelyingParty:
    """The defects are fields of the TPM; a boot brings its own registers."""

    def make(**changes: Any) -> Evidence:  # noqa: ANN401 - fields of TpmSimulator
        if "boot" in changes and "pcrs" not in changes:
            changes["pcrs"] = registers(changes["boot"], RUNTIME_CONFIG)
        return replace(enrolled_tpm, **changes).evidence(REPORT_DATA, config=RUNTIME_CONFIG)

    return relying_party_for(make, tpm_verifier(enrolled_tpm), NOW)


def tpm_verifier(tpm: TpmSimulator, *, enrolled: bool = True) -> Verifier:
    collateral = TpmCollateral(
        ek_roots=(tpm.authority.root(),),
        intermediates=(tpm.authority.issuer(),),
        crls=tpm.authority.crls(),
        enrolments=(tpm.enrolment(NOW).encode(),) if enrolled else (),
    )
    anchors = TrustAnchors(tpm=TpmAnchors.production())
    return Verifier(anchors, tpm_set(collateral))


@pytest.fixture(scope="session")
def gpu_machine(
    authority_keys: SnpKeys,
    device_keys: NvidiaKeys,
    tmp_path_factory: pytest.TempPathFactory,
) -> CompositeTestbed:
    """Two GPUs beside a CPU."""
    folder = tmp_path_factory.mktemp("attacked") / "machine"
    platform = SnpSimulator.create(folder, "Genoa", now=NOW, keys=authority_keys)
    return composite_testbed(platform, 2, 0, now=NOW, keys=device_keys)


def azure_relying_party(vm: AzureSimulator) -> RelyingParty:
    return relying_party_for(issuing(vm.evidence, AzureDefects()), vm.verifier(), NOW)


@pytest.fixture(scope="session")
def azure_snp_vm(authority_keys: SnpKeys, tmp_path_factory: pytest.TempPathFactory) -> RelyingParty:
    folder = tmp_path_factory.mktemp("attacked") / "azure-snp"
    return azure_relying_party(AzureSimulator.create(folder, now=NOW, keys=authority_keys))


@pytest.fixture(scope="session")
def azure_tdx_vm(tmp_path_factory: pytest.TempPathFactory) -> RelyingParty:
    folder = tmp_path_factory.mktemp("attacked") / "azure-tdx"
    return azure_relying_party(AzureSimulator.create(folder, Tee.AZURE_TDX, now=NOW))


@pytest.fixture(params=["azure_snp_vm", "azure_tdx_vm"])
def azure_vm(request: pytest.FixtureRequest) -> RelyingParty:
    found: RelyingParty = request.getfixturevalue(request.param)
    return found


@pytest.fixture(scope="session")
def nitro(tmp_path_factory: pytest.TempPathFactory) -> RelyingParty:
    """AWS issues no lists that an air-gapped verifier could have."""
    folder = tmp_path_factory.mktemp("attacked") / "nitro"
    platform = NitroSimulator.create(folder, clock=lambda: NOW)

    make = issuing(platform.evidence, NitroDefects())
    verifier = Verifier(TrustAnchors(nitro=platform.anchors()), CollateralSet((), ()))
    return relying_party_for(make, verifier, NOW, rule=NO_LISTS)
