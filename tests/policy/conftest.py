"""A simulated platform and an owner for the tests of ``regalia policy``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from regalia_testing.tees.snp.authority import AuthorityKeys
from regalia_testing.tees.snp.simulator import SimulatedPlatform
from tests.policy.commands import OWNER, SECOND, Bench

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def policy_platform(tmp_path_factory: pytest.TempPathFactory) -> SimulatedPlatform:
    folder = tmp_path_factory.mktemp("platform") / "snp"
    return SimulatedPlatform.create(folder, "Genoa", keys=AuthorityKeys.generate())


@pytest.fixture
def bench(
    tmp_path: Path, policy_platform: SimulatedPlatform, capsys: pytest.CaptureFixture[str]
) -> Bench:
    made = Bench(tmp_path, policy_platform, capsys)
    for name, key in (("owner", OWNER), ("second", SECOND)):
        made.write(f"{name}.key", key.to_pem(None))
        (tmp_path / f"{name}.key").chmod(0o600)
        made.write(f"{name}.pub", key.verify_key.to_pem())
    return made
