"""One simulated hypervisor for every test here."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from regalia_testing.tees.nitro.simulator import NitroSimulator
from regalia_testing.tees.nitro.testbed import NitroTestbed

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


@pytest.fixture(scope="session")
def nitro(tmp_path_factory: pytest.TempPathFactory) -> NitroTestbed:
    folder = tmp_path_factory.mktemp("nitro") / "platform"
    return NitroTestbed(NitroSimulator.create(folder, clock=lambda: NOW), NOW)
