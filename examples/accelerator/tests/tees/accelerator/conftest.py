"""One simulated chip for every test here."""

from __future__ import annotations

import pytest

from regalia_testing.samples import NOW, sample_of
from regalia_testing.tees.accelerator.bench import AcceleratorBench
from regalia_testing.tees.accelerator.simulator import SimulatedAccelerator


@pytest.fixture(scope="session")
def chip(tmp_path_factory: pytest.TempPathFactory) -> AcceleratorBench:
    folder = tmp_path_factory.mktemp("accelerator") / "platform"
    platform = SimulatedAccelerator.create(folder, clock=lambda: NOW)
    return AcceleratorBench(platform, sample_of(platform))
