"""Makes deployments: a broker with everything around it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.broker.harness import Deployment, Shared

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Shared:
    return Shared(tmp_path_factory.mktemp("shared"))


@pytest.fixture
def make_deployment(shared: Shared, tmp_path: Path) -> Iterator[Callable[..., Deployment]]:
    deployments: list[Deployment] = []

    def make(**options: Any) -> Deployment:  # noqa: ANN401
        folder = tmp_path / f"world{len(deployments)}"
        folder.mkdir()
        deployments.append(Deployment(folder, shared, **options))
        return deployments[-1]

    yield make
    for deployment in deployments:
        deployment.close()


@pytest.fixture
def deployment(make_deployment: Callable[..., Deployment]) -> Deployment:
    return make_deployment()
