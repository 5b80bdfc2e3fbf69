"""Makes machines of every kind, and worlds around them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from regalia.runtime.keys import generate_keys
from regalia_testing.machines import MACHINES
from tests.broker.harness import Shared
from tests.release.worlds import MachineWorld

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from regalia.runtime.keys import RuntimeKeys
    from regalia_testing.machines import Machine


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Shared:
    return Shared(tmp_path_factory.mktemp("shared"))


@pytest.fixture(scope="session")
def keys() -> RuntimeKeys:
    return generate_keys()


@pytest.fixture(scope="session")
def machine_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Machine]:
    """Machines by name, each made once."""
    made: dict[str, Machine] = {}

    def get(name: str) -> Machine:
        if name not in made:
            made[name] = MACHINES[name](tmp_path_factory.mktemp("machine") / "machine")
        return made[name]

    return get


@pytest.fixture
def make_world(
    shared: Shared, keys: RuntimeKeys, tmp_path: Path
) -> Iterator[Callable[..., MachineWorld]]:
    worlds: list[MachineWorld] = []

    def make(machine: Machine, **options: Any) -> MachineWorld:  # noqa: ANN401
        folder = tmp_path / f"world{len(worlds)}"
        folder.mkdir()
        worlds.append(MachineWorld(folder, shared, keys, machine, **options))
        return worlds[-1]

    yield make
    for world in worlds:
        world.close()
