"""A simulated platform and an owner for the tests of ``regalia policy``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from regalia_testing.tees.snp.authority import SnpKeys
from regalia_testing.tees.snp.simulator import SnpSimulator
from tests.policy.commands import OWNER, SECOND, PolicyTestbed

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def policy_platform(tmp_path_factory: pytest.TempPathFactory) -> SnpSimulator:
    folder = tmp_path_factory.mktemp("platform") / "snp"
    return SnpSimulator.create(folder, "Genoa", keys=SnpKeys.generate())


@pytest.fixture
def testbed(
    tmp_path: Path, policy_platform: SnpSimulator, capsys: pytest.CaptureFixture[str]
) -> PolicyTestbed:
    made = PolicyTestbed(tmp_path, policy_platform, capsys)
    for name, key in (("owner", OWNER), ("second", SECOND)):
        made.write(f"{name}.key", key.to_pem(None))
        (tmp_path / f"{name}.key").chmod(0o600)
        made.write(f"{name}.pub", key.verify_key.to_pem())
    return made
