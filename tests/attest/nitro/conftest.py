"""One simulated hypervisor for every test here."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from regalia.testing.nitro import SimulatedNitro
from regalia.testing.nitro_bench import NitroBench

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


@pytest.fixture(scope="session")
def nitro(tmp_path_factory: pytest.TempPathFactory) -> NitroBench:
    folder = tmp_path_factory.mktemp("nitro") / "platform"
    return NitroBench(SimulatedNitro.create(folder, clock=lambda: NOW), NOW)
