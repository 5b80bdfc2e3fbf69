"""Simulated VMs on both kinds of hardware."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from regalia.wire.evidence import Tee
from regalia_testing.tees.azure.simulator import AzureSimulator
from regalia_testing.tees.azure.testbed import AzureTestbed

if TYPE_CHECKING:
    from regalia_testing.tees.snp.authority import SnpKeys

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


@pytest.fixture(scope="session")
def azure_snp(authority_keys: SnpKeys, tmp_path_factory: pytest.TempPathFactory) -> AzureTestbed:
    folder = tmp_path_factory.mktemp("azure") / "snp"
    return AzureTestbed(AzureSimulator.create(folder, now=NOW, keys=authority_keys), NOW)


@pytest.fixture(scope="session")
def azure_tdx(tmp_path_factory: pytest.TempPathFactory) -> AzureTestbed:
    folder = tmp_path_factory.mktemp("azure") / "tdx"
    return AzureTestbed(AzureSimulator.create(folder, Tee.AZURE_TDX, now=NOW), NOW)


@pytest.fixture(params=["azure_snp", "azure_tdx"])
def azure(request: pytest.FixtureRequest) -> AzureTestbed:
    testbed = request.getfixturevalue(request.param)
    assert isinstance(testbed, AzureTestbed)
    return testbed
