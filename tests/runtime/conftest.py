"""Loads this folder's harness and the broker's, and makes benches."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

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

from broker_harness import Shared  # noqa: E402 - it is loaded above
from runtime_bench import Bench  # noqa: E402 - it is loaded above


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
