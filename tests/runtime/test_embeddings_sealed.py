"""A sealed embedding model, released by attestation, and asked by the stock client."""

from __future__ import annotations

import tomllib
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import openai
import pytest

from regalia.host import plugins
from tests.engines.onnx_models import minilm_folder, minilm_onnx, tiny_onnx
from tests.runtime.live_deployment import Between, LiveDeployment, SealedDeployment, client, served

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.broker.harness import Shared

ROOT = Path(__file__).parents[2]
ENGINE = '[engine]\nname = "onnxruntime"\n'

pytest.importorskip("onnxruntime", reason="the engine runs on it")


@pytest.fixture(autouse=True)
def _engines_of_this_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is installed may be older than pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    points = project["entry-points"][plugins.ENGINES]
    ours = EntryPoints(EntryPoint(name, value, plugins.ENGINES) for name, value in points.items())
    others = plugins.announced
    monkeypatch.setattr(
        plugins,
        "announced",
        lambda group: ours if group == plugins.ENGINES else others(group),
    )


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture
def deploy(shared: Shared, tmp_path: Path) -> Iterator[Any]:
    stack: list[Any] = []

    def make(model: Path) -> LiveDeployment:
        deployment = SealedDeployment(tmp_path, shared, model)
        between = Between(deployment)
        entered = served(between)
        stack.append((deployment, entered))
        live = LiveDeployment(deployment, between, entered.__enter__())
        stack.append(live)
        return live

    yield make
    live = stack.pop()
    for item in live.started:
        item.stop()
    deployment, entered = stack.pop()
    entered.__exit__(None, None, None)
    deployment.close()


def test_a_tiny_model_through_the_sealed_path(deploy: Any, tmp_path: Path) -> None:  # noqa: ANN401
    tiny = tiny_onnx()
    given = tiny.files()
    files = {name: bytes(given.view(name)) for name in given.paths()}
    live = deploy(write(tmp_path / "model", files))
    running = live.start(text=ENGINE)
    assert running.error is None
    with client(live, running.url) as api:
        found = api.embeddings.create(model="tiny", input=["w3 w1", "w5"])
        wanted = tiny.hidden((3, 1)).mean(axis=0)
        wanted = wanted / np.linalg.norm(wanted)
        np.testing.assert_allclose(found.data[0].embedding, wanted, atol=1e-6)
        assert found.usage.prompt_tokens == 3
        with pytest.raises(openai.NotFoundError) as refused:
            api.chat.completions.create(
                model="tiny", messages=[{"role": "user", "content": "hello"}]
            )
        assert refused.value.code == "ROUTE_NOT_FOR_MODEL"
    # The weights were moved to be aligned, within the memory that is wiped at the end.
    running.stop()
    live.started.clear()
    assert running.runtime.memory.wiped
    assert running.runtime.memory.size > tiny.embedding.nbytes


@pytest.mark.slow
def test_minilm_through_the_sealed_path(deploy: Any, tmp_path: Path) -> None:  # noqa: ANN401
    import torch  # noqa: PLC0415 - takes seconds
    from transformers import AutoModel, AutoTokenizer  # noqa: PLC0415

    torch.set_num_threads(1)
    live = deploy(write(tmp_path / "model", minilm_onnx()))
    running = live.start(text=ENGINE)
    assert running.error is None
    texts = ["The cat sits outside.", "A kitten.", "Tax law of 1986, amended"]
    with client(live, running.url) as api:
        found = api.embeddings.create(model="tiny", input=texts)
    folder = minilm_folder()
    library, reader = (
        AutoModel.from_pretrained(folder).eval(),
        AutoTokenizer.from_pretrained(folder),
    )
    for text, item in zip(texts, found.data, strict=True):
        with torch.inference_mode():
            hidden = library(**reader([text], return_tensors="pt")).last_hidden_state[0].mean(0)
        wanted = (hidden / hidden.norm()).numpy()
        np.testing.assert_allclose(item.embedding, wanted, atol=2e-6)
