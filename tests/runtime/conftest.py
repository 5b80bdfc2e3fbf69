"""Makes engines that answer at once, and whole runtimes on stage."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from regalia_testing.models import tiny_llama
from tests.broker.harness import Shared
from tests.runtime.harness import Bench
from tests.runtime.stage import Between, RealWorld, Stage, served

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


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
