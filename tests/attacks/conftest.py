"""One defender for each TEE: a simulated platform, a verifier, a policy pinned on it."""

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
from regalia_testing.composite_bench import composite_machine
from regalia_testing.defender import MEASUREMENT, NO_LISTS, REPORT_DATA, RUNTIME_CONFIG, defend
from regalia_testing.tees.azure.defects import AzureDefects
from regalia_testing.tees.azure.simulator import SimulatedAzure
from regalia_testing.tees.intel import defects as intel_knobs
from regalia_testing.tees.intel.defects import IntelDefects
from regalia_testing.tees.intel.simulator import SimulatedIntel
from regalia_testing.tees.nitro.defects import NitroDefects
from regalia_testing.tees.nitro.simulator import SimulatedNitro
from regalia_testing.tees.snp import defects as snp_knobs
from regalia_testing.tees.snp.simulator import SimulatedPlatform
from regalia_testing.tees.tpm.authority import TpmAuthority
from regalia_testing.tees.tpm.simulator import SimulatedTpm, registers

if TYPE_CHECKING:
    from collections.abc import Callable

    from regalia.wire.evidence import Evidence
    from regalia_testing.composite_bench import CompositeMachine
    from regalia_testing.defender import Defender
    from regalia_testing.tees.nvidia.authority import DeviceKeys
    from regalia_testing.tees.snp.authority import AuthorityKeys

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def snp_make(platform: SimulatedPlatform) -> Callable[..., Evidence]:
    def make(**defects: Any) -> Evidence:  # noqa: ANN401 - fields of Defects
        return platform.evidence(
            REPORT_DATA,
            measurement=MEASUREMENT,
            runtime_config=RUNTIME_CONFIG,
            defects=replace(snp_knobs.HEALTHY, **defects),
        )

    return make


@pytest.fixture(scope="session")
def snp_of(
    authority_keys: AuthorityKeys, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Defender]:
    """By product; the chip is pinned too, because Milan is accepted in no other way."""
    made: dict[str, Defender] = {}

    def get(product: str) -> Defender:
        if product not in made:
            folder = tmp_path_factory.mktemp("attacked") / product
            platform = SimulatedPlatform.create(folder, product, now=NOW, keys=authority_keys)
            made[product] = defend(
                snp_make(platform), platform.verifier(), NOW, pin_machine=product == "Milan"
            )
        return made[product]

    return get


@pytest.fixture(scope="session")
def snp(snp_of: Callable[[str], Defender]) -> Defender:
    return snp_of("Genoa")


@pytest.fixture(scope="session")
def intel(tmp_path_factory: pytest.TempPathFactory) -> SimulatedIntel:
    return SimulatedIntel.create(tmp_path_factory.mktemp("attacked") / "intel", now=NOW)


def tdx_make(platform: SimulatedIntel) -> Callable[..., Evidence]:
    def make(**defects: Any) -> Evidence:  # noqa: ANN401 - fields of IntelDefects
        return platform.tdx_evidence(
            REPORT_DATA,
            measurement=MEASUREMENT,
            runtime_config=RUNTIME_CONFIG,
            defects=IntelDefects(**defects),
        )

    return make


@pytest.fixture(scope="session")
def tdx(intel: SimulatedIntel) -> Defender:
    return defend(tdx_make(intel), intel.verifier(), NOW)


@pytest.fixture(scope="session")
def sgx(intel: SimulatedIntel) -> Defender:
    def make(**defects: Any) -> Evidence:  # noqa: ANN401 - fields of IntelDefects
        return intel.sgx_evidence(
            REPORT_DATA,
            measurement=MEASUREMENT,
            runtime_config=RUNTIME_CONFIG,
            defects=replace(intel_knobs.HEALTHY, version=3, **defects),
        )

    return defend(make, intel.verifier(), NOW)


@pytest.fixture(scope="session")
def enrolled_tpm() -> SimulatedTpm:
    tpm = SimulatedTpm.create(TpmAuthority.create(now=NOW))
    return replace(tpm, pcrs=registers(tpm.boot, RUNTIME_CONFIG))


@pytest.fixture(scope="session")
def tpm(enrolled_tpm: SimulatedTpm) -> Defender:
    """The defects are fields of the TPM; a boot brings its own registers."""

    def make(**changes: Any) -> Evidence:  # noqa: ANN401 - fields of SimulatedTpm
        if "boot" in changes and "pcrs" not in changes:
            changes["pcrs"] = registers(changes["boot"], RUNTIME_CONFIG)
        return replace(enrolled_tpm, **changes).evidence(REPORT_DATA, config=RUNTIME_CONFIG)

    return defend(make, tpm_verifier(enrolled_tpm), NOW)


def tpm_verifier(tpm: SimulatedTpm, *, enrolled: bool = True) -> Verifier:
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
    authority_keys: AuthorityKeys,
    device_keys: DeviceKeys,
    tmp_path_factory: pytest.TempPathFactory,
) -> CompositeMachine:
    """Two GPUs beside a CPU."""
    folder = tmp_path_factory.mktemp("attacked") / "machine"
    platform = SimulatedPlatform.create(folder, "Genoa", now=NOW, keys=authority_keys)
    return composite_machine(platform, 2, 0, now=NOW, keys=device_keys)


def azure_defender(vm: SimulatedAzure, verifier: Verifier) -> Defender:
    def make(**defects: Any) -> Evidence:  # noqa: ANN401 - fields of AzureDefects
        return vm.evidence(
            REPORT_DATA,
            measurement=MEASUREMENT,
            runtime_config=RUNTIME_CONFIG,
            defects=AzureDefects(**defects),
        )

    return defend(make, verifier, NOW)


@pytest.fixture(scope="session")
def azure_snp_vm(
    authority_keys: AuthorityKeys, tmp_path_factory: pytest.TempPathFactory
) -> Defender:
    folder = tmp_path_factory.mktemp("attacked") / "azure-snp"
    vm = SimulatedAzure.create(folder, now=NOW, keys=authority_keys)
    assert vm.snp is not None
    return azure_defender(vm, vm.snp.verifier())


@pytest.fixture(scope="session")
def azure_tdx_vm(tmp_path_factory: pytest.TempPathFactory) -> Defender:
    vm = SimulatedAzure.create(
        tmp_path_factory.mktemp("attacked") / "azure-tdx", Tee.AZURE_TDX, now=NOW
    )
    assert vm.intel is not None
    return azure_defender(vm, vm.intel.verifier())


@pytest.fixture(params=["azure_snp_vm", "azure_tdx_vm"])
def azure_vm(request: pytest.FixtureRequest) -> Defender:
    found: Defender = request.getfixturevalue(request.param)
    return found


@pytest.fixture(scope="session")
def nitro(tmp_path_factory: pytest.TempPathFactory) -> Defender:
    """AWS issues no lists that an air-gapped verifier could have."""
    folder = tmp_path_factory.mktemp("attacked") / "nitro"
    platform = SimulatedNitro.create(folder, clock=lambda: NOW)

    def make(**defects: Any) -> Evidence:  # noqa: ANN401 - fields of NitroDefects
        return platform.evidence(
            REPORT_DATA,
            measurement=MEASUREMENT,
            runtime_config=RUNTIME_CONFIG,
            defects=NitroDefects(**defects),
        )

    verifier = Verifier(TrustAnchors(nitro=platform.anchors()), CollateralSet((), ()))
    return defend(make, verifier, NOW, rule=NO_LISTS)
