"""One simulated chip for every test here."""

from __future__ import annotations

import pytest

from regalia_testing.accepted_evidence import NOW, accepted_of
from regalia_testing.tees.accelerator.simulator import AcceleratorSimulator
from regalia_testing.tees.accelerator.testbed import AcceleratorTestbed


@pytest.fixture(scope="session")
def chip(tmp_path_factory: pytest.TempPathFactory) -> AcceleratorTestbed:
    folder = tmp_path_factory.mktemp("accelerator") / "platform"
    platform = AcceleratorSimulator.create(folder, clock=lambda: NOW)
    return AcceleratorTestbed(platform, accepted_of(platform))
