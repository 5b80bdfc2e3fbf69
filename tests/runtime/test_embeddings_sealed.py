"""A sealed embedding model, released by attestation, and asked by the stock client."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import openai
import pytest

from tests.engines.onnx_models import minilm_folder, minilm_onnx, tiny_onnx
from tests.runtime.live_deployment import client

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.runtime.live_deployment import LiveDeployment

    Deploy = Callable[[dict[str, bytes]], LiveDeployment]

ENGINE = '[engine]\nname = "onnxruntime"\n'

pytestmark = pytest.mark.usefixtures("engines_of_this_tree")
pytest.importorskip("onnxruntime", reason="the engine runs on it")


@pytest.mark.parametrize("memory", ["locked", "secret"])
def test_a_tiny_model_through_the_sealed_path(memory: str, deploy: Deploy) -> None:
    tiny = tiny_onnx()
    given = tiny.files()
    files = {name: bytes(given.view(name)) for name in given.paths()}
    live = deploy(files)
    running = live.start(text=f'memory = "{memory}"\n' + ENGINE)
    if memory == "secret" and running.error is not None:
        live.started.clear()
        pytest.skip(f"this machine gives no such memory: {running.error}")
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
    assert running.runtime.workload.wiped
    assert running.runtime.workload.size > tiny.embedding.nbytes


@pytest.mark.slow
def test_minilm_through_the_sealed_path(deploy: Deploy) -> None:
    import torch  # noqa: PLC0415 - takes seconds
    from transformers import AutoModel, AutoTokenizer  # noqa: PLC0415

    torch.set_num_threads(1)
    live = deploy(minilm_onnx())
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
