"""What a worker of vLLM's keeps of an adapter once its model is loaded: merged weights alone."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest
import torch

from regalia_testing.adapters import tiny_adapter
from tests.engines.memory_scan import memory_blocks
from tests.engines.test_lora_memory import pieces

if TYPE_CHECKING:
    from pathlib import Path

torch.set_num_threads(1)

# A worker with a model that copies what it gets. Plaintext never passes through Python's heap.
LOAD = """
    import sys
    from pathlib import Path
    from types import SimpleNamespace
    import torch
    from regalia.engines.vllm import adapter, loader, slices

    class Files:
        bytes_read = 0
        def __init__(self, folder):
            self.folder = Path(folder)
        def sizes(self):
            return {path.name: path.stat().st_size for path in self.folder.iterdir()}
        def read(self, parts):
            for part in parts:
                with (self.folder / part.path).open("rb", buffering=0) as file:
                    file.seek(part.offset)
                    file.readinto(part.out)

    class Model:
        def load_weights(self, weights):
            self.found = {name: torch.empty(t.shape, dtype=t.dtype).copy_(t) for name, t in weights}
            return set(self.found)

    base, folder, how, sliced = sys.argv[1:]
    torch.set_num_threads(1)
    slices.SMALL = 4096
    loader._require_whole = lambda *_: None
    if how == "left":
        adapter.Merging.wipe = lambda self: setattr(Model, "kept", self)
    text = SimpleNamespace(model_type="llama", tie_word_embeddings=False)
    config = SimpleNamespace(
        hf_config=text, hf_text_config=text, quantization=None, get_vocab_size=lambda: 0
    )
    weights = SimpleNamespace(
        files=Files(base), adapter=Files(folder), loaded=lambda *_: None, failed=print
    )
    model = Model()
    loader.fill_model(model, config, weights, sliced=sliced == "sliced")
    print("loaded", flush=True)
    sys.stdin.read()
"""


@pytest.mark.slow
@pytest.mark.skipif(os.getuid() != 0, reason="needs to read another process's memory")
@pytest.mark.parametrize("how", ["wiped", "left"])
@pytest.mark.parametrize("sliced", ["sliced", "whole"])
def test_nothing_of_the_adapter_is_left(tiny: Path, tmp_path: Path, how: str, sliced: str) -> None:
    """The control leaves the adapter's memory as it is, and then all of it is found."""
    adapter = tiny_adapter(tmp_path / "adapter")
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(LOAD), str(tiny), str(adapter), how, sliced],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "loaded\n"
        _, memory = memory_blocks(process.pid, [])
    everything = b"\n".join(memory)
    every = pieces(tiny, adapter)
    assert all(piece in everything for piece in every.pop("merged")), "the control: the model's own"
    left = {name: sum(piece in everything for piece in found) for name, found in every.items()}
    if how == "wiped":
        assert not any(left.values()), left
    else:
        assert left["matrices"] == len(every["matrices"])
        assert left["products"], "the last product is still in its space"
