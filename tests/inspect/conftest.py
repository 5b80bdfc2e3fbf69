"""Simulated evidence of each kind, made once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from regalia.wire.evidence import Tee
from regalia_testing.tees.azure.simulator import AzureSimulator
from regalia_testing.tees.intel.simulator import IntelSimulator
from regalia_testing.tees.nitro.simulator import NitroSimulator
from regalia_testing.tees.tpm.testbed import TpmTestbed
from regalia_testing.testbed import MEASUREMENT, REPORT_DATA, RUNTIME_CONFIG

if TYPE_CHECKING:
    from collections.abc import Callable

    from regalia.wire.evidence import Evidence
    from regalia_testing.tees.nvidia.testbed import NvidiaTestbed
    from regalia_testing.tees.snp.authority import SnpKeys
    from regalia_testing.tees.snp.testbed import SnpTestbed

from tests.inspect.machines import NOW, Machines, ccel, old_log


@pytest.fixture(scope="module")
def machines(
    testbed_of: Callable[[str], SnpTestbed],
    device_testbed: NvidiaTestbed,
    authority_keys: SnpKeys,
    tmp_path_factory: pytest.TempPathFactory,
) -> Machines:
    folder = tmp_path_factory.mktemp("machines")

    def of(platform: IntelSimulator | NitroSimulator | AzureSimulator) -> Evidence:
        make = platform.tdx_evidence if isinstance(platform, IntelSimulator) else platform.evidence
        return make(REPORT_DATA, measurement=MEASUREMENT, runtime_config=RUNTIME_CONFIG)

    azure = AzureSimulator.create(folder / "az-snp", now=NOW, keys=authority_keys)
    azure_tdx = AzureSimulator.create(folder / "az-tdx", Tee.AZURE_TDX, now=NOW)
    switch = device_testbed.machine.switches[0]
    return Machines(
        snp=testbed_of("Milan").evidence(),
        turin=testbed_of("Turin").evidence(),
        tdx=of(IntelSimulator.make(now=NOW)),
        nitro=of(NitroSimulator.create(folder / "nitro", clock=lambda: NOW)),
        tpm=TpmTestbed.create(now=NOW).evidence,
        azure_snp=of(azure),
        azure_tdx=of(azure_tdx),
        devices=(device_testbed.evidence(), device_testbed.evidence(switch)),
        ccel=ccel(),
        old_log=old_log(),
    )
