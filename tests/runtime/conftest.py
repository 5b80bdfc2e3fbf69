"""Loads this folder's harness and the broker's, and makes testbeds."""

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


_load("runtime_testbed", _HERE / "harness.py")
_load("broker_harness", _HERE.parent / "broker" / "harness.py")

_load("runtime_stage", _HERE / "live_deployment.py")

from broker_harness import Shared  # noqa: E402 - it is loaded above
from runtime_stage import Between, LiveDeployment, SealedDeployment, served  # noqa: E402 - it is loaded above
from runtime_testbed import RuntimeTestbed  # noqa: E402 - it is loaded above


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Shared:
    """Keys and a simulated platform, made once because they are slow to make."""
    return Shared(tmp_path_factory.mktemp("shared"))


@pytest.fixture
def testbed() -> Iterator[RuntimeTestbed]:
    made = RuntimeTestbed()
    yield made
    made.engine.go.set()
    made.generations.shut()


@pytest.fixture
def make_testbed() -> Iterator[Any]:
    made: list[RuntimeTestbed] = []

    def make(**options: Any) -> RuntimeTestbed:  # noqa: ANN401
        made.append(RuntimeTestbed(**options))
        return made[-1]

    yield make
    for item in made:
        item.engine.go.set()
        item.generations.shut()


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("models") / "tiny", shards=2)


@pytest.fixture
def make_live(
    shared: Shared, tiny: Path, tmp_path: Path
) -> Iterator[Callable[..., LiveDeployment]]:
    with ExitStack() as cleanup:

        def make(**options: Any) -> LiveDeployment:  # noqa: ANN401
            deployment = SealedDeployment(tmp_path, shared, tiny, **options)
            cleanup.callback(deployment.close)
            between = Between(deployment)
            live = LiveDeployment(deployment, between, cleanup.enter_context(served(between)))
            cleanup.callback(lambda: [item.stop() for item in live.started])
            return live

        yield make


@pytest.fixture
def live(make_live: Callable[..., LiveDeployment]) -> LiveDeployment:
    return make_live()
