"""Makes machines of every kind, and deployments around them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from regalia.runtime.keys import generate_keys
from regalia_testing.machines import MACHINES
from tests.broker.harness import Shared
from tests.release.deployments import MachineDeployment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from regalia.runtime.keys import RuntimeKeys
    from regalia_testing.machines import SimulatedMachine


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Shared:
    return Shared(tmp_path_factory.mktemp("shared"))


@pytest.fixture(scope="session")
def keys() -> RuntimeKeys:
    return generate_keys()


@pytest.fixture(scope="session")
def machine_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], SimulatedMachine]:
    """Machines by name, each made once."""
    made: dict[str, SimulatedMachine] = {}

    def get(name: str) -> SimulatedMachine:
        if name not in made:
            made[name] = MACHINES[name](tmp_path_factory.mktemp("machine") / "machine")
        return made[name]

    return get


@pytest.fixture
def make_deployment(
    shared: Shared, keys: RuntimeKeys, tmp_path: Path
) -> Iterator[Callable[..., MachineDeployment]]:
    deployments: list[MachineDeployment] = []

    def make(machine: SimulatedMachine, **options: Any) -> MachineDeployment:  # noqa: ANN401
        folder = tmp_path / f"world{len(deployments)}"
        folder.mkdir()
        deployments.append(MachineDeployment(folder, shared, keys, machine, **options))
        return deployments[-1]

    yield make
    for deployment in deployments:
        deployment.close()
