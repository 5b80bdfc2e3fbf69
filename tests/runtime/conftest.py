"""Loads this folder's harness and the broker's, and makes benches."""

from __future__ import annotations

import importlib.util
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from regalia_testing.models import tiny_llama

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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


_load("runtime_bench", _HERE / "harness.py")
_load("broker_harness", _HERE.parent / "broker" / "harness.py")

_load("runtime_stage", _HERE / "stage.py")

from broker_harness import Shared  # noqa: E402 - it is loaded above
from runtime_bench import Bench  # noqa: E402 - it is loaded above
from runtime_stage import Between, RealWorld, Stage, served  # noqa: E402 - it is loaded above


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Shared:
    """Keys and a simulated platform, made once because they are slow to make."""
    return Shared(tmp_path_factory.mktemp("shared"))


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.engine.go.set()
    made.generations.shut()


@pytest.fixture
def make_bench() -> Iterator[Any]:
    made: list[Bench] = []

    def make(**options: Any) -> Bench:  # noqa: ANN401
        made.append(Bench(**options))
        return made[-1]

    yield make
    for item in made:
        item.engine.go.set()
        item.generations.shut()


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("models") / "tiny", shards=2)


@pytest.fixture
def make_stage(shared: Shared, tiny: Path, tmp_path: Path) -> Iterator[Callable[..., Stage]]:
    with ExitStack() as cleanup:

        def make(**options: Any) -> Stage:  # noqa: ANN401
            world = RealWorld(tmp_path, shared, tiny, **options)
            cleanup.callback(world.close)
            between = Between(world)
            stage = Stage(world, between, cleanup.enter_context(served(between)))
            cleanup.callback(lambda: [item.stop() for item in stage.started])
            return stage

        yield make


@pytest.fixture
def stage(make_stage: Callable[..., Stage]) -> Stage:
    return make_stage()
