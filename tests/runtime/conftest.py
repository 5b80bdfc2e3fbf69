"""Makes engines that answer at once, and whole runtimes on stage."""

from __future__ import annotations

import tomllib
from contextlib import ExitStack
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from regalia.host import plugins
from regalia_testing.hosted_engine import echo_engine
from regalia_testing.models import tiny_llama
from tests.broker.harness import Shared
from tests.runtime.harness import RuntimeTestbed
from tests.runtime.hosted_runtime import start_echo
from tests.runtime.live_deployment import Between, LiveDeployment, SealedDeployment, served

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.runtime.hosted_runtime import Start


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
    return tiny_llama(tmp_path_factory.mktemp("models") / "tiny", shards=2, heads=2)


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
def start(make_live: Callable[..., LiveDeployment], monkeypatch: pytest.MonkeyPatch) -> Start:
    """Starts a runtime whose engine runs in processes of its own, and loads in a moment."""
    load = plugins.load

    def with_echo(group: str, name: str) -> object:
        return echo_engine if name == "echo" else load(group, name)

    monkeypatch.setattr(plugins, "load", with_echo)
    return lambda *arguments, **options: start_echo(make_live, *arguments, **options)


@pytest.fixture
def live(make_live: Callable[..., LiveDeployment]) -> LiveDeployment:
    return make_live()


@pytest.fixture
def engines_of_this_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    """Announce the engines of pyproject.toml, as what is installed may be older."""
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    points = tomllib.loads(text)["project"]["entry-points"][plugins.ENGINES]
    ours = EntryPoints(EntryPoint(name, value, plugins.ENGINES) for name, value in points.items())
    others = plugins.announced
    monkeypatch.setattr(
        plugins, "announced", lambda group: ours if group == plugins.ENGINES else others(group)
    )


@pytest.fixture
def deploy(
    shared: Shared, tmp_path: Path
) -> Iterator[Callable[[dict[str, bytes]], LiveDeployment]]:
    """Seal files, and put them where runtimes of any engine may load them."""
    with ExitStack() as cleanup:

        def make(files: dict[str, bytes]) -> LiveDeployment:
            for name, data in files.items():
                path = tmp_path / "model" / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
            deployment = SealedDeployment(tmp_path, shared, tmp_path / "model")
            cleanup.callback(deployment.close)
            between = Between(deployment)
            live = LiveDeployment(deployment, between, cleanup.enter_context(served(between)))
            cleanup.callback(lambda: [item.stop() for item in live.started])
            return live

        yield make
