"""Loads the broker's harness and this folder's, and makes machines and deployments around them."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from regalia.runtime.keys import generate_keys
from regalia_testing.machines import MACHINES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from regalia.runtime.keys import RuntimeKeys
    from regalia_testing.machines import SimulatedMachine

_HERE = Path(__file__).parent


def _load(name: str, path: Path) -> None:
    """Load a test harness once, under a name of its own."""
    if name in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])


_load("broker_harness", _HERE.parent / "broker" / "harness.py")
_load("runtime_stage", _HERE.parent / "runtime" / "live_deployment.py")
_load("release_worlds", _HERE / "deployments.py")

from broker_harness import Shared  # noqa: E402 - it is loaded above
from release_worlds import MachineDeployment  # noqa: E402 - it is loaded above


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
