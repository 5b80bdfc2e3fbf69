"""One simulated Intel platform for every test here."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from regalia_testing.tees.intel.simulator import IntelSimulator
from regalia_testing.tees.intel.testbed import IntelTestbed

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


@pytest.fixture(scope="session")
def testbed(tmp_path_factory: pytest.TempPathFactory) -> IntelTestbed:
    platform = IntelSimulator.create(tmp_path_factory.mktemp("intel") / "platform", now=NOW)
    return IntelTestbed(platform, NOW, files=platform.files())


@pytest.fixture(scope="session")
def tdx_vectors(vectors: Path) -> Path:
    return vectors / "tdx"
